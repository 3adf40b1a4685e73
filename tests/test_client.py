"""What a response means, and what is said of it."""

from __future__ import annotations

import json
import queue
import typing as t

import pytest
import requests

from tap_mega.api.client import ERROR_TYPES, Client, Request, read_response
from tap_mega.api.page import Page
from tap_mega.api.transport import Response, Transport
from tap_mega.openapi import DOCUMENT
from tap_mega.shared.errors import (
    BadRequestError,
    RateLimitedError,
    RefusedError,
    RequestError,
    TemporaryError,
)
from testing.clock import FakeClock
from testing.raw_server import RawServer, response

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from testing.raw_server import Steps

PAGE = b'{"leads": [], "total": 0, "next_cursor": null}'
NOW = 1_800_000_000
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
"""The same time in a header."""


def error(
    status: int, body: object = b"", headers: Mapping[str, str] | None = None
) -> t.Any:
    """Return what a response raises."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestError) as caught:
        read_response(Response(status, headers or {}, content), ["limit"], NOW)
    return caught.value


KINDS = {
    BadRequestError: (400,),
    RateLimitedError: (429,),
    RefusedError: (300, 302, 401, 409),
    TemporaryError: (408, 425, 500, 599),
}


@pytest.mark.parametrize(
    ("kind", "status"), [(kind, it) for kind in KINDS for it in KINDS[kind]]
)
def test_the_status_decides(kind: type[Exception], status: int) -> None:
    """The body of an error may be missing, since it was too large."""
    found = error(status)
    assert type(found) is kind
    assert f"the API answered {status}" in str(found)


def test_a_type_of_error_of_the_document_is_quoted() -> None:
    """The names that were sent tell a person what to look at."""
    envelope = {"error": {"type": "invalid_request_error", "message": "needle"}}
    assert str(error(400, envelope)) == (
        "the API answered 400 (invalid_request_error) to a request with limit. Check "
        "the setting 'filters'. If it is not set, report this line as a bug of tap-mega"
    )


def test_all_types_of_the_document_are_known() -> None:
    """Also those of a later version of it."""
    envelope = DOCUMENT.spec["components"]["schemas"]["Error"]["properties"]["error"]
    assert set(envelope["properties"]["type"]["enum"]) == ERROR_TYPES


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"type": "needle"}},
        {"error": {"type": ["api_error"]}},
        {"error": {"message": "needle"}},
        {"error": "needle"},
        {"error": []},
        ["needle"],
        b"\xff\xfe needle",
        b"[" * 65000,
    ],
    ids=str,
)
def test_nothing_else_of_the_body_is_quoted(body: object) -> None:
    """It may hold a lead, or what was sent."""
    assert str(error(409, body)) == "the API answered 409"


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("30", DATE, 30),
        ("9" * 400, DATE, 10**9),
        ("Fri, 15 Jan 2027 08:00:09 GMT", "", 9),
        ("Fri, 15 Jan 2027 09:00:09 GMT", "Fri, 15 Jan 2027 09:00:00 GMT", 9),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "", 10**9),
        ("soon", DATE, None),
        ("", "", None),
    ],
)
def test_how_long_to_wait(header: str, date: str, seconds: float | None) -> None:
    """The header has seconds, or a date by the clock of the API."""
    headers = {"Retry-After": header, "Date": date}
    found = error(429, headers={k: v for k, v in headers.items() if v})
    assert found.retry_after == seconds


@pytest.mark.parametrize(
    ("date", "sent_at"),
    [
        (DATE, NOW),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("soon", None),
    ],
)
def test_when_a_page_was_sent(date: str, sent_at: float | None) -> None:
    """By the clock of the API, if that can be a clock."""
    page = read_response(Response(200, {"Date": date}, PAGE), [], NOW)
    assert (page.requested_at, page.sent_at) == (NOW, sent_at)


def exchange(reply: bytes, params: Mapping[str, t.Any]) -> tuple[t.Any, str, int]:
    """Return the result, the request line, and the connections of two requests."""

    def respond(_number: int) -> Steps:
        yield reply

    inbox = queue.SimpleQueue[Page | Exception]()
    with RawServer(respond) as server:
        transport = Transport(server.url, 60)
        base = requests.Request("GET", f"{server.url}/x", params={"limit": 9, "a": ""})
        client = Client(transport, base.prepare(), FakeClock(NOW))
        for _ in range(2):
            client.start(Request(params), inbox.put)
            result = inbox.get(timeout=60)
        transport.close()
        line = server.requests[-1].decode().splitlines()[0]
        return result, line, server.connections


def test_parameters_replace_those_of_the_same_name() -> None:
    """A count has a limit of its own. What is None is not sent."""
    params = {"limit": 1, "cursor": "ü &", "updated_since": None}
    _, line, _ = exchange(response(PAGE), params)
    assert line == "GET /x?limit=1&a=&cursor=%C3%BC+%26 HTTP/1.1"


def test_a_page_tells_its_times_and_keeps_the_connection() -> None:
    """The main thread paces by what the headers say."""
    page, _, connections = exchange(response(PAGE, "RateLimit-Limit: 60"), {})
    assert (page.requested_at, page.arrived_at) == (NOW, NOW)
    assert page.headers["ratelimit-limit"] == "60"
    assert connections == 1


@pytest.mark.parametrize("status", [200, 429, 503])
def test_an_error_tells_its_time_and_ends_the_connection(status: int) -> None:
    """A late response has no connection to arrive on."""
    reply = response(b"{}", "RateLimit-Limit: 60", status=status)
    found, _, connections = exchange(reply, {})
    assert isinstance(found, TemporaryError)
    assert (found.arrived_at, found.headers["RateLimit-Limit"]) == (NOW, "60")
    assert connections == 2


def test_a_connection_that_fails_tells_neither_time_nor_headers() -> None:
    """There was no response."""
    found, _, _ = exchange(b"no HTTP\r\n\r\n", {})
    assert isinstance(found, TemporaryError)
    assert (found.arrived_at, dict(found.headers)) == (None, {})
