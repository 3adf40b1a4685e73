"""How far a sync has come and how long it will take, for a person."""

from __future__ import annotations

import typing as t

from tap_mega.shared.timestamps import format_timestamp
from tap_mega.shared.words import SECONDS_PER_MINUTE, counted, format_duration

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_mega.shared.clock import Clock
    from tap_mega.sync.customer import CustomerSync

PROGRESS_INTERVAL_SECONDS = 10


class Progress:
    """Writes the lines that say how far the customers of a run have come."""

    def __init__(self, syncs: Sequence[CustomerSync], clock: Clock) -> None:
        """Start at the time of the clock."""
        self._syncs = syncs
        self._readers = [sync.reader for sync in syncs]
        self._clock = clock
        self._started_at = self._last_line_at = clock.monotonic()
        self._waited = 0.0

    def add_wait(self, seconds: float) -> None:
        """Count a wait: it says nothing about how fast the API and the loader are."""
        self._waited += seconds
        self._last_line_at += seconds

    def line(self) -> str | None:
        """Return a line for the log, about every ten seconds without the waits."""
        now = self._clock.monotonic()
        if now - self._last_line_at < PROGRESS_INTERVAL_SECONDS:
            return None
        self._last_line_at = now
        return f"{self._speed()}{self._customers()}{self._time_left()}"

    def so_far(self) -> str:
        """Return how much was read so far, and how long the rest takes."""
        return f"{self._leads()}{self._time_left()}"

    def summary(self) -> str:
        """Return what the run did, at its end."""
        refusals = sum(reader.refusals for reader in self._readers)
        return (
            f"{self._speed()}; {counted(refusals, 'refusal')} (429), waited "
            f"{format_duration(self._waited)}{self._bookmarks()}{self._customers()}"
        )

    def _leads(self) -> str:
        read = sum(reader.read for reader in self._readers)
        if all(reader.total is None for reader in self._readers):
            return f"Read {counted(read, 'lead')}"
        total = read + sum(reader.left for reader in self._readers)
        percent = 100 * read // total if total else 100
        return f"Read {read:,} of {counted(total, 'lead')} ({percent} %)"

    def _speed(self) -> str:
        seconds = self._clock.monotonic() - self._started_at
        requests = sum(reader.requests for reader in self._readers)
        line = f"{self._leads()} in {format_duration(seconds)} with "
        line += counted(requests, "request")
        rate = sum(reader.read for reader in self._readers) / seconds if seconds else 0
        if rate >= 1:
            return f"{line}, {counted(round(rate), 'lead')} per second"
        per_minute = round(rate * SECONDS_PER_MINUTE)
        return f"{line}, {counted(per_minute, 'lead')} per minute" if rate else line

    def _bookmarks(self) -> str:
        values = [sync.bookmark.value for sync in self._syncs]
        oldest = min((it for it in values if it), default=None)
        if oldest is None:
            return ""
        age = format_duration(self._clock.time() - oldest.timestamp())
        name = "the bookmark" if len(self._syncs) == 1 else "the oldest bookmark"
        return f"; {name} is {format_timestamp(oldest)}, {age} ago"

    def _customers(self) -> str:
        if len(self._syncs) == 1:
            return ""
        finished = [sync for sync in self._syncs if sync.is_finished]
        failed = sum(sync.failure is not None for sync in finished)
        done = f"{len(finished) - failed:,} of {len(self._syncs):,} customers are done"
        return f"; {done}, {failed:,} failed" if failed else f"; {done}"

    def _time_left(self) -> str:
        """Return the time that the quota takes, or the API if it is slower.

        Each key has a quota of its own, so the slowest customer counts.
        """
        if all(reader.total is None for reader in self._readers):
            return ""
        busy = self._clock.monotonic() - self._started_at - self._waited
        read = sum(reader.read for reader in self._readers)
        left = sum(reader.left for reader in self._readers)
        at_this_speed = left * busy / read if read else 0
        by_quota = [reader.seconds_left() for reader in self._readers]
        return f", about {format_duration(max([at_this_speed, *by_quota]))} left"
