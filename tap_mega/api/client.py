"""One request to the API, and what its response means."""

from __future__ import annotations

import json
import re
import typing as t
from http import HTTPStatus

from singer_sdk.exceptions import FatalAPIError, RetriableAPIError

from tap_mega.api.page import parse_page
from tap_mega.shared.timestamps import parse_http_date

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from tap_mega.api.page import Page
    from tap_mega.api.rate_limit import RateLimiter
    from tap_mega.api.transport import Response, Transport
    from tap_mega.shared.clock import Clock

    Params: t.TypeAlias = Mapping[str, t.Any]

MAX_MESSAGE_LENGTH = 200
MAX_RETRY_AFTER_SECONDS = 10**9

RETRIABLE_4XX = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)

ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: (
        "Check the setting 'auth_token': the token is missing, mistyped or withdrawn"
    ),
    HTTPStatus.FORBIDDEN: (
        "The token needs the scope public_api:leads:read, and the setting "
        "'customer_id' must be the customer that the token is locked to"
    ),
    HTTPStatus.BAD_REQUEST: (
        "Check the setting 'filters'. If it is not set, report this line as a bug of "
        "tap-mega"
    ),
    HTTPStatus.NOT_FOUND: "Check the setting 'api_url'",
}
REDIRECT_ADVICE = (
    "Redirects are not followed, so that the token is not sent to another host. "
    "Check the setting 'api_url'"
)


class TemporaryError(RetriableAPIError):
    """A request failed that may succeed later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """Keep the seconds that the API asks to wait; None if it does not say."""
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitedError(TemporaryError):
    """The API answered 429: the key has no requests left at present."""


class BadRequestError(FatalAPIError):
    """The API answered 400: it does not accept the request as it is."""


class Client:
    """Sends one request at a time, and says what the response means. Never waits."""

    def __init__(
        self,
        transport: Transport,
        prepare: Callable[[Params], requests.PreparedRequest],
        *,
        rate_limiter: RateLimiter,
        clock: Clock,
        redact: Callable[[str], str],
    ) -> None:
        """Keep what each request needs.

        Args:
            transport: Sends a request in bounded time.
            prepare: Makes a request from the parameters that tell pages apart.
            rate_limiter: Counts each request, and hears of each response.
            clock: Where the time of a response comes from.
            redact: Removes from a message of the API what no log may hold.
        """
        self._transport = transport
        self._prepare = prepare
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._redact = redact

    def get(self, params: Params) -> Page:
        """Request a page.

        Raises:
            RateLimitedError: At 429.
            TemporaryError: At 408, 425 and 5xx, if the network fails, or if the
                response is not a page.
            BadRequestError: At 400.
            FatalAPIError: At anything else, such as 401, 403 or a redirect.
        """
        try:
            return self._get(self._prepare(params))
        except BaseException:
            # A late response must not be taken for the response to the next request.
            self._transport.cut()
            raise

    def _get(self, request: requests.PreparedRequest) -> Page:
        requested_at = self._clock.time()
        response = self._send(request)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._error(response)
        try:
            page = parse_page(response.body)
        except ValueError as error:
            raise TemporaryError(str(error)) from None
        sent_at = parse_http_date(response.headers.get("Date", ""))
        return page._replace(requested_at=requested_at, sent_at=sent_at)

    def _send(self, request: requests.PreparedRequest) -> Response:
        try:
            response = self._transport.send(request)
        finally:
            self._rate_limiter.record(self._clock.monotonic())
        self._rate_limiter.update(response.headers, self._clock.monotonic())
        return response

    def _error(self, response: Response) -> Exception:
        """Return what the status of a response means."""
        status, message = response.status, self._error_message(response)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimitedError(message, self._retry_after(response))
        if status in RETRIABLE_4XX or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TemporaryError(message, self._retry_after(response))
        if status == HTTPStatus.BAD_REQUEST:
            return BadRequestError(message)
        return FatalAPIError(message)

    def _error_message(self, response: Response) -> str:
        """Return one line for a person: what the API said, and what to do.

        It quotes `error.message` of the vendor's error envelope, and never the body.
        """
        status, quote = response.status, self._quote(response)
        line = f"the API answered {status}{quote and f': {quote}'}"
        is_redirect = status < HTTPStatus.BAD_REQUEST
        advice = REDIRECT_ADVICE if is_redirect else ADVICE.get(status)
        return f"{line}. {advice}" if advice else line

    def _quote(self, response: Response) -> str:
        """Return what the API says is wrong with a request.

        What it says of its own errors, at 5xx, helps nobody and may quote a lead.
        """
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ""
        try:
            message = json.loads(response.body)["error"]["message"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        if not isinstance(message, str):
            return ""
        return self._redact(message)[:MAX_MESSAGE_LENGTH].rstrip(".")

    def _retry_after(self, response: Response) -> float | None:
        """Return `Retry-After` in seconds, from a number or from an HTTP date."""
        value = response.headers.get("Retry-After", "")
        if seconds := re.match(r"\s*(\d+(?:\.\d+)?)", value, re.ASCII):
            return min(float(seconds[1]), MAX_RETRY_AFTER_SECONDS)
        timestamp = parse_http_date(value)
        if timestamp is None:
            return None
        # The date is by the API's own clock, which `Date` tells: ours may differ.
        now = parse_http_date(response.headers.get("Date", "")) or self._clock.time()
        return timestamp - now
