"""A clock for tests: an hour passes in no time."""

from __future__ import annotations


class FakeClock:
    """A clock that moves only when something sleeps by it."""

    def __init__(self, start: float = 1_800_000_000) -> None:
        """Start at the beginning of an hour, in epoch seconds."""
        self.now = start
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """Return the same: this clock never goes back."""
        return self.now

    def sleep(self, seconds: float, /) -> None:
        """Move the clock forward."""
        self.sleeps.append(seconds)
        self.now += seconds
