"""The leads of one customer, page by page: cursors, order, where to resume.

A reader says what it needs next, a request or a wait, but does neither. So tests of
retries, pacing, cursors and order need no server, no thread and no clock.
"""

from __future__ import annotations

import bisect
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.position import CREATED_AT, UPDATED_AT, Position
from tap_mega.shared.errors import BadRequestError, TooLargeError
from tap_mega.shared.timestamps import format_timestamp

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Mapping

    from tap_mega.api.client import Request
    from tap_mega.api.page import CursorPaginator, Page
    from tap_mega.api.retry import Answer, Retrier, Steps, Wait
    from tap_mega.state.values import Resume

    Pages: t.TypeAlias = Generator[Request | Wait | Page, Answer, None]

SINCE = {UPDATED_AT: "updated_since", CREATED_AT: "created_since"}
"""The parameter that starts at a timestamp, by the order. It is inclusive."""

MAX_SHORT_ENDS = 3
"""How often a full refresh asks again if the pages end before the total is read."""

OUT_OF_ORDER = (
    "The API sent a lead that comes before the previous one, although the request "
    "sorts by {order}. The sync stopped, because reading on could lose leads. "
    "Report this to MEGA's support. Once it is fixed, run without a state"
)


class RefusedCursorError(FatalAPIError):
    """The API answered 400 to a request with a cursor."""


