"""Pages and the waits between them: retries, pacing, cursors, order.

A reader never sleeps. It yields a page, or a wait that has to pass before it goes on.
Whoever iterates over it sleeps, or does something else meanwhile.
"""

from __future__ import annotations

import bisect
import logging
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.page import CursorPaginator
from tap_mega.api.position import Position
from tap_mega.shared.errors import BadRequestError, RateLimitedError, TemporaryError
from tap_mega.shared.timestamps import format_timestamp

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Iterator, Mapping

    from tap_mega.api.page import Page
    from tap_mega.api.rate_limit import RateLimiter

    Backoff: t.TypeAlias = Callable[[], Iterator[float]]

MIN_WAIT_SECONDS = 1
"""The minimum wait after a 429, even if `Retry-After` is 0."""

MAX_IDLE_WAIT_SECONDS = 4 * 3600
"""The maximum wait in total without a new lead."""

MAX_IDLE_PAGES = 50
"""The maximum number of pages without a new lead."""

WARNING_SHARE = 0.5
"""The share of either limit at which a warning is logged."""

NO_QUOTA = "the API answered 429: the key has no quota left"

RETRY_ADVICE = "Run again later: the sync resumes from its last state"

OUT_OF_ORDER = (
    "The API sent a lead that changed before the previous one, although the request "
    "sorts by updated_at. The sync stopped, because reading on could lose leads. "
    "Report this to MEGA's support. Once it is fixed, run without a state"
)

logger = logging.getLogger("tap-mega.leads")


class Wait(t.NamedTuple):
    """A time that has to pass before the next request."""

    seconds: float
    reason: str
    is_retry: bool = False
    """Whether a failure is the reason, and not the quota."""


class PageSource(t.Protocol):
    """A client: a reader gets its pages from one."""

    def get(self, params: Mapping[str, t.Any]) -> Page:
        """Return a page, or raise an error that says what to do next."""


