"""What SIGTERM and SIGINT do, from the first import to the exit.

A stop signal may arrive at any instant, and again a moment later: a terminal sends it
to the process group, and a supervisor to the process and to the group. Only the first
one counts. This module loads before all others, so it imports little itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler: t.TypeAlias = Callable[[int, FrameType | None], object] | signal.Handlers

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STDERR = 2

EXIT_CODE_BASE = 128
"""Shells add it to the number of the signal that ended a program."""

REPEAT_SECONDS = 1.0
"""A signal that comes so soon after the first one is a repetition of it."""

RETRY_SECONDS = 0.001
"""When to raise a `Stopped` again that Python ignored."""


class Stopped(SystemExit):
    """A signal stopped the tap."""

    def __init__(self, number: int, clean_up: Callable[[], object]) -> None:
        """Keep the signal, and what to do before the exit."""
        super().__init__(EXIT_CODE_BASE + number)
        self.name = signal.Signals(number).name
        self.clean_up = clean_up


def handle_signals(handler: Handler) -> None:
    """Let stop signals call a handler."""
    with contextlib.suppress(ValueError):  # Only the main thread may.
        for number in STOP_SIGNALS:
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore stop signals, also while Python shuts down: nothing is left to stop."""
    handle_signals(signal.SIG_IGN)


def ignore_repetitions() -> None:
    """Ignore stop signals for a second; a later one ends the process at once.

    A last write can be blocked for as long as the loader reads nothing.
    """
    end = time.monotonic() + REPEAT_SECONDS

    def handle(number: int, _frame: FrameType | None) -> None:
        if time.monotonic() >= end:
            _exit(number, "while it waited for the loader to read: a line may be cut")

    handle_signals(handle)


def call_again_if_lost(stop: Callable[[], object]) -> None:
    """Call `stop`, which raises `Stopped`, again if Python ignores that.

    Python ignores what is raised in a destructor or in the callback of a weak
    reference, and a signal may arrive there.
    """
    hook = sys.unraisablehook

    def handle(ignored: sys.UnraisableHookArgs) -> None:
        if not isinstance(ignored.exc_value, Stopped):
            hook(ignored)
            return
        signal.signal(signal.SIGALRM, lambda _number, _frame: stop())
        signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)

    sys.unraisablehook = handle


def exit_before_start(number: int, _frame: FrameType | None) -> None:
    """Exit at once: nothing has been read or written yet."""
    _exit(number, "before the sync began")


def _exit(number: int, when: str) -> t.NoReturn:
    """Exit, wherever Python is: in an import, or in a write that is blocked."""
    ignore_signals()
    line = f"Stopped by {signal.Signals(number).name} {when}\n"
    with contextlib.suppress(OSError):  # stderr may be closed
        if select.select([], [STDERR], [], 0)[1]:  # and must not block the exit
            os.write(STDERR, line.encode())
    os._exit(EXIT_CODE_BASE + number)
