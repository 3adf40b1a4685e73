"""One request to the API, and what its response means."""

from __future__ import annotations

import json
import re
import typing as t
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from tap_mega.api.page import parse_page
from tap_mega.shared.errors import (
    BadRequestError,
    RateLimitedError,
    RefusedError,
    RequestError,
    TemporaryError,
)
from tap_mega.shared.timestamps import parse_http_date
from tap_mega.shared.words import listed

if t.TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import requests

    from tap_mega.api.page import Page
    from tap_mega.api.transport import Exchange, Response, Transport
    from tap_mega.shared.clock import Clock

MAX_EPOCH_SECONDS = 4_102_444_800
"""The year 2100. A later `Date` is not plausible."""
MAX_RETRY_AFTER_SECONDS = 10**9

RETRIABLE_4XX = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)

ERROR_TYPES = frozenset(
    {
        "authentication_error",
        "authorization_error",
        "invalid_request_error",
        "not_found_error",
        "rate_limit_error",
        "api_error",
    }
)
"""All values of `error.type` in the vendor's document. Other text is not quoted."""

ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: (
        "Check the setting 'auth_token', or this customer's in the setting "
        "'customers': the token is missing, mistyped or revoked"
    ),
    HTTPStatus.FORBIDDEN: (
        "The token needs the scope public_api:leads:read, and the setting "
        "'customer_id', or that in the setting 'customers', must be the customer that "
        "the token is locked to"
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


class Request(t.NamedTuple):
    """The part in which the requests of a customer differ."""

    params: Mapping[str, t.Any]
    """Parameters of the query, such as `cursor`. Those that are None are left out."""


class Client:
    """Sends the requests of one customer, and says what the responses mean."""

    def __init__(
        self, transport: Transport, base: requests.PreparedRequest, clock: Clock
    ) -> None:
        """Keep what each request needs.

        Args:
            transport: Sends requests. Other customers may use it, too.
            base: What all requests of this customer have in common.
            clock: Where the times of a request and its response come from.
        """
        self._transport, self._base, self._clock = transport, base, clock
        url = urlsplit(str(base.url))
        self._url = url._replace(query="").geturl()
        self._query = dict(parse_qsl(url.query, keep_blank_values=True))

    def start(
        self, request: Request, put: Callable[[Page | Exception], object]
    ) -> Exchange:
        """Send a request, and return at once.

        Args:
            request: Its parameters replace those of the base with the same name.
            put: Takes the page, or an error as `read_response` raises it. It is called
                once, on another thread, unless the exchange is given up before.
        """
        query = {**self._query, **request.params}
        query = {name: it for name, it in query.items() if it is not None}
        prepared = self._base.copy()
        prepared.prepare_url(self._url, query)
        requested_at, started_at = self._clock.time(), self._clock.monotonic()

        def read(response: Response) -> Page:
            arrived_at = self._clock.monotonic()
            try:
                page = read_response(response, query, requested_at)
            except RequestError as error:
                error.headers, error.arrived_at = response.headers, arrived_at
                raise
            return page._replace(arrived_at=arrived_at, took=arrived_at - started_at)

        return self._transport.start(prepared, read, put)


def read_response(
    response: Response, names: Collection[str], requested_at: float
) -> Page:
    """Return the page that a response holds.

    Args:
        response: The response.
        names: The names of the parameters that were sent.
        requested_at: When they were sent, in epoch seconds.

    Raises:
        RateLimitedError: At 429.
        TemporaryError: At 408, 425 and 5xx, or if the response is not a page.
        BadRequestError: At 400.
        RefusedError: At anything else, such as 401, 403 or a redirect.
    """
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise _error(response, names, requested_at)
    try:
        page = parse_page(response.body)
    except ValueError as error:
        raise TemporaryError(str(error)) from None
    return page._replace(
        headers=response.headers, requested_at=requested_at, sent_at=_date(response)
    )


def _error(
    response: Response, names: Collection[str], requested_at: float
) -> TemporaryError | RefusedError:
    """Return what the status of a response means."""
    status, line = response.status, _error_line(response, names)
    if status == HTTPStatus.BAD_REQUEST:
        return BadRequestError(line)
    retry_after = _retry_after(response, requested_at)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(line, retry_after)
    if status in RETRIABLE_4XX or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TemporaryError(line, retry_after)
    return RefusedError(line)


def _error_line(response: Response, names: Collection[str]) -> str:
    """Return one line for a person: what the API answered, and what to do.

    It never quotes the API's own message, which may hold a lead or what was sent.
    """
    status, kind = response.status, _error_type(response.body)
    line = f"the API answered {status}{kind and f' ({kind})'}"
    if status == HTTPStatus.BAD_REQUEST:
        line = f"{line} to a request with {listed([*names], len(names))}"
    is_redirect = status < HTTPStatus.BAD_REQUEST
    advice = REDIRECT_ADVICE if is_redirect else ADVICE.get(status)
    return f"{line}. {advice}" if advice else line


def _error_type(body: bytes) -> str:
    """Return `error.type` of the vendor's error envelope, if it is one of its types."""
    try:
        kind = json.loads(body)["error"]["type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return kind if isinstance(kind, str) and kind in ERROR_TYPES else ""


def _date(response: Response) -> float | None:
    """Return the header `Date` in epoch seconds; None if it is not plausible."""
    seconds = parse_http_date(response.headers.get("Date", ""))
    return seconds if seconds and 0 < seconds < MAX_EPOCH_SECONDS else None


def _retry_after(response: Response, requested_at: float) -> float | None:
    """Return `Retry-After` in seconds, from a number or from an HTTP date."""
    value = response.headers.get("Retry-After", "")
    if number := re.match(r"\s*(\d+(?:\.\d+)?)", value, re.ASCII):
        return min(float(number[1]), MAX_RETRY_AFTER_SECONDS)
    timestamp = parse_http_date(value)
    if timestamp is None:
        return None
    # The date is by the API's clock, as `Date` is: ours may differ.
    seconds = timestamp - (_date(response) or requested_at)
    return min(seconds, MAX_RETRY_AFTER_SECONDS)
