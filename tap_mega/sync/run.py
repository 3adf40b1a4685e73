"""A run: a sequence of events, for all customers at once."""

from __future__ import annotations

import typing as t

from tap_mega.shared.timestamps import from_epoch
from tap_mega.shared.words import counted, format_duration
from tap_mega.state.document import MAX_CLOCK_DIFFERENCE
from tap_mega.sync import full_refresh
from tap_mega.sync.customer import NOTHING_REMOVED, Batch, CustomerSync
from tap_mega.sync.progress import Progress
from tap_mega.sync.scheduler import LimitReachedError, Scheduler

if t.TYPE_CHECKING:
    import datetime as dt
    import logging
    from collections.abc import Callable, Generator, Iterator, Sequence

    from tap_mega.api.client import Request
    from tap_mega.api.page import Lead, Page
    from tap_mega.api.retry import Answer, Wait
    from tap_mega.api.transport import Exchange
    from tap_mega.config.settings import Settings
    from tap_mega.shared.clock import Clock
    from tap_mega.shared.stopping import StopFlag
    from tap_mega.state.document import Document
    from tap_mega.state.values import Part
    from tap_mega.sync.customer import Job
    from tap_mega.sync.scheduler import Put

MAX_RETRY_WAIT_SECONDS = 61
"""A retry may wait this long whatever the settings: a minute of backoff, and jitter."""

MIN_LOGGED_WAIT_SECONDS = 5

WAIT_LOG_INTERVAL_SECONDS = 60
"""The time between the log lines of a long wait."""


REPAIRED = (
    "%s texts and numbers of leads were changed, because no database stores them: "
    "halves of a character became U+FFFD, NUL was dropped, and numbers beyond a double "
    "became 0 or null"
)


class Leads(t.NamedTuple):
    """Leads to write."""

    leads: list[Lead]
    customer_id: str
    version: int | None
    """The version of their records; None if records have none."""


class Checkpoint(t.NamedTuple):
    """The state has changed: write it."""


class Complete(t.NamedTuple):
    """All leads were read: rows with this version or an older one may be removed."""

    version: int
    leads: int
    customers: int


Send: t.TypeAlias = "Callable[[CustomerSync, Request, Put], Exchange]"

Event: t.TypeAlias = Leads | Checkpoint | Complete


