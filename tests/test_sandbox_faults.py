"""The sandbox fails as scripted."""

from __future__ import annotations

import http.client
import re
import typing as t
from email.utils import parsedate_to_datetime

import pytest

from sandbox import Fault, Limits, Sandbox
from sandbox.document import LEADS_PATH
from sandbox.fault_syntax import read_fault
from tests.test_sandbox import (
    OLD,
    TIMEOUT_SECONDS,
    get,
    ids,
    list_all,
    list_leads,
    send,
)

if t.TYPE_CHECKING:
    from testing.clock import FakeClock

    Json: t.TypeAlias = dict[str, t.Any]

HOUR_SECONDS = 3600
"""A test fails if it waits for so long."""


def request(sandbox: Sandbox) -> http.client.HTTPConnection:
    """Send a request for leads and return the connection, which hides no error."""
    host = sandbox.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
    headers = {"Authorization": f"Bearer {sandbox.token}"}
    headers["x-customer-id"] = sandbox.customer_id
    connection.request("GET", LEADS_PATH, headers=headers)
    return connection


def statuses(sandbox: Sandbox, count: int) -> list[int]:
    """Send so many requests and return the statuses of the responses."""
    return [send(sandbox).status_code for _ in range(count)]


# Responses that the API does not send


@pytest.mark.parametrize(
    ("status", "retry_after", "kind"),
    [
        (429, None, "rate_limit_error"),
        (429, 7, "rate_limit_error"),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", "api_error"),
    ],
)
def test_an_error_has_the_envelope(
    api: Sandbox, status: int, retry_after: t.Any, kind: str
) -> None:
    """The fault sets the status and the Retry-After header."""
    api.script(Fault("error", status=status, retry_after=retry_after))
    found = send(api)
    assert (found.status_code, found.json()["error"]["type"]) == (status, kind)
    header = found.headers.get("Retry-After")
    assert header == (retry_after and str(retry_after))


def test_an_error_can_quote_what_must_not_leak(api: Sandbox) -> None:
    """Its message has the query, the token, even if encoded or cut, and a lead."""
    lead = {"contact_email": "quoted@example.com", "contact_phone": "+1 555 0100"}
    api.leads.add(1, **lead, contact_name="Ann", updated_at=OLD)
    api.script(Fault("quote", status=422))
    error = send(api, search="a&b", limit=3).json()["error"]
    assert error["code"] == 422
    for text in (
        *("search=a%26b&limit=3", "a&b, 3", "Ann, quoted@example.com, +1 555 0100"),
        *(f"; {api.token}; ", f"; {api.token[:-4]}; ", "%6D%65%67%61%5F%30"),
    ):
        assert text in error["message"]


# Connections


