"""A fake clock, on which no wait takes real time."""

from __future__ import annotations


class FakeClock:
    """A clock that moves only when something sleeps on it."""

    def __init__(self, start: float = 1_800_000_000) -> None:
        """Set the clock, in seconds since the epoch. The default is a full hour."""
        self.now = start
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """Return the same seconds, which never go back."""
        return self.now

    def sleep(self, seconds: float, /) -> None:
        """Move the clock forward."""
        self.sleeps.append(seconds)
        self.now += seconds
