"""The progress, the time left and the summary of a run, in words and as metrics."""

from __future__ import annotations

import enum
import typing as t

from singer_sdk import metrics

from tap_mega.shared.timestamps import format_timestamp, from_epoch
from tap_mega.shared.words import SECONDS_PER_MINUTE, counted, format_duration

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from tap_mega.config.settings import Settings
    from tap_mega.shared.clock import Clock
    from tap_mega.sync.customer import CustomerSync

PROGRESS_INTERVAL_SECONDS = 10


class RunMetric(enum.StrEnum):
    """The metrics of a run, in addition to the SDK's own."""

    LEADS_READ = "leads_read"
    LEADS_NEW = "leads_new"
    LEADS_LEFT_OUT = "leads_left_out"
    LEADS_RESCUED = "leads_rescued"
    LEADS_TO_READ = "leads_to_read"
    SECONDS_WAITED = "seconds_waited"
    SECONDS_BEHIND = "seconds_behind"
    REFRESH_LEADS_READ = "refresh_leads_read"


class Progress:
    """Counts what the customers of a run have read, and puts it into words."""

    def __init__(self, syncs: Sequence[CustomerSync], clock: Clock) -> None:
        """Start at the time of the clock."""
        self._syncs = syncs
        self._clock = clock
        self._started_at = self._last_line_at = clock.monotonic()
        self.waited = 0.0
        """Seconds in which all customers waited."""

    @property
    def read(self) -> int:
        """How many leads were read."""
        return sum(it.read for sync in self._syncs for it in sync.readers)

    @property
    def left(self) -> int:
        """How many leads are not read yet, according to the API."""
        return sum(it.left for sync in self._syncs for it in sync.readers)

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(sync.retrier.requests for sync in self._syncs)

    @property
    def repaired(self) -> int:
        """How many texts and numbers of leads were changed."""
        return sum(sync.repaired for sync in self._syncs)

    @property
    def refusals(self) -> int:
        """How many of them the API answered with 429."""
        return sum(sync.retrier.refusals for sync in self._syncs)

    @property
    def oldest_bookmark(self) -> dt.datetime | None:
        """The oldest bookmark of all customers."""
        values = [sync.part.bookmark for sync in self._syncs]
        return min((it for it in values if it), default=None)

    @property
    def changed(self) -> int:
        """How many leads were read that are new, or changed after the bookmark."""
        return sum(sync.changed for sync in self._syncs)

    def log_metrics(self, stream: str, endpoint: str, rescued: int) -> None:
        """Log the metrics of the run in the SDK's format.

        Args:
            stream: The name of the stream.
            endpoint: The path of its requests.
            rescued: How many leads have `rescued_data`.
        """
        tags = {metrics.Tag.STREAM.value: stream}
        answers = {None: self.requests - self.refusals, 429: self.refusals}
        for status, count in answers.items():
            more = {metrics.Tag.HTTP_STATUS_CODE: status} if status else {}
            if count or not status:
                with metrics.http_request_counter(stream, endpoint, **more) as it:
                    it.increment(count)
        values: dict[RunMetric, float] = {
            RunMetric.LEADS_READ: self.read,
            RunMetric.LEADS_NEW: self.changed,
            RunMetric.LEADS_LEFT_OUT: sum(it.left_out for it in self._syncs),
            RunMetric.LEADS_RESCUED: rescued,
            RunMetric.LEADS_TO_READ: self.left,
            RunMetric.SECONDS_WAITED: round(self.waited, 3),
            RunMetric.SECONDS_BEHIND: round(self._seconds_behind(), 3),
            RunMetric.REFRESH_LEADS_READ: sum(it.refreshed for it in self._syncs),
        }
        for metric, value in values.items():
            point = metrics.Point(
                "gauge", t.cast("metrics.Metric", metric), value, tags
            )
            metrics.log(metrics.get_metrics_logger(), point)

    def _seconds_behind(self) -> float:
        """Return how old the oldest change is that may not have been read."""
        now = self._clock.time()
        behind = [
            now - sync.part.bookmark.timestamp() if sync.part.bookmark else 0
            for sync in self._syncs
            if not sync.has_read_changes
        ]
        return max(behind, default=0)

    def add_wait(self, seconds: float) -> None:
        """Count a wait, which delays the next progress line by as much."""
        self.waited += seconds
        self._last_line_at += seconds

    def line(self) -> str | None:
        """Return a line for the log about every ten seconds, apart from waits."""
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
        return (
            f"{self._speed()}; {counted(self.refusals, 'refusal')} (429), waited "
            f"{format_duration(self.waited)}{self._bookmarks()}{self._customers()}"
        )

    def waiting_customers(self) -> str:
        """Return how many customers wait, if there are several."""
        if len(self._syncs) == 1:
            return ""
        left = sum(not sync.is_finished for sync in self._syncs)
        return "; one customer waits" if left == 1 else f"; {left:,} customers wait"

    def why_no_leads(self, settings: Settings) -> str:
        """Return why a run without a failure has read no lead; empty if it has."""
        if self.read or any(it.failure or not it.is_finished for it in self._syncs):
            return ""
        starts = [it.changes.since for it in self._syncs]
        return why_no_leads(settings, starts, from_epoch(self._clock.time()))

    def _leads(self) -> str:
        if self.read and not self.changed and not self.left:
            return f"Nothing new: read {counted(self.read, 'lead')} again"
        if not self._has_totals:
            return f"Read {counted(self.read, 'lead')}"
        total = self.read + self.left
        percent = 100 * self.read // total if total else 100
        return f"Read {self.read:,} of {counted(total, 'lead')} ({percent} %)"

    @property
    def _has_totals(self) -> bool:
        readers = [it for sync in self._syncs for it in sync.readers]
        return any(it.total is not None for it in readers)

    def _speed(self) -> str:
        seconds = self._clock.monotonic() - self._started_at
        line = f"{self._leads()} in {format_duration(seconds)} with "
        line += counted(self.requests, "request")
        rate = self.read / seconds if seconds else 0
        if rate >= 1:
            return f"{line}, {counted(round(rate), 'lead')} per second"
        per_minute = round(rate * SECONDS_PER_MINUTE)
        return f"{line}, {counted(per_minute, 'lead')} per minute" if rate else line

    def _bookmarks(self) -> str:
        oldest = self.oldest_bookmark
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
        """Return the time left: by the quota, or by the speed so far if that is longer.

        Each token has its own quota, so the slowest customer counts.
        """
        if not self._has_totals:
            return ""
        busy = self._clock.monotonic() - self._started_at - self.waited
        at_this_speed = self.left * busy / self.read if self.read else 0
        by_quota = [sync.seconds_left() for sync in self._syncs]
        return f", about {format_duration(max([at_this_speed, *by_quota]))} left"


