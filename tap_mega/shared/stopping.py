"""What SIGTERM and SIGINT do, from the first import to the exit.

A stop signal may arrive at any instant, and again a moment later: a terminal sends it
to the process group, and a supervisor to the process and to the group. A handler only
notes the first one and wakes the run, which then stops by itself. This module loads
before all others, so it imports little itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
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
"""A signal within this time after the first one is a repetition of it."""


class Stopped(SystemExit):
    """A signal stopped the tap. A run raises it, and never a signal handler."""

    def __init__(self, number: int) -> None:
        """Keep the signal."""
        super().__init__(EXIT_CODE_BASE + number)
        self.name = signal.Signals(number).name


class StopFlag:
    """Whether a stop signal has arrived."""

    def __init__(self) -> None:
        """Start without one."""
        self._number = 0
        self._noted_at = 0.0
        self.wake: Callable[[], object] = lambda: None
        """Called by the signal handler, so it must be safe there."""

    def note(self, number: int) -> None:
        """Note a signal. A second one ends the process, unless it is a repetition.

        A last write can be blocked for as long as the loader reads nothing.
        """
        now = time.monotonic()
        if not self._number:
            self._number, self._noted_at = number, now
            self.wake()
        elif now >= self._noted_at + REPEAT_SECONDS:
            _exit(number, "while it waited for the loader to read: a line may be cut")

    def __bool__(self) -> bool:
        """Return whether a signal was noted."""
        return bool(self._number)

    def raise_if_set(self) -> None:
        """Raise what ends the run, if a signal was noted.

        Raises:
            Stopped: If one was.
        """
        if self._number:
            raise Stopped(self._number)


def handle_signals(handler: Handler) -> None:
    """Let stop signals call a handler."""
    with contextlib.suppress(ValueError):  # Only the main thread may.
        for number in STOP_SIGNALS:
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore stop signals while Python shuts down: nothing is left to stop."""
    handle_signals(signal.SIG_IGN)


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