class Reader:
    """Reads the leads of one customer, once, in the order of `updated_at`."""

    def __init__(  # noqa: PLR0913 - each is given by name
        self,
        client: PageSource,
        rate_limiter: RateLimiter,
        *,
        page_size: int,
        until: dt.datetime | None = None,
        backoff: Backoff,
        max_tries: int,
        now: Callable[[], float],
        log: logging.Logger | logging.LoggerAdapter[logging.Logger] = logger,
        position: Position | None = None,
    ) -> None:
        """Start with nothing read.

        Args:
            client: Requests one page at a time.
            rate_limiter: Says how long to wait before a request.
            page_size: How many leads a page holds at most.
            until: Read only leads that changed before; None for all.
            backoff: Returns the seconds to wait after each failure of a request.
            max_tries: How often to send a request that fails.
            now: Returns monotonic seconds.
            log: Where warnings go.
            position: How far an earlier run came, to resume from there.
        """
        self._client = client
        self.rate_limiter = rate_limiter
        self.page_size = page_size
        self._until = until
        self._backoff = backoff
        self.max_tries = max_tries
        self._now = now
        self._log = log
        self._idle_pages = 0
        self._idle_seconds = 0.0
        self._ready_at = 0.0
        self._warned = False
        self.position = position or Position()
        self.since: dt.datetime | None = None
        """From which `updated_at` on leads are read; None for all leads."""
        self.advice = RETRY_ADVICE
        """What a person can do after the last try of a request."""
        self.read = 0
        """How many leads the pages held so far."""
        self.new = 0
        """How many of them are new: after a new cursor, some leads come again."""
        self.requests = 0
        """How many requests were sent."""
        self.refusals = 0
        """How many of them the API answered with 429."""
        self.pages_read = 0
        self.rejected: list[str] = []
        """Which leads cannot be read and were left out, and why."""
        self.total: int | None = None
        """The number of leads to read, by the API; None if it does not say."""

    @property
    def left(self) -> int:
        """How many leads are not read yet, as far as the API says."""
        return max(0, (self.total or 0) - self.new - len(self.rejected))

    def seconds_left(self) -> float:
        """Return about how many seconds of waiting the rest takes."""
        now = self._now()
        start = max(now, self._ready_at)
        requests = -(-self.left // self.page_size)
        return start - now + self.rate_limiter.seconds_for(requests, start)

    def pages(
        self, since: dt.datetime | None, cursor: str | None = None
    ) -> Iterator[Page | Wait]:
        """Yield the pages with all leads that changed at `since` or later.

        If the API rejects a cursor, reading resumes one second before the last lead,
        with an `offset` if that second has many leads. About half a page comes again.

        Args:
            since: Where to start; None for all leads.
            cursor: Where an earlier run stopped, if it did.

        Raises:
            FatalAPIError: If the API cannot be read, or breaks its own order.
        """
        offset = 0
        while True:
            self.since, new = since, self.new
            try:
                yield from self._sweep(since, cursor, offset)
            except BadRequestError:
                if cursor is None and self.new == new:
                    raise
                self._log.warning("The API refused a cursor: starting a new one")
            else:
                return
            since, cursor = self.position.since or since, None
            overlap = max(1, self.page_size // 2)
            offset = max(0, self.position.offset - overlap)

    def count(
        self, created_since: dt.datetime | None = None
    ) -> Generator[Wait, None, Page]:
        """Return a page with the total of all leads, or of those created since.

        It yields the waits that this takes, and does not move the position.
        """
        since = created_since and format_timestamp(created_since)
        return (yield from self._request({"limit": 1, "created_since": since}))

    def sample(self, since: dt.datetime | None, count: int) -> Iterator[Page | Wait]:
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
            self._count(page, 0)
            yield page

    def _sweep(
        self, since: dt.datetime | None, cursor: str | None, offset: int
    ) -> Iterator[Page | Wait]:
        """Yield pages from `since` on, for as long as there are cursors."""
        paginator, previous = CursorPaginator(cursor), None
        read_before = self.new - self.position.offset
        page = yield from self._first_page(since, cursor, offset)
        while True:
            previous = _check_order(page, previous)
            if self._until and previous and previous >= self._until:
                yield self._last_page(page, self._until)
                return
            self._count(page, read_before)
            yield page
            paginator.follow(page)
            if paginator.finished:
                return
            page = yield from self._next_page(since, paginator.current_value)

    def _first_page(
        self, since: dt.datetime | None, cursor: str | None, offset: int
    ) -> Generator[Wait, None, Page]:
        """Return the page at an offset, or one before it.

        If leads before the offset have left their place, the page holds no lead that
        was read already, and the reader steps back until it finds one.
        """
        while True:
            page = yield from self._next_page(since, cursor, offset)
            if not offset or self.position.overlaps(page):
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
        self._count(last, 0)
        self.total = self.new + len(self.rejected)
        return last

    def _count(self, page: Page, read_before: int) -> None:
        """Count a page.

        Raises:
            FatalAPIError: If page after page has no new lead.
        """
        new = self.position.advance(page)
        self.read += len(page.leads)
        self.new += new
        self.pages_read += 1
        self.rejected += [f"{it} of page {self.pages_read}" for it in page.rejected]
        if page.total is not None:
            self.total = read_before + page.total
        if new or page.rejected:
            self._idle_pages, self._idle_seconds = 0, 0.0
            return
        self._idle_pages += 1
        if page.next_cursor is not None:
            self._check_progress(self._idle_pages / MAX_IDLE_PAGES)

    def _next_page(
        self, since: dt.datetime | None, cursor: str | None, offset: int = 0
    ) -> Generator[Wait, None, Page]:
        """Return a page of leads, after the waits that it takes."""
        params = {
            "updated_since": since and format_timestamp(since),
            "cursor": cursor,
            "offset": offset or None,
        }
        return (yield from self._request(params))

    def _request(self, params: Mapping[str, t.Any]) -> Generator[Wait, None, Page]:
        """Yield the waits that a page takes, and return the page.

        Failures count as tries. Running out of quota does not.
        """
        failures, backoff = 0, self._backoff()
        while True:
            yield from self._pace()
            self.requests += 1
            try:
                return self._client.get(params)
            except RateLimitedError as error:
                self.refusals += 1
                asked = error.retry_after
                seconds = next(backoff) if asked is None else asked
                yield self._wait(Wait(max(seconds, MIN_WAIT_SECONDS), NO_QUOTA))
            except TemporaryError as error:
                failures += 1
                seconds = max(next(backoff), error.retry_after or 0)
                yield self._wait(self._retry(seconds, failures, error))

    def _retry(self, seconds: float, failures: int, error: Exception) -> Wait:
        """Return the wait before the next try.

        Raises:
            FatalAPIError: After the last try.
        """
        if failures >= self.max_tries:
            tries = "1 try" if failures == 1 else f"{failures} tries"
            msg = f"Gave up after {tries}: {error}. {self.advice}"
            raise FatalAPIError(msg) from None
        reason = f"Try {failures} of {self.max_tries} failed: {error}"
        self._log.warning("%s. Trying again in %.0f s", reason, seconds)
        return Wait(seconds, reason, is_retry=True)

    def _pace(self) -> Iterator[Wait]:
        """Yield a wait if the rate limit is reached."""
        seconds = self.rate_limiter.delay(self._now())
        if seconds > 0:
            reason = f"the limit of {self.rate_limiter.strictest()} is reached"
            yield self._wait(Wait(seconds, reason))

    def _wait(self, wait: Wait) -> Wait:
        """Count a wait.

        Raises:
            FatalAPIError: If wait after wait brought no new lead.
        """
        self._check_progress(self._idle_seconds / MAX_IDLE_WAIT_SECONDS)
        self._idle_seconds += wait.seconds
        self._ready_at = self._now() + wait.seconds
        return wait

    def _check_progress(self, share: float) -> None:
        """Warn after half of the pages or of the time without a new lead, once."""
        what = (
            f"{self._idle_pages} pages and {self._idle_seconds / 3600:.1f} hours of "
            "waiting returned no new lead"
        )
        if share >= 1:
            msg = (
                f"Gave up: {what}. Check whether another program uses the key. If none "
                "does, report this to MEGA's support"
            )
            raise FatalAPIError(msg)
        if share >= WARNING_SHARE and not self._warned:
            self._warned = True
            self._log.warning("No progress: %s", what)


def _check_order(page: Page, previous: dt.datetime | None) -> dt.datetime | None:
    """Return the last timestamp of a page; the one before it if the page is empty.

    Raises:
        FatalAPIError: If the timestamps are not in order.
    """
    for timestamp in page.timestamps:
        if previous and timestamp < previous:
            raise FatalAPIError(OUT_OF_ORDER)
        previous = timestamp
    return previous