def why_no_leads(
    settings: Settings, starts: Sequence[dt.datetime | None], now: dt.datetime
) -> str:
    """Return why no lead was read, by the settings and by where the syncs started.

    Args:
        settings: The settings of the tap.
        starts: The `updated_at` from which each customer was read; None for all leads.
        now: The time.
    """
    earliest, end_date = settings.start_date, settings.end_date
    if end_date and all(it and it >= end_date for it in starts):
        return (
            "Nothing to read: the setting 'end_date' is not after the bookmark, so an "
            "earlier sync has read the leads before it"
        )
    names = [it for it in settings.partial if it.startswith("filters.")]
    since_bookmark = any(it != earliest for it in starts)
    if earliest and not since_bookmark:
        names.append("start_date")
    if end_date:
        names.append("end_date")
    matching = f" that matches {_listed(names)}" if names else ""
    what = f"There is no lead{matching}"
    if since_bookmark:
        what = f"No lead has changed since the bookmark{matching}"
    future = ". The setting 'start_date' lies in the future"
    return f"{what}{future if earliest and earliest > now else ''}"


def _listed(names: Sequence[str]) -> str:
    """Return the names of settings in words."""
    quoted = [f"'{name}'" for name in names]
    noun = "the settings" if len(quoted) > 1 else "the setting"
    return f"{noun} {' and '.join(quoted)}"