class Reader:
    """Reads the leads of one customer, once, in one order."""

    def __init__(  # noqa: PLR0913 - each is given by name
        self,
        retrier: Retrier,
        new_paginator: Callable[[], CursorPaginator],
        *,
        page_size: int,
        order: str = UPDATED_AT,
        until: dt.datetime | None = None,
        resume: Resume | None = None,
    ) -> None:
        """Start with nothing read.

        Args:
            retrier: Gets a page, with waits and retries.
            new_paginator: Makes a paginator, which follows cursors.
            page_size: How many leads a page holds at most.
            order: The property by which the API sorts: `updated_at` or `created_at`.
            until: Read only leads that changed before this time; None for all.
            resume: The position from which to resume; None to start at the first lead.
        """
        self._retrier, self._new_paginator = retrier, new_paginator
        self.page_size = page_size
        self._until = until
        self._cursor = resume.cursor if resume else None
        self.position = Position(order, resume)
        self.since: dt.datetime | None = None
        """The timestamp from which on leads are read; None for all leads."""
        self.read = 0
        """How many leads the pages held so far."""
        self.new = 0
        """How many of them are new: after a new cursor, some leads are read again."""
        self.pages_read = 0
        self.rejected: list[str] = []
        """A text for each lead that was left out: which one, and why."""
        self.total: int | None = None
        """The number of leads to read, according to the API; None if unknown."""

    @property
    def left(self) -> int:
        """How many leads are not read yet, according to the API."""
        return max(0, (self.total or 0) - self.new - len(self.rejected))

    def pages(self, since: dt.datetime | None) -> Pages:
        """Yield the pages with all leads since a timestamp, and the requests and waits.

        If the API rejects a cursor, reading resumes one second before the last lead,
        with an `offset` if that second has many leads. About half a page is read again.

        Args:
            since: Where to start, unless the reader resumes; None for all leads.

        Raises:
            FatalAPIError: If the API cannot be read, or its leads are out of order.
        """
        since, cursor = self.position.since or since, self._cursor
        offset, short_ends = 0, 0
        while True:
            self.since, new = since, self.new
            try:
                yield from self._sweep(since, cursor, offset)
            except RefusedCursorError:
                self._retrier.log.warning(
                    "The API refused a cursor: starting a new one"
                )
            else:
                short_ends = 0 if self.new > new else short_ends + 1
                if not self._insists or short_ends >= MAX_SHORT_ENDS:
                    return
            since, cursor = self.position.since or since, None
            overlap = max(1, self.page_size // 2)
            offset = max(0, self.position.offset - overlap)

    @property
    def _insists(self) -> bool:
        """Whether to ask again if the pages end before all leads are read.

        A full refresh does: a lead that it does not read looks deleted.
        """
        return self.position.order == CREATED_AT and self.left > 0

    def sample(self, since: dt.datetime | None, count: int) -> Pages:
        """Yield at most `count` pages, evenly spread over all leads.

        Raises:
            FatalAPIError: If the API cannot be read.
        """
        offsets = [0]
        while offsets:
            page = yield from self._next_page(since, None, offsets.pop())
            if self.total is None and page.total:
                last = (page.total - 1) // self.page_size
                pages = {last * it // (count - 1) for it in range(1, count)} - {0}
                offsets = sorted((it * self.page_size for it in pages), reverse=True)
            yield self._count(page, 0)

    def _sweep(
        self, since: dt.datetime | None, cursor: str | None, offset: int
    ) -> Pages:
        """Yield pages from `since` on, for as long as there are cursors."""
        paginator, previous = self._new_paginator(), None
        if cursor is not None:
            paginator.follow(cursor)
        read_before = self.new - self.position.offset
        page = yield from self._first_page(since, cursor, offset)
        while True:
            previous = self._check_order(page, previous)
            if self._until and previous and previous >= self._until:
                yield self._last_page(page, self._until)
                return
            yield self._count(page, read_before)
            paginator.follow(page.next_cursor)
            if paginator.finished:
                return
            page = yield from self._next_page(since, paginator.current_value)

    def _first_page(
        self, since: dt.datetime | None, cursor: str | None, offset: int
    ) -> Steps[Page]:
        """Return the page at a cursor, or at an offset, or one before it.

        If leads before the offset have moved, the page may hold no lead that was read
        already. Then the reader steps back until it finds one.
        """
        while True:
            page = yield from self._next_page(since, cursor, offset)
            if cursor is not None:
                return page
            if not offset or self.position.overlaps(page):
                self.position.restart(offset)
                return page
            offset = max(0, offset - self.page_size)

    def _last_page(self, page: Page, until: dt.datetime) -> Page:
        """Return the page cut off at `until`, as the last page."""
        count = bisect.bisect_left(page.timestamps, until)
        last = page._replace(
            leads=page.leads[:count],
            timestamps=page.timestamps[:count],
            next_cursor=None,
            total=None,
        )
        last = self._count(last, 0)
        self.total = self.new + len(self.rejected)
        return last

    def _count(self, page: Page, read_before: int) -> Page:
        """Count a page, and return it with the indices of its new leads.

        Raises:
            FatalAPIError: If too many pages in a row have no new lead.
        """
        new = self.position.advance(page)
        self.read += len(page.leads)
        self.new += len(new)
        self.pages_read += 1
        self.rejected += [f"{it} of page {self.pages_read}" for it in page.rejected]
        if page.total is not None:
            self.total = read_before + page.total
        self._retrier.count_page(
            is_new=bool(new or page.rejected), is_last=page.next_cursor is None
        )
        return page._replace(new=new)

    def _next_page(
        self, since: dt.datetime | None, cursor: str | None, offset: int = 0
    ) -> Steps[Page]:
        """Return a page of leads.

        A page with an unusable lead is requested once more: a proxy or a network may
        have damaged it.
        """
        params: dict[str, t.Any] = {
            "sort_by": self.position.order,
            SINCE[self.position.order]: since and format_timestamp(since),
            "cursor": cursor,
            "offset": offset or None,
        }
        page = yield from self._fitting_page(params)
        if page.rejected:
            again = yield from self._fitting_page(params)
            page = min(again, page, key=lambda it: len(it.rejected))
        return page

    def _fitting_page(self, params: Mapping[str, t.Any]) -> Steps[Page]:
        """Return a page, with fewer leads if the response would be too large.

        Raises:
            FatalAPIError: If a single lead is too large.
        """
        # With one lead per page, one that was read already would hide the next one.
        limit = max(2, self.page_size) if params["offset"] else self.page_size
        while True:
            try:
                return (yield from self._accepted_page({**params, "limit": limit}))
            except TooLargeError as error:
                if limit == 1:
                    msg = f"A single lead is too large: {error}. Report this to MEGA"
                    raise FatalAPIError(msg) from None
                limit //= 2

    def _accepted_page(self, params: Mapping[str, t.Any]) -> Steps[Page]:
        """Return a page.

        Raises:
            RefusedCursorError: If the API does not accept the cursor.
        """
        try:
            return (yield from self._retrier.request(params))
        except BadRequestError as error:
            if params["cursor"] is None:
                raise
            raise RefusedCursorError(str(error)) from None

    def _check_order(
        self, page: Page, previous: dt.datetime | None
    ) -> dt.datetime | None:
        """Return the last timestamp of a page; the one before it if it is empty.

        Raises:
            FatalAPIError: If the timestamps are not in order.
        """
        for timestamp in self.position.keys(page):
            if previous and timestamp < previous:
                raise FatalAPIError(OUT_OF_ORDER.format(order=self.position.order))
            previous = timestamp
        return previous
