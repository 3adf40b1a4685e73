"""Processes that end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STOP_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def environment_without(prefixes: tuple[str, ...]) -> dict[str, str]:
    """Return the environment without the variables that start with a prefix.

    Args:
        prefixes: The prefixes in upper case. A variable's own case does not count.
    """
    names = [name for name in os.environ if not name.upper().startswith(prefixes)]
    return {name: os.environ[name] for name in names}


def exit_on_signals(numbers: Iterable[int] = STOP_SIGNALS) -> None:
    """Exit on these signals through every `with`, so that no process keeps running."""
    for number in numbers:
        signal.signal(number, _exit)


def _exit(number: int, _frame: object) -> t.NoReturn:
    sys.exit(128 + number)


def run_in_session(
    command: Sequence[str], **options: t.Any
) -> subprocess.CompletedProcess[str]:
    """Run a command, and kill it with its children if this process is interrupted.

    Args:
        command: The command.
        **options: Arguments for `subprocess.Popen`.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    with process:
        try:
            stdout, stderr = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
