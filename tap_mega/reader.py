"""Pages and the waits between them: retries, pacing, cursors, order.

A reader never sleeps. It yields a page, or a wait that has to pass before it goes on.
Whoever iterates over it sleeps, or does something else meanwhile.
"""

from __future__ import annotations

import logging
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.client import BadRequestError, RateLimitedError, TemporaryError
from tap_mega.timestamps import format_timestamp

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Iterator, Mapping

    from tap_mega.page import CursorPaginator, Page
    from tap_mega.rate_limit import RateLimiter

    Backoff: t.TypeAlias = Callable[[], Iterator[float]]

MIN_WAIT_SECONDS = 1
"""A `Retry-After` of nothing must not become a storm of requests."""

NO_QUOTA = "the API answered 429: the key has no quota left"

OUT_OF_ORDER = (
    "The API sent a lead that changed before the previous one, although the request "
    "sorts by updated_at. The sync stopped, because reading on could lose leads. "
    "Report this to MEGA's support. Once it is fixed, run without a state"
)

logger = logging.getLogger(__name__)


class Wait(t.NamedTuple):
    """A time that has to pass before the next request."""

    seconds: float
    reason: str
    is_retry: bool = False
    """Whether a failure is the reason, and not the quota."""


class PageSource(t.Protocol):
    """A client: what a reader gets its pages from."""

    def get(self, params: Mapping[str, t.Any]) -> Page:
        """Return a page, or raise an error that says what to do next."""


class Reader:
    """Reads the leads of one customer, once, in the order of `updated_at`."""

    def __init__(  # noqa: PLR0913 - each is given by name
        self,
        client: PageSource,
        rate_limiter: RateLimiter,
        *,
        new_paginator: Callable[[], CursorPaginator],
        backoff: Backoff,
        max_tries: int,
        now: Callable[[], float],
    ) -> None:
        """Start with nothing read.

        Args:
            client: Requests one page at a time.
            rate_limiter: Says how long to wait before a request.
            new_paginator: Makes what follows the cursors of one sweep.
            backoff: Returns the seconds to wait after each failure of a request.
            max_tries: How often to send a request that fails.
            now: Returns monotonic seconds.
        """
        self._client = client
        self._rate_limiter = rate_limiter
        self._new_paginator = new_paginator
        self._backoff = backoff
        self._max_tries = max_tries
        self._now = now
        self.read = 0
        """How many leads the pages held so far."""
        self.pages_read = 0
        self.total: int | None = None
        """How many leads there are to read, by the API; None if it does not say."""
        self.last: dt.datetime | None = None
        """The `updated_at` of the last lead."""

    @property
    def left(self) -> int:
        """How many leads are not read yet, as far as the API says."""
        return max(0, (self.total or 0) - self.read)

    def pages(self, since: dt.datetime | None) -> Iterator[Page | Wait]:
        """Yield the pages with all leads that changed at `since` or later.

        If the API refuses a cursor, reading goes on from the last lead's `updated_at`.
        That repeats only the leads with the same `updated_at`.

        Raises:
            FatalAPIError: If the API cannot be read, or breaks its own order.
        """
        while True:
            position = self.last
            try:
                yield from self._sweep(since)
            except BadRequestError:
                if self.last == position:
                    raise
                since = self.last
                logger.warning("The API refused a cursor: starting a new one")
            else:
                return

    def _sweep(self, since: dt.datetime | None) -> Iterator[Page | Wait]:
        """Yield pages from `since` on, for as long as there are cursors."""
        paginator, read_before = self._new_paginator(), self.read
        while not paginator.finished:
            page = yield from self._request(
                {
                    "updated_since": since and format_timestamp(since),
                    "cursor": paginator.current_value,
                }
            )
            self._check_order(page)
            self.read += len(page.leads)
            self.pages_read += 1
            if page.total is not None:
                self.total = read_before + page.total
            yield page
            paginator.follow(page)

    def _check_order(self, page: Page) -> None:
        for timestamp in page.timestamps:
            if self.last and timestamp < self.last:
                raise FatalAPIError(OUT_OF_ORDER)
            self.last = timestamp

    def _request(self, params: Mapping[str, t.Any]) -> Generator[Wait, None, Page]:
        """Yield the waits that a page takes, and return the page.

        Failures count as tries. Running out of quota does not, however often.
        """
        failures, backoff = 0, self._backoff()
        while True:
            yield from self._pace()
            try:
                return self._client.get(params)
            except RateLimitedError as error:
                asked = error.retry_after
                seconds = next(backoff) if asked is None else asked
                yield Wait(max(seconds, MIN_WAIT_SECONDS), NO_QUOTA)
            except TemporaryError as error:
                failures += 1
                seconds = max(next(backoff), error.retry_after or 0)
                yield self._retry(seconds, failures, error)

    def _retry(self, seconds: float, failures: int, error: Exception) -> Wait:
        """Return the wait before the next try, or give up after the last one."""
        if failures >= self._max_tries:
            msg = (
                f"Gave up after {failures} tries: {error}. Run again later: the sync "
                "resumes from its last state"
            )
            raise FatalAPIError(msg) from None
        reason = f"Try {failures} of {self._max_tries} failed: {error}"
        return Wait(seconds, reason, is_retry=True)

    def _pace(self) -> Iterator[Wait]:
        seconds = self._rate_limiter.delay(self._now())
        if seconds > 0:
            yield Wait(seconds, f"the limit of {self._rate_limiter} is reached")
