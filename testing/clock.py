"""A fake clock, on which no wait takes real time."""

from __future__ import annotations

import queue
import typing as t

from typing_extensions import override

from tap_mega.shared.clock import Clock

T = t.TypeVar("T")


class FakeClock(Clock):
    """A clock that moves only when nothing else can happen."""

    def __init__(self, start: float = 1_800_000_000) -> None:
        """Set the clock, in seconds since the epoch. The default is a full hour."""
        self.now = start
        self.sleeps: list[float] = []

    @override
    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self.now

    @override
    def monotonic(self) -> float:
        """Return the same seconds, which never go back."""
        return self.now

    @override
    def wait(
        self, inbox: queue.SimpleQueue[T], seconds: float, deadline: float | None
    ) -> T | None:
        """Wait for a request in flight. Without one, move the clock."""
        if deadline is None or seconds <= 0:
            if not inbox.empty():
                return inbox.get()
            self.sleep(seconds)
            return None
        try:
            return inbox.get(timeout=max(0.0, deadline))
        except queue.Empty:
            return None

    def sleep(self, seconds: float, /) -> None:
        """Move the clock forward."""
        if seconds > 0:
            self.sleeps.append(seconds)
            self.now += seconds
