"""One customer in one run: what it reads, and what its part of the state becomes."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.bookmark import MAX_CLOCK_DIFFERENCE
from tap_mega.full_refresh import Completeness
from tap_mega.progress import format_duration

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_mega.bookmark import Bookmark, Start
    from tap_mega.page import Page
    from tap_mega.reader import Reader, Wait

MAX_LISTED_LEADS = 10

logger = logging.getLogger(__name__)


class CustomerSync:
    """The sync of one customer."""

    def __init__(  # noqa: PLR0913 - each is given by name
        self,
        reader: Reader,
        bookmark: Bookmark,
        start: Start,
        *,
        incremental: bool,
        counts_leads: bool,
        page_size: int,
    ) -> None:
        """Start with nothing read.

        Args:
            reader: Reads the customer's leads.
            bookmark: The customer's bookmark.
            start: Where to start.
            incremental: Whether the bookmark moves. If not, all leads are read.
            counts_leads: Whether to find out if all leads were read.
            page_size: How many leads a page holds at most.
        """
        self.reader = reader
        self.completeness = Completeness(reader) if counts_leads else None
        self._bookmark = bookmark
        self._start = start
        self._incremental = incremental
        self._page_size = page_size
        self._compared_clocks = False
        self._stopped = False
        self._repaired = 0

    def pages(self) -> Iterator[Page | Wait]:
        """Yield the pages, and the waits between them."""
        return self.reader.pages(self._start.since, self._start.cursor)

    def checkpoint(self, page: Page, now: float) -> None:
        """Move the bookmark to the end of a page whose leads are written.

        Args:
            page: The page that the reader yielded last.
            now: The time, in epoch seconds.
        """
        if not self._compared_clocks and page.sent_at is not None:
            self._compared_clocks = True
            self._compare_clocks(page.sent_at, now)
        self._repaired += page.repaired
        if self._incremental:
            self._bookmark.advance(self.reader.position, page.next_cursor)
        if self.completeness:
            self.completeness.add(page)

    def _compare_clocks(self, sent_at: float, now: float) -> None:
        """Let the bookmark not pass the API's clock, and warn if ours differs."""
        self._bookmark.limit(dt.datetime.fromtimestamp(sent_at, dt.UTC))
        difference = abs(now - sent_at)
        if difference > MAX_CLOCK_DIFFERENCE.total_seconds():
            logger.warning(
                "The clock of this machine and the clock of the API differ by %s. "
                "Correct the clock of this machine: bookmarks depend on it",
                format_duration(difference),
            )

    def stop(self, reason: str) -> None:
        """Stop before the end, because a wait is too long.

        Raises:
            FatalAPIError: If the next run would be no better off than this one.
        """
        if not (self._incremental and self.reader.new):
            raise FatalAPIError(reason)
        self._stopped = True
        left = f"{self.reader.left:,}"
        logger.warning("%s. About %s leads are left for the next run", reason, left)

    def check_end(self) -> None:
        """Compare what was read with what the API says there is.

        Raises:
            FatalAPIError: If there should be leads, and none was read; or if some leads
                cannot be read.
        """
        if self._repaired:
            logger.warning(REPAIRED, f"{self._repaired:,}")
        if not self._stopped:
            self._check_total()
        if self.reader.rejected:
            raise FatalAPIError(_left_out(self.reader.rejected))

    def _check_total(self) -> None:
        left = self.reader.left
        if left and not self.reader.read and not self.reader.rejected:
            msg = (
                f"The API says that there are {left:,} leads, and sent none. Run "
                "again. If the error stays, report it to MEGA's support"
            )
            raise FatalAPIError(msg)
        if left > self._page_size:
            logger.warning("The API ended its pages %s leads too early", f"{left:,}")


REPAIRED = (
    "%s texts and numbers of leads were changed, because no database stores them: "
    "halves of a character became U+FFFD, NUL was dropped, and numbers beyond a double "
    "became 0 or null"
)


def _left_out(rejected: Sequence[str]) -> str:
    """Return the line about leads that cannot be read."""
    some = ", ".join(rejected[:MAX_LISTED_LEADS])
    more = len(rejected) - MAX_LISTED_LEADS
    rest = f", and {more:,} more" if more > 0 else ""
    return (
        f"Left out {len(rejected):,} leads that cannot be read ({some}{rest}). All "
        "others were read. Correct these leads in MEGA, or report them to its support"
    )