@pytest.mark.parametrize("fault", [Fault("hang"), Fault(delay=HOUR_SECONDS)])
def test_a_request_without_a_response_does_not_block_the_end(
    clock: FakeClock, fault: Fault
) -> None:
    """When the sandbox stops, it closes the connection at once."""
    with Sandbox(leads=0, clock=clock.time, faults=[fault]) as sandbox:
        connection = request(sandbox)
        while not sandbox.requests:
            send(sandbox, path="/sandbox/requests")
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize(
    ("part", "start"),
    [
        ("body", rb"HTTP/1.1 200 OK\r\n.*\r\nContent-Length: \d+\r\n\r\n"),
        ("headers", b"H"),
        ("chunks", rb"HTTP/1.1 200 OK\r\n.*Transfer-Encoding: chunked\r\n\r\n"),
        ("continue", rb"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_response_can_take_for_ever(api: Sandbox, part: str, start: bytes) -> None:
    """Only its start arrives before the client gives up."""
    api.script(Fault("trickle", part=part, seconds=HOUR_SECONDS))
    connection, received = request(api), b""
    while not re.fullmatch(start, received, re.DOTALL):
        data = connection.sock.recv(1000)
        assert data
        received += data
    connection.close()


def test_a_response_can_have_two_lengths(api: Sandbox) -> None:
    """The first one is right."""
    api.script(Fault("two_lengths"))
    connection = request(api)
    response = connection.getresponse()
    lengths = response.headers.get_all("Content-Length") or []
    body = response.read()
    connection.close()
    assert [int(length) for length in lengths] == [len(body), len(body) // 2]


def test_responses_can_be_delayed(api: Sandbox) -> None:
    """The delay of the sandbox applies to all responses, that of a fault adds up."""
    api.delay = 0.05
    api.script(Fault("error", at=2, delay=0.1))
    for seconds in (0.05, 0.05 + 0.1):
        assert send(api).elapsed.total_seconds() >= seconds


def test_a_date_can_be_wrong(api: Sandbox, clock: FakeClock) -> None:
    """It is off by the given seconds."""
    api.script(Fault("date", seconds=7200))
    for seconds in (7200, 0):
        date = parsedate_to_datetime(send(api).headers["Date"])
        assert date.timestamp() == clock.now + seconds


# Pages


def test_cursors_can_have_a_lifetime(api: Sandbox) -> None:
    """They are refused once their first page is too many requests old."""
    older = get(api).json()["next_cursor"]
    api.script(Fault("cursor_lifetime", times=None, count=2))
    # The sandbox does not know the age of a cursor that it issued before the fault.
    for query in ({}, {"cursor": older}):
        page = get(api, limit=5, **query).json()
        for _ in range(2):
            page = get(api, limit=5, cursor=page["next_cursor"]).json()
            assert len(page["leads"]) == 5
        response = get(api, limit=5, cursor=page["next_cursor"])
        assert response.status_code == 400
        assert "cursor" in response.json()["error"]["message"]


@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
@pytest.mark.parametrize("limit", [20, 25])
def test_a_page_can_repeat_the_leads_of_the_one_before(
    api: Sandbox, sort_dir: str, limit: int
) -> None:
    """Its cursor is its own, so the next page is the right one again."""
    query = {"sort_dir": sort_dir, "limit": limit}
    expected = ids(list_all(api, **query))
    api.script(Fault("repeat_leads", at=2))
    leads = ids(list_all(api, **query))
    assert leads == expected[:limit] * 2 + expected[2 * limit :]


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, "0"),
        ({"value": 1.5}, "1.5"),
        ({"value": 10**400}, "1" + "0" * 400),
        ({"value": "1e400"}, "1e400"),
        ({"off_by": 1}, "61"),
        ({"off_by": -60}, "0"),
    ],
)
def test_a_total_can_be_wrong(api: Sandbox, options: Json, total: str) -> None:
    """It is any number, or off by a constant. The rest of the page is as usual."""
    expected = get(api).json()
    api.script(Fault("total", **options))
    response = send(api)
    assert f'"total":{total},' in response.text
    assert {**response.json(), "total": 60} == expected
    assert get(api).json() == expected


def test_a_page_can_be_the_last_one_too_early(api: Sandbox) -> None:
    """The option `count` is the number of leads, `value` the total."""
    expected = ids(list_leads(api))
    api.script(
        Fault("early_end"),
        Fault("early_end", at=2, count=7, value=7),
        Fault("early_end", at=3, count=100),
    )
    pages = [get(api).json() for _ in range(3)]
    assert [ids(page["leads"]) for page in pages] == [[], expected[:7], expected]
    assert [page["total"] for page in pages] == [60, 7, 60]
    assert [page["next_cursor"] for page in pages] == [None] * 3


@pytest.mark.parametrize(
    "lead",
    ['{"id": "1", "score": %s}' % ("9" * 5000), '{"x": "\x00\\ud83d\udcff"}', "{"],
)
def test_a_page_can_have_an_impossible_lead(api: Sandbox, lead: str) -> None:
    """It is the last lead of the page and is sent as given, even if it is not JSON."""
    content = send(api).content
    api.script(Fault("raw_lead", lead=lead))
    added = b"," + lead.encode(errors="surrogateescape")
    assert send(api).content == content.replace(b'],"total"', added + b'],"total"')


def test_updated_since_can_miss_its_own_lead(api: Sandbox) -> None:
    """A timestamp that was rounded up is later than the stored one."""
    leads = api.leads.all()
    since = leads[40]["updated_at"]
    expected = [x["id"] for x in leads if x["updated_at"] > since]
    api.script(Fault("rounds_up", times=None))
    query = {"updated_since": since, "created_since": "2020-01-01T00:00:00Z"}
    assert ids(list_leads(api, **query)) == expected
    assert len(list_leads(api, limit=60)) == 60


# The numbers of requests


def test_a_fault_happens_at_its_number_and_times(api: Sandbox) -> None:
    """Requests for other paths do not count."""
    api.script(Fault("error", at=2, times=2), Fault("html", at=3, times=None))
    send(api, path="/elsewhere")
    assert statuses(api, 5) == [200, 503, 503, 502, 502]
    api.script(Fault("error"))
    assert statuses(api, 2) == [503, 200]


def test_a_fault_can_happen_to_every_third_request(api: Sandbox) -> None:
    """`at` is the first request, and `times` still counts how often it happens."""
    api.script(Fault("error", at=2, times=2, every=3))
    assert statuses(api, 9) == [200, 503, 200, 200, 503, 200, 200, 200, 200]
    api.script(Fault("error", at=3, times=None, every=3))
    assert statuses(api, 9) == [200, 200, 503] * 3


def test_replaced_responses_do_not_use_the_rate_limit(api: Sandbox) -> None:
    """A replaced response does not count for the rate limit; a changed one does."""
    api.limits = Limits(per_minute=2)
    api.script(Fault("error", times=5), Fault("empty_page", at=6))
    assert statuses(api, 8) == [503] * 5 + [200, 200, 429]


# Faults as text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("reset@3", Fault("reset", at=3)),
        ("503@5x3", Fault("error", at=5, times=3, status=503)),
        ("429@2:retry_after=7", Fault("error", at=2, status=429, retry_after="7")),
        (
            "redirect@2:status=307:location=http://localhost:1/a?b=c",
            Fault("redirect", at=2, status=307, location="http://localhost:1/a?b=c"),
        ),
        ("none@2x*:every=3:delay=0.5", Fault(at=2, times=None, every=3, delay=0.5)),
        ("two_lengths", Fault("two_lengths")),
        ("early_end:count=3:value=1e400", Fault("early_end", count=3, value="1e400")),
        ('raw_lead:lead={"id": 1}', Fault("raw_lead", lead='{"id": 1}')),
        ('body@1:body={"leads": null}', Fault("body", body='{"leads": null}')),
    ],
)
def test_faults_can_be_written_as_text(text: str, fault: Fault) -> None:
    """The command line and the control route use this syntax."""
    assert read_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a fault"),
        ("explode@1", "no fault is called 'explode': choose from error, html"),
        ("reset@0", "`at` is 0"),
        ("reset@1x-1", "`times` is -1"),
        ("reset@1x*:every=0", "`every` is 0"),
        ("reset@1:every=2", "`every` has no effect"),
        ("reset:delay=nan", "`delay` is nan"),
        ("trickle:part=end", "`part` is end, not body, headers, chunks, continue"),
        ("trickle:seconds=-1", "`seconds` is negative"),
        ("bomb:size=-1", "`size` is -1"),
        ("bomb:size=big", "size that is not a number"),
        ("total:value=01", "value 01 is not a JSON number"),
        ("early_end:count=-1", "`count` is -1"),
        ("999", "`status` is 999"),
        ("reset@1:x=1", "no valid option at 'x=1'"),
        ("reset:status=500", "has no option status"),
        ("redirect:retry_after=1", "has no option retry_after"),
        ("503:status=500", "two values for status"),
        ("redirect:location=/\r\nA: b", "control characters"),
    ],
)
def test_invalid_text_is_not_a_fault(text: str, problem: str) -> None:
    """The error is one line that names the problem."""
    with pytest.raises(ValueError, match=problem) as error:
        read_fault(text)
    assert "\n" not in str(error.value)
