"""A run: all customers take turns, and the run sleeps when all of them have to wait."""

from __future__ import annotations

import math
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.page import Page
from tap_mega.api.reader import Wait
from tap_mega.shared.timestamps import from_epoch
from tap_mega.shared.words import counted, format_duration
from tap_mega.state.document import MAX_CLOCK_DIFFERENCE
from tap_mega.sync.no_leads import why_no_leads
from tap_mega.sync.progress import Progress
from tap_mega.sync.scheduler import take_turns

if t.TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping, Sequence

    from tap_mega.shared.clock import Clock
    from tap_mega.sync.customer import CustomerSync
    from tap_mega.sync.scheduler import Turn

MAX_RETRY_WAIT_SECONDS = 61
"""Retries may always wait this long: a minute of backoff and its jitter."""

MIN_LOGGED_WAIT_SECONDS = 5

WAIT_LOG_INTERVAL_SECONDS = 60
"""During a long wait, a line says that the run is alive."""


class Run:
    """The syncs of all customers, in one run."""

    def __init__(
        self,
        syncs: Sequence[CustomerSync],
        config: Mapping[str, t.Any],
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        """Start with nothing read.

        Args:
            syncs: One for each customer.
            config: The settings of the tap.
            clock: What the run sleeps by.
            log: Where the lines for a person go.
        """
        self._syncs = syncs
        self._max_wait_seconds = int(config["max_wait_seconds"])
        self._max_run_seconds = config.get("max_run_seconds", math.inf)
        self._started_at = clock.monotonic()
        self._clock = clock
        self._log = log
        self._compared_clocks = False
        self._config = config
        self._progress = Progress(syncs, clock)

    def pages(self) -> Iterator[tuple[CustomerSync, Page]]:
        """Yield the pages of all customers by turns, and finish those at their end."""
        for sync, step in self._turns({sync: sync.pages() for sync in self._syncs}):
            if isinstance(step, Page):
                self._compare_clocks(step)
                yield sync, step
            else:
                sync.finish(step)
            if line := self._progress.line():
                self._log.info("%s", line)
        self._log.info("%s", self._progress.summary())
        if self._has_no_leads():
            now = from_epoch(self._clock.time())
            starts = [sync.reader.since for sync in self._syncs]
            self._log.info("%s", why_no_leads(self._config, starts, now))

    def _has_no_leads(self) -> bool:
        """Return whether all went well, and there was nothing to read."""
        return not any(
            sync.failure or sync.reader.read or not sync.is_finished
            for sync in self._syncs
        )

    def count_gone(self) -> None:
        """Find out how many leads of each customer have disappeared."""
        for sync, step in self._turns({it: it.count_gone() for it in self._syncs}):
            if isinstance(step, FatalAPIError):
                sync.finish(step)

    def _turns(
        self, pages: Mapping[CustomerSync, Iterator[Page | Wait]]
    ) -> Iterator[Turn[CustomerSync]]:
        """Yield the turns. Sleep while all customers wait, and stop at a limit."""
        for turn in take_turns(pages, self._clock.monotonic):
            if not isinstance(turn, Wait):
                yield turn
            if reason := self._stop_reason(turn):
                self._stop(reason)
                return
            if isinstance(turn, Wait):
                self._sleep(turn)

    def _stop_reason(self, turn: object) -> str:
        """Return why the run must stop before its next request; empty if not."""
        wait = turn if isinstance(turn, Wait) else Wait(0, "")
        took = self._clock.monotonic() - self._started_at
        if took + wait.seconds >= self._max_run_seconds:
            due = format_duration(took + wait.seconds)
            return (
                f"Stopped: the next request is due {due} after the start, later than "
                "the setting 'max_run_seconds' allows"
            )
        minimum = MAX_RETRY_WAIT_SECONDS if wait.is_retry else 0
        if wait.seconds <= max(self._max_wait_seconds, minimum):
            return ""
        return (
            f"Stopped: a wait of {format_duration(wait.seconds)} is needed "
            f"({wait.reason}), more than the setting 'max_wait_seconds' allows"
        )

    def _stop(self, reason: str) -> None:
        """Stop the customers that still have pages, and log how many leads are left."""
        stopped = [sync for sync in self._syncs if not sync.is_finished]
        for sync in stopped:
            sync.stop(reason)
        readers = [sync.reader for sync in stopped if sync.reader.new]
        if readers:
            count = sum(reader.left for reader in readers)
            left = f"{counted(count, 'lead')} {'is' if count == 1 else 'are'}"
            self._log.warning("%s. About %s left for the next run", reason, left)

    def _sleep(self, wait: Wait) -> None:
        """Sleep. Nothing else in a run sleeps."""
        left = wait.seconds
        while left > 0:
            is_long = left > WAIT_LOG_INTERVAL_SECONDS + MIN_LOGGED_WAIT_SECONDS
            seconds = (
                WAIT_LOG_INTERVAL_SECONDS if is_long and not wait.is_retry else left
            )
            self._log_wait(wait._replace(seconds=left))
            self._progress.add_wait(seconds)
            self._clock.sleep(seconds)
            left -= seconds

    def _log_wait(self, wait: Wait) -> None:
        """Log a wait that is long. The reader logs why it tries again."""
        if wait.seconds <= MIN_LOGGED_WAIT_SECONDS or wait.is_retry:
            return
        until = from_epoch(self._clock.time() + wait.seconds)
        self._log.info(
            "%s. Waiting %s: %s. Resuming at %s UTC%s",
            self._progress.so_far(),
            format_duration(wait.seconds),
            wait.reason,
            f"{until:%H:%M:%S}",
            self._waiting_customers(),
        )

    def _waiting_customers(self) -> str:
        if len(self._syncs) == 1:
            return ""
        left = sum(not sync.is_finished for sync in self._syncs)
        return "; one customer waits" if left == 1 else f"; {left:,} customers wait"

    def _compare_clocks(self, page: Page) -> None:
        """Warn once if the clock of the API and ours differ."""
        if page.sent_at is None or self._compared_clocks:
            return
        self._compared_clocks = True
        difference = abs(self._clock.time() - page.sent_at)
        if difference > MAX_CLOCK_DIFFERENCE.total_seconds():
            self._log.warning(
                "The clock of this machine and the clock of the API differ by %s. "
                "Turn on time synchronization (NTP) on this machine",
                format_duration(difference),
            )
