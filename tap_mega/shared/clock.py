"""The clock that the tap goes by."""

from __future__ import annotations

import typing as t


class Clock(t.Protocol):
    """A source of time. The module `time` is one; tests pass another."""

    def time(self) -> float:
        """Return the seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def sleep(self, seconds: float, /) -> None:
        """Return after so many seconds."""
