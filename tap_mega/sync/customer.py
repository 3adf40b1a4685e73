"""One customer in one run: what it reads, and what its part of the state becomes."""

from __future__ import annotations

import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.shared.timestamps import from_epoch
from tap_mega.shared.words import counted, listed

if t.TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Sequence

    from tap_mega.api.page import Page
    from tap_mega.api.reader import Reader, Wait
    from tap_mega.state.bookmark import Bookmark, Start
    from tap_mega.sync.full_refresh import FullRefresh

MAX_LISTED_LEADS = 10


class CustomerSync:
    """The sync of one customer."""

    def __init__(  # noqa: PLR0913 - each is given by name
        self,
        reader: Reader,
        bookmark: Bookmark,
        start: Start,
        *,
        refresh: FullRefresh | None,
        customer_id: str,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        """Start with nothing read.

        Args:
            reader: Reads the customer's leads.
            bookmark: The customer's bookmark.
            start: Where to start.
            refresh: The full-table sync, in which the bookmark does not move; None
                for an incremental sync.
            customer_id: Whose leads these are.
            log: Where warnings go.
        """
        self.reader = reader
        self.refresh = refresh
        self.bookmark = bookmark
        self._start = start
        self.log = log
        self.customer_id = customer_id
        self.failure: FatalAPIError | None = None
        self.is_finished = False
        self.repaired = 0
        """How many texts and numbers of leads were changed."""

    def pages(self) -> Iterator[Page | Wait]:
        """Yield the pages, and the waits between them."""
        yield from self.reader.pages(self._start.since, self._start.cursor)
        if self.refresh:
            yield from self.refresh.confirm(self.reader)

    def count_gone(self) -> Iterator[Wait]:
        """Let the full-table sync count the leads that have disappeared."""
        if self.refresh:
            yield from self.refresh.count_gone(self.reader)

    def sample(self, count: int) -> Iterator[Page | Wait]:
        """Yield some of the pages, and the waits between them."""
        return self.reader.sample(self._start.since, count)

    def checkpoint(self, page: Page) -> None:
        """Move the bookmark to the end of a page whose leads are written.

        Args:
            page: The page that the reader yielded last.
        """
        self.repaired += page.repaired
        if page.sent_at is not None:
            self.bookmark.limit(from_epoch(page.sent_at))
        if self.refresh:
            self.refresh.advance(page, self.reader)
        else:
            self.bookmark.advance(self.reader.position, page.next_cursor)

    def stop(self, reason: str) -> None:
        """Stop before the end. It is a failure if the run made no progress."""
        if not self.reader.new:
            self.failure = FatalAPIError(reason)
        self._fail_if_rejected()

    def finish(self, error: FatalAPIError | None) -> None:
        """Record how the sync ended: with an error, or after the last page."""
        self.is_finished = True
        self.failure = error or self._check_end()
        self._fail_if_rejected()

    def _fail_if_rejected(self) -> None:
        """Fail if leads were left out: the next run does not read them again."""
        if self.reader.rejected:
            line = _left_out(self.reader.rejected)
            before = f"{self.failure}. " if self.failure else ""
            self.failure = FatalAPIError(f"{before}{line}")

    def _check_end(self) -> FatalAPIError | None:
        """Compare what was read with what the API says there is."""
        reader = self.reader
        if reader.left and not (reader.read or reader.rejected):
            msg = (
                f"The API says that there are {reader.left:,} leads, and sent none. "
                "Run again. If the error stays, report it to MEGA's support"
            )
            return FatalAPIError(msg)
        if reader.left > reader.page_size:
            early = f"{reader.left:,}"
            self.log.warning("The API ended its pages %s leads too early", early)
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


def _left_out(rejected: Sequence[str]) -> str:
    """Return the line about leads that cannot be read."""
    count = counted(len(rejected), "lead")
    some = listed(rejected, MAX_LISTED_LEADS)
    return (
        f"Left out {count} that cannot be read ({some}). Correct this in MEGA or "
        "report it to MEGA's support"
    )
