"""The clock of a run, and its wait for answers and signals."""

from __future__ import annotations

import queue
import time
import typing as t

T = t.TypeVar("T")


class Clock:
    """The clock of this machine. Tests pass another one."""

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def wait(
        self, inbox: queue.SimpleQueue[T], seconds: float, deadline: float | None
    ) -> T | None:
        """Return the next item of the inbox, or None after some time.

        Args:
            inbox: The queue of answers of the API, and of stop signals.
            seconds: The longest time to wait, by this clock.
            deadline: The longest time to wait in real seconds while a request is in
                flight; None if none is.
        """
        timeout = seconds if deadline is None else min(seconds, deadline)
        try:
            return inbox.get(timeout=min(max(0.0, timeout), MAX_TIMEOUT_SECONDS))
        except queue.Empty:
            return None


MAX_TIMEOUT_SECONDS = 3600.0
"""Python rejects time-outs of centuries. The scheduler waits again."""
