"""What a response means, and what is said of it."""

from __future__ import annotations

import contextlib
import json
import typing as t
from urllib.parse import unquote

import pytest
import requests
from singer_sdk.exceptions import FatalAPIError

from sandbox import Fault
from tap_mega.api.client import (
    BadRequestError,
    Client,
    RateLimitedError,
    TemporaryError,
)
from tap_mega.api.rate_limit import RateLimiter
from tap_mega.api.transport import Response
from testing.clock import FakeClock

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox import Sandbox
    from tap_mega.api.transport import Transport
    from testing.harness import Command

PAGE = b'{"leads": [], "total": 0, "next_cursor": null}'
URL = "https://api.example.org"


class FakeTransport:
    """Returns or raises what it is given, and counts the cuts."""

    def __init__(self, response: Response | BaseException) -> None:
        """Answer each request with this."""
        self.response = response
        self.cuts = 0

    def send(self, _request: requests.PreparedRequest) -> Response:
        """Return the response, or raise the error."""
        if isinstance(self.response, BaseException):
            raise self.response
        return self.response

    def cut(self) -> None:
        """Count."""
        self.cuts += 1


def client(transport: FakeTransport, limiter: RateLimiter | None = None) -> Client:
    """Return a client that writes messages in capitals, so that it shows."""
    return Client(
        t.cast("Transport", transport),
        lambda params: requests.Request("GET", URL, params=params).prepare(),
        rate_limiter=limiter or RateLimiter(per_minute=0, per_hour=0),
        clock=FakeClock(),
        redact=str.upper,
    )


def error(
    status: int, body: object, headers: Mapping[str, str] | None = None
) -> Exception:
    """Return what the client raises at a response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = FakeTransport(Response(status, headers or {}, content))
    with pytest.raises((TemporaryError, FatalAPIError)) as caught:
        client(transport).get({})
    return caught.value


def envelope(message: object) -> dict[str, t.Any]:
    """Return the vendor's error envelope."""
    return {"error": {"type": "x", "code": "y", "message": message}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, FatalAPIError),
        (302, FatalAPIError),
        (400, BadRequestError),
        (401, FatalAPIError),
        (408, TemporaryError),
        (409, FatalAPIError),
        (425, TemporaryError),
        (429, RateLimitedError),
        (500, TemporaryError),
        (599, TemporaryError),
    ],
)
def test_the_status_decides(status: int, kind: type[Exception]) -> None:
    """The body of an error may be missing, since it was too large."""
    found = error(status, b"")
    assert type(found) is kind
    assert f"the API answered {status}" in str(found)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429])
def test_a_message_is_quoted_after_it_is_redacted(status: int) -> None:
    """The API says what is wrong with the request."""
    assert f"answered {status}: NO SUCH STAGE" in str(
        error(status, envelope("no such stage."))
    )


@pytest.mark.parametrize("status", [500, 503])
def test_what_the_api_says_of_its_own_errors_is_not_quoted(status: int) -> None:
    """It may be about a lead, whose name nothing recognizes."""
    found = error(status, envelope("cannot serialize Zoë Müller"))
    assert str(found) == f"the API answered {status}"


@pytest.mark.parametrize(
    "body",
    [
        envelope(["a", "list"]),
        envelope({"search": "needle"}),
        envelope(7),
        envelope(None),
        {"error": "needle"},
        {"error": []},
        {"message": "needle"},
        ["needle"],
        b"\xff\xfe needle",
        b"[" * 65000,
    ],
    ids=str,
)
def test_only_a_text_is_quoted(body: object) -> None:
    """And only from the place that the vendor documents."""
    assert str(error(409, body)) == "the API answered 409"


def test_a_long_message_is_cut_after_it_is_redacted() -> None:
    """Half a secret would not be recognized."""
    found = str(error(409, envelope("x" * 199 + "ßecret")))
    assert found == "the API answered 409: " + "X" * 199 + "S"


@pytest.mark.parametrize(
    ("response", "cuts"),
    [
        (Response(200, {}, PAGE), 0),
        (Response(200, {}, b"{}"), 1),
        (Response(429, {}, b""), 1),
        (Response(503, {}, b""), 1),
        (TemporaryError("no complete response within 1 s"), 1),
        (SystemExit(143), 1),
    ],
    ids=["page", "no-page", "429", "503", "failure", "stop"],
)
def test_connections_are_cut_after_each_failure(
    response: Response | BaseException, cuts: int
) -> None:
    """A late response has no connection to arrive on."""
    transport = FakeTransport(response)
    with contextlib.suppress(Exception, SystemExit):
        client(transport).get({})
    assert transport.cuts == cuts


def test_a_failed_request_counts_for_the_rate_limit() -> None:
    """The API may have counted it."""
    limiter = RateLimiter(per_minute=1, per_hour=0)
    transport = FakeTransport(TemporaryError("no complete response within 1 s"))
    with pytest.raises(TemporaryError):
        client(transport, limiter).get({})
    assert limiter.delay(FakeClock().monotonic()) > 0


QUOTES = (
    *("all", "query", "values", "lead"),
    *("token", "token_inserted", "token_cut", "token_encoded"),
)


@pytest.mark.parametrize("quotes", QUOTES)
@pytest.mark.parametrize("status", [400, 500])
def test_no_quote_of_the_api_brings_a_secret_into_the_log(
    tap: Command, sandbox: Sandbox, clock: FakeClock, quotes: str, status: int
) -> None:
    """Neither the token, nor what is searched for, nor how to reach a lead."""
    sandbox.script(Fault("quote", times=None, status=status, quotes=quotes))
    search = "Zoë+x@Example.org 64% off"
    config = {**sandbox.config(), "filters": {"search": search}}
    run = tap(config=config, clock=clock)
    assert run.code == 1
    assert ("cannot process" in run.errors[0]) == (status == 400)
    log = unquote(run.log).lower()
    runs = {sandbox.token[at : at + 8] for at in range(len(sandbox.token) - 7)}
    assert not [it for it in runs if it in log]
    assert search.lower() not in log
    assert "example.org" not in log
    for lead in sandbox.leads.all():
        for name in ("contact_email", "contact_phone"):
            assert not lead[name] or lead[name].lower() not in log
