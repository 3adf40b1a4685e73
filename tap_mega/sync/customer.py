"""One customer in one run: its requests and waits, and the changes of its state."""

from __future__ import annotations

import functools
import logging
import typing as t

import msgspec
from singer_sdk.exceptions import FatalAPIError
from typing_extensions import override

from tap_mega.api.client import Request
from tap_mega.api.position import CREATED_AT
from tap_mega.api.rate_limit import RateLimiter
from tap_mega.api.reader import Reader
from tap_mega.api.retry import Retrier, Wait
from tap_mega.shared.words import counted, listed
from tap_mega.state.values import Pass, Refresh, earlier
from tap_mega.sync import full_refresh

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, MutableMapping, Sequence

    from tap_mega.api.page import CursorPaginator, Page
    from tap_mega.api.retry import Answer, Backoff, Steps
    from tap_mega.config.settings import Customer, Settings
    from tap_mega.shared.clock import Clock
    from tap_mega.state.document import Document
    from tap_mega.state.values import Part

    T = t.TypeVar("T")

MAX_LISTED_LEADS = 10

NOTHING_REMOVED = "No rows of deleted leads are removed: %s. See docs/deleted-leads.md"

CHANGES_PER_REFRESH_PAGE = 3
"""An open refresh reads one page after so many pages of changes, to progress."""


class Batch(t.NamedTuple):
    """A page whose leads are to be written."""

    page: Page
    part: Part
    """The customer's part of the state after the page is written."""


Batches: t.TypeAlias = "Generator[Request | Wait | Batch, Answer, None]"


class CustomerLogger(logging.LoggerAdapter[t.Any]):
    """Names the customer in each line, if there are several."""

    def __init__(self, logger: t.Any, customer_id: str | None) -> None:
        """Keep the customer to name; None if it is the only one."""
        super().__init__(logger)
        self._prefix = f"Customer {customer_id}: " if customer_id else ""

    @override
    def process(
        self, msg: t.Any, kwargs: MutableMapping[str, t.Any]
    ) -> tuple[t.Any, MutableMapping[str, t.Any]]:
        return f"{self._prefix}{msg}", kwargs


class Tools(t.NamedTuple):
    """What all customers of a run share."""

    backoff: Backoff
    """Returns the seconds to wait after each failure of a request."""
    new_paginator: Callable[[], CursorPaginator]
    """Makes a paginator, which follows cursors."""
    clock: Clock
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]


class Job(t.NamedTuple):
    """The kind of a run: the same for each customer."""

    finds_deleted: bool = False
    """Whether it finds deleted leads, so that their rows can be removed."""
    reads_all: bool = False
    """Whether the replication method is FULL_TABLE."""


