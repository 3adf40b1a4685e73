"""How far a sync has come and how long it will take, for a person."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tap_mega.sync import CustomerSync

LINE_EVERY_SECONDS = 10
SECONDS_PER_MINUTE = 60
MINUTES_PER_HOUR = 60


class Progress:
    """Writes the lines that say how far the customers of a run have come."""

    def __init__(self, syncs: Sequence[CustomerSync], now: Callable[[], float]) -> None:
        """Start at the time of `now`, which returns monotonic seconds."""
        self._syncs = syncs
        self._readers = [sync.reader for sync in syncs]
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
        seconds = self._now() - self._started_at
        read = sum(reader.read for reader in self._readers)
        total = read + sum(reader.left for reader in self._readers)
        share = read / total if total else 1
        known = any(reader.total is not None for reader in self._readers)
        rate = read / seconds if seconds else 0
        leads = f"Read {read:,} of {total:,} leads ({share:.0%})"
        return (
            f"{leads if known else f'Read {read:,} leads'} in "
            f"{format_duration(seconds)} with {self._pages_read:,} pages, "
            f"{rate:,.0f} leads per second{self._customers()}"
        )

    def _customers(self) -> str:
        if len(self._syncs) == 1:
            return ""
        finished = [sync for sync in self._syncs if sync.is_finished]
        failed = sum(sync.failure is not None for sync in finished)
        done = f"{len(finished) - failed:,} of {len(self._syncs):,} customers are done"
        return f"; {done}, {failed:,} failed" if failed else f"; {done}"

    @property
    def _pages_read(self) -> int:
        return sum(reader.pages_read for reader in self._readers)

    def _seconds_left(self) -> float:
        """Return the time that the quota takes, or the API if it is slower.

        Each key has a quota of its own, so the slowest customer counts.
        """
        now = self._now()
        pages_left = [-(-reader.left // reader.page_size) for reader in self._readers]
        busy = now - self._started_at - self._waited
        at_this_speed = sum(pages_left) * busy / max(1, self._pages_read)
        by_quota = [
            reader.rate_limiter.seconds_for(pages, now)
            for reader, pages in zip(self._readers, pages_left, strict=True)
        ]
        return max([at_this_speed, *by_quota])


def format_duration(seconds: float) -> str:
    """Return a duration for a person, such as `1 h 5 min`, `3 min` or `42 s`."""
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / SECONDS_PER_MINUTE)
    if minutes < MINUTES_PER_HOUR:
        return f"{minutes} min"
    return f"{minutes // MINUTES_PER_HOUR:,} h {minutes % MINUTES_PER_HOUR} min"
