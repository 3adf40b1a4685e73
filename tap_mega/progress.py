"""How far a sync has come and how long it will take, for a person."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mega.rate_limit import RateLimiter
    from tap_mega.reader import Reader

LINE_EVERY_SECONDS = 10
SECONDS_PER_MINUTE = 60
MINUTES_PER_HOUR = 60


class Progress:
    """Writes the lines that say how far a reader has come."""

    def __init__(
        self,
        reader: Reader,
        rate_limiter: RateLimiter,
        page_size: int,
        now: Callable[[], float],
    ) -> None:
        """Start at the time of `now`, which returns monotonic seconds."""
        self._reader = reader
        self._rate_limiter = rate_limiter
        self._page_size = page_size
        self._now = now
        self._started_at = self._last_line_at = now()
        self._waited = 0.0

    def add_wait(self, seconds: float) -> None:
        """Count a wait: it says nothing about how fast the API and the loader are."""
        self._waited += seconds

    def line(self) -> str | None:
        """Return a line for the log, about every ten seconds."""
        now = self._now()
        if now - self._last_line_at < LINE_EVERY_SECONDS:
            return None
        self._last_line_at = now
        return f"{self.summary()}, about {format_duration(self._seconds_left())} left"

    def summary(self) -> str:
        """Return how much was read so far, and how fast."""
        seconds, reader = self._now() - self._started_at, self._reader
        total = reader.read + reader.left
        share = reader.read / total if total else 1
        rate = reader.read / seconds if seconds else 0
        return (
            f"Read {reader.read:,} of {total:,} leads ({share:.0%}) in "
            f"{format_duration(seconds)} with {reader.pages_read:,} pages, "
            f"{rate:,.0f} leads per second"
        )

    def _seconds_left(self) -> float:
        """Return the time that the quota takes, or the API if it is slower."""
        now, pages_left = self._now(), -(-self._reader.left // self._page_size)
        busy = now - self._started_at - self._waited
        at_this_speed = pages_left * busy / max(1, self._reader.pages_read)
        return max(self._rate_limiter.seconds_for(pages_left, now), at_this_speed)


def format_duration(seconds: float) -> str:
    """Return a duration for a person, such as `1 h 5 min`, `3 min` or `42 s`."""
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / SECONDS_PER_MINUTE)
    if minutes < MINUTES_PER_HOUR:
        return f"{minutes} min"
    return f"{minutes // MINUTES_PER_HOUR:,} h {minutes % MINUTES_PER_HOUR} min"
