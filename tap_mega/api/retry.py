"""One request after another for one customer: pacing, retries, and when to give up.

Nothing here sends or sleeps. It yields a `Request`, and gets the answer by `send()`, or
yields a `Wait`, and continues after it.
"""

from __future__ import annotations

import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.client import Request
from tap_mega.shared.errors import RateLimitedError, TemporaryError, TooLargeError
from tap_mega.shared.timestamps import format_timestamp

if t.TYPE_CHECKING:
    import datetime as dt
    import logging
    from collections.abc import Callable, Generator, Iterator, Mapping

    from tap_mega.api.page import Page
    from tap_mega.api.rate_limit import RateLimiter

    T = t.TypeVar("T")
    Backoff: t.TypeAlias = Callable[[], Iterator[float]]

MIN_WAIT_SECONDS = 1
"""The minimum wait after a 429, even if `Retry-After` is 0."""

MAX_IDLE_WAIT_SECONDS = 4 * 3600
"""The maximum wait in total without a new lead."""

MAX_IDLE_PAGES = 50
"""The maximum number of pages without a new lead."""

WARNING_SHARE = 0.5
"""The share of either limit at which a warning is logged."""

NO_QUOTA = "the API answered 429: the token has no quota left"

RETRY_ADVICE = "Run again later: the sync resumes from its last state"


class Wait(t.NamedTuple):
    """A time that has to pass before the next request."""

    seconds: float
    reason: str
    is_retry: bool = False
    """Whether the reason is a failure, not the quota."""


Answer: t.TypeAlias = "Page | Exception | None"
"""What is sent back: the page or the error of a request, or None after a wait."""

Steps: t.TypeAlias = "Generator[Request | Wait, Answer, T]"
"""The requests and waits that are needed before a `T` can be returned."""


class Retrier:
    """Paces the requests of one customer, and repeats those that fail."""

    def __init__(
        self,
        rate_limiter: RateLimiter,
        *,
        backoff: Backoff,
        max_tries: int,
        now: Callable[[], float],
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
    ) -> None:
        """Start with nothing requested.

        Args:
            rate_limiter: Says how long to wait before a request.
            backoff: Returns the seconds to wait after each failure of a request.
            max_tries: How often to send a request that fails.
            now: Returns monotonic seconds.
            log: Where warnings go.
        """
        self.rate_limiter = rate_limiter
        self.max_tries = max_tries
        self.log = log
        self.advice = RETRY_ADVICE
        """What a person should do after the last failed try."""
        self.requests = 0
        """How many requests were sent."""
        self.refusals = 0
        """How many of them the API answered with 429."""
        self._backoff = backoff
        self._now = now
        self._idle_pages = 0
        self._idle_seconds = 0.0
        self._ready_at = 0.0
        self._warned = False

    def request(self, params: Mapping[str, t.Any]) -> Steps[Page]:
        """Return the page of a request, after waits and retries.

        Failures count as tries. Running out of quota does not.

        Raises:
            FatalAPIError: If the API refuses the request, or after the last try.
        """
        failures, backoff = 0, self._backoff()
        while True:
            yield from self._pace()
            self.requests += 1
            answer = yield Request(params)
            self._count_answer(answer)
            try:
                return _page_of(answer)
            except RateLimitedError as error:
                self.refusals += 1
                asked = error.retry_after
                seconds = next(backoff) if asked is None else asked
                yield self._wait(Wait(max(seconds, MIN_WAIT_SECONDS), NO_QUOTA))
            except TooLargeError:
                raise
            except TemporaryError as error:
                failures += 1
                seconds = max(next(backoff), error.retry_after or 0)
                yield self._wait(self._retry(seconds, failures, error))

    def count(self, **since: dt.datetime) -> Steps[int | None]:
        """Return the total of all leads, or of those since a timestamp.

        Args:
            since: `updated_since` or `created_since`, or nothing.
        """
        params = {name: format_timestamp(it) for name, it in since.items()}
        return (yield from self.request({"limit": 1, **params})).total

    def count_page(self, *, is_new: bool, is_last: bool) -> None:
        """Count a page.

        Raises:
            FatalAPIError: If too many pages in a row have no new lead.
        """
        if is_new:
            self._idle_pages, self._idle_seconds = 0, 0.0
            return
        self._idle_pages += 1
        if not is_last:
            self._check_progress(self._idle_pages / MAX_IDLE_PAGES)

    def seconds_for(self, requests: int) -> float:
        """Return about how many seconds of waiting so many requests take."""
        now = self._now()
        start = max(now, self._ready_at)
        return start - now + self.rate_limiter.seconds_for(requests, start)

    def _count_answer(self, answer: Answer) -> None:
        """Count a request at the time of its answer, or now if there was none."""
        arrived_at = getattr(answer, "arrived_at", None)
        now = self._now() if arrived_at is None else arrived_at
        self.rate_limiter.record(now)
        self.rate_limiter.update(getattr(answer, "headers", {}), now)

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
        self.log.warning("%s. Trying again in %.0f s", reason, seconds)
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
            FatalAPIError: If too many waits in a row brought no new lead.
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
                f"Gave up: {what}. Check whether another program uses the token. If "
                "none does, report this to MEGA's support"
            )
            raise FatalAPIError(msg)
        if share >= WARNING_SHARE and not self._warned:
            self._warned = True
            self.log.warning("No progress: %s", what)


def _page_of(answer: Answer) -> Page:
    """Return the page of an answer.

    Raises:
        Exception: The error, if it is one.
    """
    if isinstance(answer, Exception):
        raise answer
    return t.cast("Page", answer)
