"""One request to the API, however it behaves."""

from __future__ import annotations

import functools
import logging
import re
import typing as t
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import backoff
import requests
import urllib3
from singer_sdk import RESTStream
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError

from tap_mega.pagination import CursorPaginator, read_page
from tap_mega.progress import Progress, describe_duration
from tap_mega.quota import Quota
from tap_mega.settings import is_loopback

if t.TYPE_CHECKING:
    from collections.abc import Generator

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Auth, RequestFunc

    from tap_mega.quota import Clock

    Waits: t.TypeAlias = Generator[float, None, None]

LONGEST_BACKOFF_SECONDS = 60
LONGEST_MESSAGE = 200
TRIES_OF_A_TEST = 3
SHORTEST_WAIT_SECONDS = 1
FOREVER_SECONDS = 10**9
SHORT_WAIT_SECONDS = 5
"""A wait up to this length is not worth a line in the log."""

LIMIT_HEADERS = ("Limit", "Reset")
RETRIABLE_4XX = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)

LOG_LEVELS = {"urllib3": logging.ERROR, "singer_sdk.mapper": logging.INFO}
"""Below these levels they tell the query, and so what `search` looks for, or a lead."""

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
        "'customer_id' must be the customer that it is locked to"
    ),
    HTTPStatus.BAD_REQUEST: "Check the setting 'filters'",
    HTTPStatus.NOT_FOUND: "Check the setting 'api_url'",
}
REDIRECT_ADVICE = (
    "Redirects are not followed, lest the token goes to another host. "
    "Check the setting 'api_url'"
)


class RequestRefusedError(FatalAPIError):
    """The API answered 400: it will not answer this request, as it stands."""


class QuotaSpentError(Exception):
    """The API answered 429: the key has no requests left for now."""

    def __init__(self, response: requests.Response) -> None:
        """Keep the answer: its headers say for how long."""
        super().__init__()
        self.response = response


class WaitTooLongError(Exception):
    """More time would have to pass than the setting `max_wait_seconds` allows."""

    def __init__(self, seconds: float, why: str) -> None:
        """Say how many seconds it would be, and why."""
        super().__init__(f"a wait of {describe_duration(seconds)} is needed ({why})")


