"""One request to the API, and what its response means."""

from __future__ import annotations

import re
import typing as t
from http import HTTPStatus

import requests
import urllib3
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError

from tap_mega.page import parse_page
from tap_mega.timestamps import parse_http_date

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_mega.clock import Clock
    from tap_mega.page import Page
    from tap_mega.rate_limit import RateLimiter

    Params: t.TypeAlias = Mapping[str, t.Any]

MAX_MESSAGE_LENGTH = 200
MAX_RETRY_AFTER_SECONDS = 10**9

RETRIABLE_4XX = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)

NETWORK_ERRORS = (
    ConnectionResetError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ConnectionError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.Timeout,
)

ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: (
        "Check the setting 'auth_token': the token is missing, mistyped or withdrawn"
    ),
    HTTPStatus.FORBIDDEN: (
        "The token needs the scope public_api:leads:read, and the setting "
        "'customer_id' must be the customer that the token is locked to"
    ),
    HTTPStatus.BAD_REQUEST: "Check the setting 'filters'",
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

    def __init__(  # noqa: PLR0913 - each is given by name
        self,
        session: requests.Session,
        prepare: Callable[[Params], requests.PreparedRequest],
        *,
        rate_limiter: RateLimiter,
        clock: Clock,
        timeout: float,
        auth_token: str,
    ) -> None:
        """Keep what each request needs.

        Args:
            session: Whose connections to use.
            prepare: Makes a request from the parameters that tell pages apart.
            rate_limiter: Counts each request, and hears of each response.
            clock: Where the time of a response comes from.
            timeout: Seconds after which a silent server has failed.
            auth_token: What no error message may hold.
        """
        self._session = session
        self._prepare = prepare
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._timeout = timeout
        self._auth_token = auth_token

    def get(self, params: Params) -> Page:
        """Request a page.

        Raises:
            RateLimitedError: At 429.
            TemporaryError: At 408, 425 and 5xx, if the network fails, or if the
                response is not a page.
            BadRequestError: At 400.
            FatalAPIError: At anything else, such as 401, 403 or a redirect.
        """
        requested_at = self._clock.time()
        response = self._send(self._prepare(params))
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._error(response)
        try:
            page = parse_page(response.content)
        except ValueError as error:
            raise TemporaryError(str(error)) from None
        sent_at = parse_http_date(response.headers.get("Date", ""))
        return page._replace(requested_at=requested_at, sent_at=sent_at)

    def _send(self, request: requests.PreparedRequest) -> requests.Response:
        try:
            response = self._session.send(
                request, timeout=self._timeout, allow_redirects=False
            )
        except requests.exceptions.Timeout:
            msg = f"no response within {self._timeout:g} s"
            raise TemporaryError(msg) from None
        except NETWORK_ERRORS as error:
            # Their text holds the query, and so what the filter `search` looks for.
            msg = f"the connection to {_host(request)} failed ({type(error).__name__})"
            raise TemporaryError(msg) from None
        except requests.RequestException as error:
            msg = (
                f"The request cannot be sent ({type(error).__name__}). Check the "
                "setting 'api_url', and the proxy settings of the environment"
            )
            raise FatalAPIError(msg) from None
        except (ValueError, urllib3.exceptions.HTTPError):
            msg = "the response was not HTTP"
            raise TemporaryError(msg) from None
        finally:
            self._rate_limiter.record(self._clock.monotonic())
        self._rate_limiter.update(response.headers, self._clock.monotonic())
        return response

    def _error(self, response: requests.Response) -> Exception:
        """Return what the status of a response means."""
        status, message = response.status_code, self._error_message(response)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimitedError(message, self._retry_after(response))
        if status in RETRIABLE_4XX or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TemporaryError(message, self._retry_after(response))
        if status == HTTPStatus.BAD_REQUEST:
            return BadRequestError(message)
        return FatalAPIError(message)

    def _error_message(self, response: requests.Response) -> str:
        """Return one line for a person: what the API said, and what to do.

        It quotes `error.message` of the vendor's error envelope, and never the body.
        """
        status, quote = response.status_code, self._quote(response)
        line = f"the API answered {status}{quote and f': {quote}'}"
        is_redirect = status < HTTPStatus.BAD_REQUEST
        advice = REDIRECT_ADVICE if is_redirect else ADVICE.get(status)
        return f"{line}. {advice}" if advice else line

    def _quote(self, response: requests.Response) -> str:
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        message = message.replace(self._auth_token, "mega_…")
        words = "".join(filter(str.isprintable, " ".join(message.split())))
        return words[:MAX_MESSAGE_LENGTH].rstrip(".")

    def _retry_after(self, response: requests.Response) -> float | None:
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


def _host(request: requests.PreparedRequest) -> str:
    url = urllib3.util.parse_url(str(request.url))
    return f"{url.scheme}://{url.netloc}"