class CustomerSync:
    """What one run does with one customer."""

    def __init__(
        self,
        customer: Customer,
        document: Document,
        settings: Settings,
        job: Job,
        tools: Tools,
    ) -> None:
        """Start with nothing read.

        Args:
            customer: Whose leads these are.
            document: The state, which has the customer's part.
            settings: The settings.
            job: What the run does.
            tools: What all customers share.
        """
        self.customer_id = customer.customer_id
        self.retrier = Retrier(
            RateLimiter(settings.requests_per_minute, settings.requests_per_hour),
            backoff=tools.backoff,
            max_tries=settings.backoff_max_tries,
            now=tools.clock.monotonic,
            log=CustomerLogger(
                tools.log, self.customer_id if settings.has_many else None
            ),
        )
        self._new_reader = functools.partial(
            Reader, self.retrier, tools.new_paginator, page_size=settings.page_size
        )
        self.failure: FatalAPIError | None = None
        self.is_finished = False
        self.repaired = 0
        """How many texts and numbers of leads were changed."""
        self.changed = 0
        """How many leads were read that are new, or changed after the bookmark."""
        self.doubt = ""
        """Why the full refresh may not have read all leads; empty if it has."""
        self._document = document
        self._settings = settings
        self._job = job
        self._lookback = settings.lookback
        if job.finds_deleted:
            self._lookback = full_refresh.lookback_of(settings)
        self._bookmark = self.part.bookmark
        self.changes = self._new_changes_reader()
        self.has_read_changes = False
        refresh = self.part.refresh
        self.refresh = self._new_reader(
            order=CREATED_AT, resume=refresh.position if refresh else None
        )
        self._refreshing = self._read_refresh()
        self.readers = [self.changes, self.refresh]
        """The readers of changes, and the one of the full refresh."""

    @property
    def part(self) -> Part:
        """The customer's part of the state."""
        return self._document[self.customer_id]

    @part.setter
    def part(self, part: Part) -> None:
        self._document[self.customer_id] = part

    @property
    def left_out(self) -> int:
        """How many leads could not be read."""
        return sum(len(reader.rejected) for reader in self.readers)

    @property
    def refreshed(self) -> int:
        """How many leads the open full refresh has read, in all its runs."""
        return self.part.refresh.read if self.part.refresh else 0

    def seconds_left(self) -> float:
        """Return about how many seconds of waiting are left."""
        left = sum(reader.left for reader in self.readers)
        return self.retrier.seconds_for(-(-left // self._settings.page_size))

    # The phases of a run

    def read(self) -> Batches:
        """Read changes, then go on with an open refresh, or check for deletions."""
        part, finds_deleted = self.part, self._job.finds_deleted
        if not finds_deleted:
            yield from self._read_changes()
            return
        # A customer without leads has no bookmark, but its load may be complete.
        is_read = part.refresh and part.refresh.is_read
        is_known = part.bookmark or part.anchor or is_read
        if is_known:
            yield from self._read_changes()
        is_closed = self._document.table.is_closed
        begins = self._job.reads_all and is_closed
        if self.part.refresh or not (is_known or begins):
            yield from self.read_all()
        elif is_closed and not (part.is_due or begins):
            yield from self._check()

    def read_all(self) -> Batches:
        """Read all leads, and then the changes since the refresh began."""
        yield from self._refreshing
        refresh = self.part.refresh
        if refresh is None or not refresh.is_confirmed:
            self.changes = self._new_changes_reader()
            self.readers.append(self.changes)
            yield from self._read_changes()

    def prove(self) -> Steps[None]:
        """Find out whether the full refresh has read all leads."""
        if self.part.refresh:
            self.doubt = yield from full_refresh.prove(
                self.part, self.retrier.count, self._settings
            )

    def sample(self, count: int) -> Generator[Request | Wait | Page, Answer, None]:
        """Yield some of the pages, evenly spread."""
        return self.changes.sample(self.since(), count)

    # The steps of a phase

    def _new_changes_reader(self) -> Reader:
        unfinished, start_date = self.part.unfinished, self._settings.start_date
        resume = unfinished.position if unfinished else None
        if resume and start_date and resume.at < start_date:
            resume = None
        return self._new_reader(until=self._settings.end_date, resume=resume)

    def since(self) -> dt.datetime | None:
        """Return the `updated_at` from which changes are read; None for all leads."""
        bookmark, start_date = self.part.bookmark, self._settings.start_date
        if bookmark is None or (self._job.reads_all and not self._job.finds_deleted):
            return start_date
        since = earlier(bookmark, self._lookback)
        return max(since, start_date) if start_date else since

    def _read_changes(self) -> Batches:
        """Read the leads that changed since the bookmark, oldest change first."""
        self.has_read_changes = False
        unfinished, pages = self.part.unfinished, self.changes.pages(self.since())
        started_at = unfinished and unfinished.started_at
        was_read = bool(self.part.refresh and self.part.refresh.is_read)
        while page := (yield from next_result(pages)):
            started_at = min(started_at or page.started_at, page.started_at)
            yield Batch(page, self._after_changes(page, started_at))
            if self.changes.pages_read % CHANGES_PER_REFRESH_PAGE == 0:
                yield from self._read_refresh_page()
        self.has_read_changes = True
        self.part = self.part.but(unfinished=None)
        if self.part.refresh and was_read and unfinished is None:
            refresh = self.part.refresh
            self.part = self.part.but(
                refresh=msgspec.structs.replace(refresh, is_confirmed=True)
            )

    def _read_refresh_page(self) -> Batches:
        """Read a page of the refresh, if one is open."""
        if self.part.refresh and (batch := (yield from next_result(self._refreshing))):
            yield batch

    def _after_changes(self, page: Page, started_at: dt.datetime) -> Part:
        """Return the part after a page of changes.

        The bookmark never passes the start of the pass. So a lead that is dated in the
        future does not hide later changes of others.
        """
        part, last = self.part, self.changes.position.last
        if self._job.finds_deleted:
            part = full_refresh.know(part, page, self._lookback, edits=True)
        bookmark = self._bookmark
        self.changed += sum(bookmark is None or it > bookmark for it in page.timestamps)
        if last is None:
            return part.but(unfinished=None)
        unfinished = None
        if page.next_cursor is not None:
            position = self.changes.position.resume(page.next_cursor)
            unfinished = Pass(started_at, position) if position else None
        return part.moved(min(last, started_at), unfinished)

    def _read_refresh(self) -> Batches:
        """Read all leads, oldest first: an order in which no lead ever moves."""
        if self.part.refresh and self.part.refresh.is_read:
            return
        pages = self.refresh.pages(None)
        while page := (yield from next_result(pages)):
            part, started_at = self.part, page.started_at
            refresh = part.refresh or Refresh(started_at, is_first=True)
            if not refresh.read:
                started_at = min(started_at, refresh.started_at)
                refresh = msgspec.structs.replace(refresh, started_at=started_at)
            bookmark = part.bookmark or (refresh.started_at if page.leads else None)
            part = part.but(refresh=refresh, bookmark=bookmark)
            position = self.refresh.position.resume(page.next_cursor)
            self.changed += len(page.new) if refresh.is_first else 0
            yield Batch(
                page, full_refresh.read_page(part, page, position, self._lookback)
            )
        self.part = full_refresh.finished(self.part, self._lookback)

    def _check(self) -> Steps[None]:
        """Find out whether leads are gone from the API, or missing in the table."""
        if self.part.anchor is None:
            return
        self.part = yield from full_refresh.check(
            self.part, self.retrier.count, self._lookback
        )
        if self.part.is_due:
            self.retrier.log.info(
                "Leads were deleted, or are missing in the table: the next full "
                "refresh finds out which"
            )

    # A full refresh of all customers

    def begin_refresh(self, now: dt.datetime) -> None:
        """Begin a full refresh at a time of the API."""
        self.part = self.part.but(refresh=Refresh(now))
        self.refresh = self._new_reader(order=CREATED_AT)
        self.readers.append(self.refresh)
        self._refreshing = self._read_refresh()

    def give_up_refresh(self) -> None:
        """Drop a full refresh that may not have read all leads of all customers."""
        self.part = self.part.given_up()
        if self.doubt and self.part.bookmark is None:
            # The table may be empty, too.
            self.retrier.log.warning(NOTHING_REMOVED, self.doubt)
        elif self.doubt:
            self._refuse(f"the full refresh is not complete: {self.doubt}")

    def complete_refresh(self) -> None:
        """Anchor the counts: the table has the rows that the refresh has read."""
        self.part = full_refresh.complete(self.part, self._lookback)

    def refuses_removals(self) -> bool:
        """Return whether too many rows would be removed, and if so, fail."""
        reason = ""
        if self.part.refresh:
            reason = full_refresh.find_removals(self.part, self._settings)
        if reason:
            self._refuse(reason)
        return bool(reason)

    def _refuse(self, reason: str) -> None:
        self.failure = FatalAPIError(f"No row was removed: {reason}")

    # The end of a run

    def finish(self, error: FatalAPIError | None) -> None:
        """Record how a phase ended: with an error, or after its last page."""
        self.is_finished = True
        self.failure = error or self.failure or self._check_end()

    def stop(self, reason: str) -> None:
        """Stop before the end. Without progress, this is a failure."""
        if not self._made_progress:
            self.failure = FatalAPIError(reason)

    @property
    def _made_progress(self) -> bool:
        """Whether the next run starts further on than this one."""
        if self.has_read_changes:
            return self.refresh.pages_read > 0 or self.part.refresh is None
        return self.changes.new > 0 or self.refresh.pages_read > 0

    def fail_if_rejected(self) -> None:
        """Fail if leads were left out: the next run does not read them again."""
        rejected = [it for reader in self.readers for it in reader.rejected]
        if rejected:
            before = f"{self.failure}. " if self.failure else ""
            self.failure = FatalAPIError(f"{before}{_left_out(rejected)}")

    def _check_end(self) -> FatalAPIError | None:
        """Compare the number of leads that were read with the API's total."""
        for reader in self.readers:
            if reader.left and not (reader.read or reader.rejected):
                msg = (
                    f"The API says that there are {reader.left:,} leads, and sent "
                    "none. Run again. If the error stays, report it to MEGA's support"
                )
                return FatalAPIError(msg)
            if reader.left > reader.page_size:
                early = f"{reader.left:,}"
                self.retrier.log.warning(
                    "The API ended its pages %s leads too early", early
                )
        return None


class CustomersFailedError(FatalAPIError):
    """Some customers could not be read. The others were."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Keep one line for each customer that failed."""
        super().__init__("\n".join(lines))
        self.errors = list(lines)


def raise_failures(syncs: Sequence[CustomerSync]) -> None:
    """Raise the errors of the customers that failed, if any did.

    Raises:
        FatalAPIError: The error of the only customer.
        CustomersFailedError: A line for each customer that failed.
    """
    failures = [(it.customer_id, it.failure) for it in syncs if it.failure]
    if failures and len(syncs) == 1:
        raise failures[0][1]
    if failures:
        lines = [f"Customer {name}: {error}" for name, error in failures]
        raise CustomersFailedError(lines)


def next_result(
    steps: Generator[Request | Wait | T, Answer, None],
) -> Generator[Request | Wait, Answer, T | None]:
    """Return the next result, after the requests and waits for it; None at the end."""
    answer: Answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return None
        if not isinstance(step, (Request, Wait)):
            return step
        answer = yield step


def _left_out(rejected: Sequence[str]) -> str:
    """Return the line about leads that cannot be read."""
    count = counted(len(rejected), "lead")
    some = listed(rejected, MAX_LISTED_LEADS)
    return (
        f"Left out {count} that cannot be read ({some}). Correct this in MEGA or "
        "report it to MEGA's support"
    )