class MegaStream(RESTStream[str | None]):
    """A list of the MEGA Public CRM Lead API, asked for page by page."""

    allow_redirects = False
    """A redirect would take `x-customer-id` along to another host."""

    _LOG_REQUEST_METRICS = False
    """A line for each request is too much: ten thousand in a night."""

    def __init__(self, tap: Tap, clock: Clock) -> None:
        """Make the stream of a tap, with the clock that its waits go by."""
        super().__init__(tap)
        self.clock = clock
        for name, level in LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)

    @functools.cached_property
    def quota(self) -> Quota:
        """What pacing goes by."""
        return Quota(
            per_minute=self.config["requests_per_minute"],
            per_hour=self.config["requests_per_hour"],
        )

    @functools.cached_property
    def progress(self) -> Progress:
        """How far this sync got."""
        return Progress(self.clock, self.quota, self.config["page_size"])

    @functools.cached_property
    def requests_session(self) -> requests.Session:
        """The one session of the sync, whose connection is used again."""
        session = requests.Session()
        # A proxy that the environment names must not get what is meant for here.
        session.trust_env = not is_loopback(self.url_base)
        # `Session.send`, which the SDK calls, would not look at REQUESTS_CA_BUNDLE.
        found = session.merge_environment_settings(self.url_base, {}, None, None, None)
        session.verify = found["verify"]
        return session

    @property
    def url_base(self) -> str:
        """The setting `api_url`."""
        return str(self.config["api_url"]).rstrip("/")

    @functools.cached_property
    def authenticator(self) -> Auth:
        """The header `Authorization: Bearer mega_…`."""
        return BearerTokenAuthenticator(token=self.config["auth_token"])

    @property
    def http_headers(self) -> dict[str, str]:
        """The other half of the credentials."""
        return {"x-customer-id": self.config["customer_id"]}

    @functools.cached_property
    def user_agent(self) -> str:
        """The setting `user_agent`, by default the tap's name and version."""
        default = f"{self.tap_name}/{self._tap.plugin_version}"
        return str(self.config.get("user_agent", default))

    @property
    def timeout(self) -> int:
        """The setting `request_timeout`; `requests` takes fractions too."""
        return t.cast("int", float(self.config["request_timeout"]))

    def backoff_max_tries(self) -> int:
        """Return the setting `backoff_max_tries`; for `--test` three at the most."""
        tries = int(self.config["backoff_max_tries"])
        return min(tries, TRIES_OF_A_TEST) if self.ABORT_AT_RECORD_COUNT else tries

    def backoff_wait_generator(self) -> Generator[float, None, None]:
        """Yield ever longer waits: 1, 2, 4 … seconds, up to a minute."""
        waits = backoff.expo(max_value=LONGEST_BACKOFF_SECONDS)
        next(waits)  # The first value only starts it.
        yield from waits

    def get_new_paginator(self) -> CursorPaginator:
        """Return what follows `next_cursor`."""
        return CursorPaginator()

    def validate_response(self, response: requests.Response) -> None:
        """Let nothing through but a page of leads.

        Raises:
            QuotaSpentError: At 429.
            RetriableAPIError: At what may pass: 408, 5xx, or an answer that is no page.
            RequestRefusedError: At 400.
            FatalAPIError: At what will not pass by itself, such as 401 or a redirect.
        """
        status = response.status_code
        if status < HTTPStatus.MULTIPLE_CHOICES:
            read_page(response)
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            raise QuotaSpentError(response)
        elif status in RETRIABLE_4XX or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RetriableAPIError(self.response_error_message(response), response)
        elif status == HTTPStatus.BAD_REQUEST:
            raise RequestRefusedError(self.response_error_message(response))
        else:
            raise FatalAPIError(self.response_error_message(response))

    def response_error_message(self, response: requests.Response) -> str:
        """Return one line for a person: what the API said, and what to do.

        It holds `error.message` of the vendor's error envelope, and never the body.
        """
        status = response.status_code
        said = self._error_message(response)
        line = f"the API answered {status}{said and f': {said}'}"
        redirected = status // 100 == HTTPStatus.MULTIPLE_CHOICES // 100
        advice = REDIRECT_ADVICE if redirected else ADVICE.get(status)
        return f"{line}. {advice}" if advice else line

    def _error_message(self, response: requests.Response) -> str:
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        message = message.replace(self.config["auth_token"], "mega_…")
        words = "".join(filter(str.isprintable, " ".join(message.split())))
        return words[:LONGEST_MESSAGE].rstrip(".")

    def checkpoint(self) -> None:
        """Do what has to be done before time may pass: nothing, here."""

    def request_decorator(self, func: RequestFunc) -> RequestFunc:
        """Make a request be tried until there is an answer, at the pace allowed.

        A failed try waits longer each time, up to `backoff_max_tries` of them. Being
        out of quota is no failure: it waits as long as the API says, however often.

        The SDK's own decorator sleeps inside the library `backoff`, by a clock that
        cannot be handed in, and counts a 429 as a failure.

        Raises:
            FatalAPIError: If there is no use in trying on.
            WaitTooLongError: If there would be more than `max_wait_seconds` to wait.
        """

        @functools.wraps(func)
        def request(*args: t.Any) -> requests.Response:
            self.checkpoint()
            failures, waits = 0, self.backoff_wait_generator()
            while True:
                self._pace()
                try:
                    return self._send(func, *args)
                except QuotaSpentError as error:
                    self._wait_for_quota(error.response, waits)
                except (RetriableAPIError, *NETWORK_ERRORS) as error:
                    failures += 1
                    self._wait_to_retry(error, failures, waits)

        return request

    def _send(self, func: RequestFunc, *args: t.Any) -> requests.Response:
        try:
            response = func(*args)
        except NETWORK_ERRORS:
            raise
        except requests.RequestException as error:
            msg = (
                f"The request cannot be sent ({type(error).__name__}). Check the "
                "setting 'api_url', and the proxy settings of the environment"
            )
            raise FatalAPIError(msg) from None
        except (ValueError, urllib3.exceptions.HTTPError):
            msg = "the answer was not of HTTP"
            raise RetriableAPIError(msg) from None
        finally:
            self.quota.spend(self.clock.monotonic())
        self._note_reset(response)
        return response

    def _note_reset(self, response: requests.Response) -> None:
        limit, reset = (response.headers.get(f"RateLimit-{it}") for it in LIMIT_HEADERS)
        if limit and reset and limit.isdecimal() and reset.isdecimal():
            self.quota.refill(float(limit), self.clock.monotonic(), float(reset))

    def _pace(self) -> None:
        seconds = self.quota.wait(self.clock.monotonic())
        if seconds > 0:
            self._wait(seconds, f"{self.quota} are spent", self._longest_wait)

    def _wait_for_quota(self, response: requests.Response, waits: Waits) -> None:
        self._note_reset(response)
        seconds = self._retry_after(response)
        if seconds is None:
            seconds = self.backoff_jitter(next(waits))
        why = "the API answered 429: the key has no quota left"
        self._wait(max(seconds, SHORTEST_WAIT_SECONDS), why, self._longest_wait)

    def _wait_to_retry(self, error: Exception, failures: int, waits: Waits) -> None:
        why, tries = self._describe(error), self.backoff_max_tries()
        if failures >= tries:
            msg = (
                f"Gave up after {failures} tries: {why}. Run again later: the sync "
                "goes on from its last state"
            )
            raise FatalAPIError(msg) from None
        response = error.response if isinstance(error, RetriableAPIError) else None
        asked = self._retry_after(response) if response is not None else None
        seconds = max(self.backoff_jitter(next(waits)), asked or 0)
        self.logger.warning("Try %d of %d failed: %s", failures, tries, why)
        longest = max(self._longest_wait, LONGEST_BACKOFF_SECONDS + 1)
        self._wait(seconds, "before the next try", longest)

    def _describe(self, error: Exception) -> str:
        if isinstance(error, RetriableAPIError):
            return str(error)
        if isinstance(error, requests.exceptions.Timeout):
            return f"no answer within {self.timeout:g} s"
        # The text of these errors holds the query, and so what `search` looks for.
        return f"the connection to {self.url_base} failed ({type(error).__name__})"

    def _retry_after(self, response: requests.Response) -> float | None:
        """Return `Retry-After` in seconds, be it a number or an HTTP date."""
        value = response.headers.get("Retry-After", "")
        if seconds := re.match(r"\s*(\d+(?:\.\d+)?)", value, re.ASCII):
            return min(float(seconds[1]), FOREVER_SECONDS)
        moment = parse_http_date(value)
        if moment is None:
            return None
        # By the API's own clock, where it tells the time: ours may be another.
        now = parse_http_date(response.headers.get("Date", "")) or self.clock.time()
        return moment - now

    @property
    def _longest_wait(self) -> int:
        return int(self.config["max_wait_seconds"])

    def _wait(self, seconds: float, why: str, longest: int) -> None:
        if seconds > longest:
            raise WaitTooLongError(seconds, why)
        if seconds > SHORT_WAIT_SECONDS:
            self.logger.info("Waiting %s: %s", describe_duration(seconds), why)
        self.progress.add_wait(seconds)
        self.clock.sleep(seconds)


def parse_http_date(value: str) -> float | None:
    """Return the seconds since the epoch that an HTTP date names, or None."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