class RunLimits:
    """How long a run may wait and last, and what it logs while it waits."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        progress: Progress,
        log: logging.Logger,
    ) -> None:
        """Start the time of the run."""
        self._settings, self._clock = settings, clock
        self._progress, self._log = progress, log
        self._started_at = clock.monotonic()

    def check(self, wait: Wait | None) -> None:
        """Check whether the next request, after a wait, is still allowed.

        Raises:
            LimitReachedError: If it is not, with the reason.
        """
        seconds = wait.seconds if wait else 0
        due = self._clock.monotonic() - self._started_at + seconds
        if due >= self._settings.max_run_seconds:
            msg = (
                f"Stopped: the next request is due {format_duration(due)} after the "
                "start, later than the setting 'max_run_seconds' allows"
            )
            raise LimitReachedError(msg)
        minimum = MAX_RETRY_WAIT_SECONDS if wait and wait.is_retry else 0
        if wait and seconds > max(self._settings.max_wait_seconds, minimum):
            msg = (
                f"Stopped: a wait of {format_duration(seconds)} is needed "
                f"({wait.reason}), more than the setting 'max_wait_seconds' allows"
            )
            raise LimitReachedError(msg)

    def announce(self, wait: Wait) -> float:
        """Log a wait that is long, and return the seconds until the next line.

        A retry was logged when it failed.
        """
        seconds = wait.seconds
        if wait.is_retry:
            self._progress.add_wait(seconds)
            return seconds
        if seconds > WAIT_LOG_INTERVAL_SECONDS + MIN_LOGGED_WAIT_SECONDS:
            seconds = WAIT_LOG_INTERVAL_SECONDS
        if wait.seconds > MIN_LOGGED_WAIT_SECONDS:
            until = from_epoch(self._clock.time() + wait.seconds)
            self._log.info(
                "%s. Waiting %s: %s. Resuming at %s UTC%s",
                self._progress.so_far(),
                format_duration(wait.seconds),
                wait.reason,
                f"{until:%H:%M:%S}",
                self._progress.waiting_customers(),
            )
        self._progress.add_wait(seconds)
        return seconds


class Run:
    """The syncs of all customers, in one run."""

    def __init__(
        self,
        send: Send,
        syncs: Sequence[CustomerSync],
        document: Document,
        settings: Settings,
        job: Job,
    ) -> None:
        """Start with nothing read.

        Args:
            send: Starts a request of a customer, and puts its answer.
            syncs: One for each customer.
            document: The state.
            settings: The settings.
            job: What the run does.
        """
        self._send, self._syncs, self._document = send, syncs, document
        self._settings, self._job = settings, job
        self._now: dt.datetime | None = None
        """The time of the API at its last answer; None before the first."""
        self._is_stopped = False

    def events(
        self, clock: Clock, stop: StopFlag, log: logging.Logger
    ) -> Iterator[Event]:
        """Yield what happens: first what has changed, then a full refresh if needed.

        Args:
            clock: The clock of the run.
            stop: Whether a stop signal has arrived.
            log: The log for a person.

        Raises:
            Stopped: After a stop signal.
        """
        self._clock, self._stop, self._log = clock, stop, log
        self.progress = Progress(self._syncs, clock)
        self._limits = RunLimits(self._settings, clock, self.progress, log)
        if self._job.finds_deleted and self._document.others:
            who = counted(self._document.others, "customer")
            reason = f"the settings leave out {who} of the state"
            self._log.warning(NOTHING_REMOVED, reason)
        yield from self._phase(CustomerSync.read)
        if self._may_begin():
            self._begin()
            yield Checkpoint()
            yield from self._phase(CustomerSync.read_all)
        if self._may_prove():
            yield from self._phase(CustomerSync.prove)
            yield from self._complete()
        self._stop.raise_if_set()
        self._log_end()

    def _phase(
        self,
        steps: Callable[
            [CustomerSync], Generator[Request | Wait | Batch, Answer, None]
        ],
    ) -> Iterator[Event]:
        """Yield the events of all customers by turns."""
        scheduler: Scheduler[CustomerSync] = Scheduler(
            self._send,
            self._settings.request_timeout,
            limits=self._limits,
            clock=self._clock,
            stop=self._stop,
        )
        try:
            for sync, step in scheduler.turns(
                {it: steps(it) for it in self._ordered()}
            ):
                if isinstance(step, Batch):
                    self._note_answer(step.page)
                    version = self._document.table.version
                    versioned = self._settings.finds_deleted
                    yield Leads(
                        step.page.leads,
                        sync.customer_id,
                        version if versioned else None,
                    )
                    sync.repaired += step.page.repaired
                    self._keep(sync, step.part)
                    yield Checkpoint()
                else:
                    sync.finish(step)
                if line := self.progress.line():
                    self._log.info("%s", line)
        except LimitReachedError as error:
            self._is_stopped = True
            self._stop_all(str(error))

    def _ordered(self) -> list[CustomerSync]:
        """Return the customers, none of which has finished the phase that begins.

        Each run begins with another one: a limit may be near.
        """
        for sync in self._syncs:
            sync.is_finished = False
        start = int(self._clock.time()) % len(self._syncs)
        return [*self._syncs[start:], *self._syncs[:start]]

    def _note_answer(self, page: Page) -> None:
        """Note the API's time. The first one also raises the version of records."""
        if self._now is None:
            seen_at = page.requested_at if page.sent_at is None else page.sent_at
            if self._settings.finds_deleted:
                self._document.table = self._document.table.seen(int(seen_at))
            self._compare_clocks(page)
        self._now = page.started_at

    def _keep(self, sync: CustomerSync, part: Part) -> None:
        """Keep the part of the state that a page has changed."""
        sync.part = part
        table = self._document.table
        if part.refresh and table.began is None:
            self._document.table = table.began_at(part.refresh.started_at)

    # Full refreshes

    @property
    def _is_open(self) -> bool:
        """Whether all customers were read without a failure, and none is left out."""
        return (
            self._job.finds_deleted
            and not self._is_stopped
            and not self._document.others
            and all(it.is_finished and not it.failure for it in self._syncs)
        )

    def _may_begin(self) -> bool:
        """Return whether a full refresh begins now."""
        table, parts = self._document.table, [it.part for it in self._syncs]
        if not self._is_open or not table.is_closed:
            return False
        if any(it.is_loading for it in parts):
            return False
        now = self._now or from_epoch(self._clock.time())
        return self._job.reads_all or full_refresh.is_needed(
            parts, table, self._settings, now
        )

    def _begin(self) -> None:
        now = self._now or from_epoch(self._clock.time())
        self._document.table = self._document.table.opened(now)
        for sync in self._syncs:
            sync.begin_refresh(now)

    def _may_prove(self) -> bool:
        """Return whether all leads of all customers seem to be read."""
        return (
            self._is_open
            and not self._document.table.is_closed
            and all(full_refresh.is_confirmed(it.part) for it in self._syncs)
        )

    def _complete(self) -> Iterator[Event]:
        """Complete the full refresh, or give it up if a customer is in doubt.

        If too many rows would go, the refresh stays open for a run that allows it.
        """
        if any(it.doubt for it in self._syncs):
            for sync in self._syncs:
                sync.give_up_refresh()
        elif self._is_open and not sum(it.refuses_removals() for it in self._syncs):
            yield self._completion()
            for sync in self._syncs:
                sync.complete_refresh()
        else:
            return
        self._document.table = self._document.table.closed()
        yield Checkpoint()

    def _completion(self) -> Complete:
        refreshes = [it.part.refresh for it in self._syncs if it.part.refresh]
        read = sum(it.read for it in refreshes)
        version = self._document.table.refresh_version - 1
        return Complete(version, read, len(refreshes))

    # Limits and lines

    def _log_end(self) -> None:
        """Log what the run did, and fail the customers with unreadable leads."""
        for sync in self._syncs:
            sync.fail_if_rejected()
        if repaired := self.progress.repaired:
            self._log.warning(REPAIRED, f"{repaired:,}")
        self._log.info("%s", self.progress.summary())
        if line := self.progress.why_no_leads(self._settings):
            self._log.info("%s", line)

    def _stop_all(self, reason: str) -> None:
        """Stop the customers that are not finished, and log how many leads are left."""
        stopped = [it for it in self._syncs if not it.is_finished]
        for sync in stopped:
            sync.stop(reason)
        moved = [sync for sync in stopped if not sync.failure]
        if moved:
            count = sum(reader.left for sync in moved for reader in sync.readers)
            left = f"{counted(count, 'lead')} {'is' if count == 1 else 'are'}"
            self._log.warning("%s. About %s left for the next run", reason, left)

    def _compare_clocks(self, page: Page) -> None:
        """Warn if the clock of the API and ours differ."""
        if page.sent_at is None:
            return
        difference = abs(self._clock.time() - page.sent_at)
        if difference > MAX_CLOCK_DIFFERENCE.total_seconds():
            self._log.warning(
                "The clock of this machine and the clock of the API differ by %s. "
                "Turn on time synchronization (NTP) on this machine",
                format_duration(difference),
            )
