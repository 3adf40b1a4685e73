"""The sandbox fails as scripted."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import re
import threading
import time
import typing as t
import zlib
from email.utils import parsedate_to_datetime

import pytest
import requests

from sandbox import NO_LIMITS, Fault, Limits, Sandbox
from sandbox.document import LEADS_PATH
from sandbox.faults.syntax import read_fault
from tests.test_sandbox import get, ids, list_all, list_leads

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """A sandbox with 60 leads: three pages of 20."""
    with Sandbox(leads=60, limits=NO_LIMITS, clock=clock.time) as sandbox:
        yield sandbox


def get_raw(
    sandbox: Sandbox, *, stream: bool = False, **query: str
) -> requests.Response:
    """Send a request without a check of the response."""
    headers = {
        "Authorization": f"Bearer {sandbox.token}",
        "x-customer-id": sandbox.customer_id,
    }
    url = sandbox.url + LEADS_PATH
    return requests.get(
        url,
        query,
        headers=headers,
        timeout=10,
        allow_redirects=False,
        stream=stream,
    )


def connect(sandbox: Sandbox) -> http.client.HTTPConnection:
    """Return a connection that handles neither errors nor encodings."""
    host = sandbox.url.removeprefix("http://")
    return http.client.HTTPConnection(host, timeout=10)


def request(
    connection: http.client.HTTPConnection,
    sandbox: Sandbox,
    query: str = "",
    accept_encoding: str = "identity",
) -> None:
    """Send a request for leads over a connection."""
    headers = {
        "Authorization": f"Bearer {sandbox.token}",
        "x-customer-id": sandbox.customer_id,
        "Accept-Encoding": accept_encoding,
    }
    connection.request("GET", LEADS_PATH + query, headers=headers)


def read_until_silent(connection: http.client.HTTPConnection) -> bytes:
    """Return what arrives until nothing more does for 0.2 s."""
    connection.sock.settimeout(0.2)
    received = b""
    with contextlib.suppress(TimeoutError):
        while data := connection.sock.recv(1000):
            received += data
    return received


# Kinds of faults


def test_an_error_has_the_envelope(api: Sandbox) -> None:
    """The fault sets the status and the Retry-After header."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    api.script(
        Fault("error", at=1, status=429),
        Fault("error", at=2, status=429, retry_after=7),
        Fault("error", at=3, status=503, retry_after=date),
    )
    responses = [get_raw(api) for _ in range(3)]
    types = [response.json()["error"]["type"] for response in responses]
    assert [response.status_code for response in responses] == [429, 429, 503]
    assert [response.headers.get("Retry-After") for response in responses] == [
        None,
        "7",
        date,
    ]
    assert types == ["rate_limit_error", "rate_limit_error", "api_error"]


def test_an_error_can_be_html(api: Sandbox) -> None:
    """The fault sets the status; the body is an HTML page."""
    api.script(Fault("html", status=504))
    response = get_raw(api)
    assert response.status_code == 504
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.text.startswith("<html>")


def test_a_redirect_has_the_given_location(api: Sandbox) -> None:
    """A request to that location is recorded."""
    elsewhere = api.url + "/elsewhere"
    api.script(Fault("redirect", status=307, location=elsewhere))
    response = get_raw(api)
    assert (response.status_code, response.headers["Location"]) == (307, elsewhere)
    requests.get(elsewhere, timeout=10)
    assert [x.path for x in api.requests] == [LEADS_PATH, "/elsewhere"]


@pytest.mark.parametrize("body", ["", "[]", '{"leads": null}', "\udcff"])
def test_a_body_can_be_any_bytes(api: Sandbox, body: str) -> None:
    """It is sent with status 200 as JSON, even if it is not UTF-8."""
    api.script(Fault("body", body=body))
    response = get_raw(api)
    assert response.headers["Content-Type"].startswith("application/json")
    assert (response.status_code, response.content) == (
        200,
        body.encode(errors="surrogateescape"),
    )


def test_a_connection_is_reset(api: Sandbox) -> None:
    """The client gets RST and no byte of a response."""
    api.script(Fault("reset"))
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        get_raw(api)
    assert [x.status for x in api.requests] == [None]
    assert get_raw(api).ok


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_response_can_be_truncated(api: Sandbox, encoding: str) -> None:
    """The client gets half of the announced body."""
    api.script(Fault("truncate"))
    connection = connect(api)
    request(connection, api, accept_encoding=encoding)
    with pytest.raises(http.client.IncompleteRead) as cut:
        connection.getresponse().read()
    connection.close()
    assert len(cut.value.partial) == pytest.approx(cut.value.expected, abs=1)


def test_a_hanging_request_gets_no_response(api: Sandbox) -> None:
    """The client gives up; other requests get responses meanwhile."""
    api.script(Fault("hang"))
    headers = {"Authorization": f"Bearer {api.token}"}
    with pytest.raises(requests.ReadTimeout):
        requests.get(api.url + LEADS_PATH, headers=headers, timeout=0.05)
    assert get_raw(api).ok
    assert [x.status for x in api.requests] == [None, 200]


def test_a_hanging_request_does_not_block_the_end(clock: FakeClock) -> None:
    """When the sandbox stops, it closes the connections of hanging requests."""
    arrived = threading.Event()
    fault = Fault("hang", before=arrived.set)
    with Sandbox(leads=0, clock=clock.time, faults=[fault]) as hanging:
        connection = connect(hanging)
        connection.request("GET", LEADS_PATH)
        assert arrived.wait(10)
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()


def test_a_page_can_be_empty(api: Sandbox) -> None:
    """Its next cursor, which is new, leads to its leads."""
    expected = ids(api.leads.all())
    api.script(Fault("empty_page", at=1), Fault("empty_page", at=3, times=2))
    pages = [get(api).json()]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(get(api, cursor=cursor).json())
    cursors = [page["next_cursor"] for page in pages]
    assert [len(page["leads"]) for page in pages] == [0, 20, 0, 0, 20, 20]
    assert [lead["id"] for page in pages for lead in page["leads"]] == expected
    assert len(set(cursors)) == len(cursors)


@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_an_empty_first_page_skips_no_lead(api: Sandbox, sort_dir: str) -> None:
    """This holds in both sort directions."""
    api.script(Fault("empty_page"))
    assert len(list_all(api, sort_dir=sort_dir)) == 60


def test_a_cursor_can_repeat(api: Sandbox) -> None:
    """The same page is sent for ever."""
    api.script(Fault("repeat_cursor", times=None))
    cursor = get(api).json()["next_cursor"]
    pages = [get(api, cursor=cursor).json() for _ in range(3)]
    assert [page["next_cursor"] for page in pages] == [cursor] * 3
    assert pages[0]["leads"] == pages[2]["leads"]


def test_a_cursor_can_be_refused(api: Sandbox) -> None:
    """A request with a cursor gives 400, one without gives 200."""
    api.script(Fault("refuse_cursor", times=None))
    cursor = get(api).json()["next_cursor"]
    response = get(api, cursor=cursor)
    assert (response.status_code, response.json()["error"]["type"]) == (
        400,
        "invalid_request_error",
    )


def test_empty_pages_can_follow_for_ever(api: Sandbox) -> None:
    """Each has a new cursor."""
    api.script(Fault("empty_page", times=None))
    check_endless(api, expected=[])


def test_the_same_page_can_follow_for_ever(api: Sandbox) -> None:
    """Each has a new cursor, which leads to the same page."""
    expected = list_leads(api)
    api.script(Fault("same_page", times=None))
    check_endless(api, expected)


def check_endless(sandbox: Sandbox, expected: list[dict[str, object]]) -> None:
    """Check that every page has these leads and a new cursor."""
    page = get(sandbox).json()
    cursors = set()
    for number in range(30):
        assert page["leads"] == expected
        cursors.add(page["next_cursor"])
        assert len(cursors) == number + 1
        page = get(sandbox, cursor=page["next_cursor"]).json()


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
    ("value", "text"),
    [
        (0, "0"),
        ("-5", "-5"),
        (1.5, "1.5"),
        ("1" + "0" * 400, "1" + "0" * 400),
        (10**400, "1" + "0" * 400),
        ("1e400", "1e400"),
    ],
)
def test_a_total_can_be_any_number(api: Sandbox, value: float | str, text: str) -> None:
    """The rest of the page is as usual."""
    expected = get(api).json()
    api.script(Fault("total", value=value))
    response = get_raw(api)
    assert f'"total":{text},' in response.text
    assert {**response.json(), "total": 60} == expected


def test_a_page_can_be_the_last_one_too_early(api: Sandbox) -> None:
    """The option `count` is the number of leads, `value` the total."""
    expected = ids(list_leads(api))
    api.script(Fault("early_end"), Fault("early_end", at=2, count=7, value=7))
    pages = [get(api).json() for _ in range(2)]
    assert [ids(page["leads"]) for page in pages] == [[], expected[:7]]
    assert [page["total"] for page in pages] == [60, 7]
    assert [page["next_cursor"] for page in pages] == [None, None]


@pytest.mark.parametrize(
    "lead",
    [
        '{"id": "1", "score": %s}' % ("9" * 5000),
        '{"id": ' + "[" * 1000 + "]" * 1000 + "}",
        '{"contact_name": "\\ud83d"}',
        '{"contact_name": "\x00"}',
        '{"contact_name": "\udcff"}',
        "{",
    ],
)
def test_a_page_can_have_an_impossible_lead(api: Sandbox, lead: str) -> None:
    """It is the last lead of the page and is sent as given, even if it is not JSON."""
    content = get_raw(api).content
    api.script(Fault("raw_lead", lead=lead))
    added = b"," + lead.encode(errors="surrogateescape")
    assert get_raw(api).content == content.replace(b'],"total"', added + b'],"total"')


def test_cursors_can_have_a_lifetime(api: Sandbox) -> None:
    """They are refused once their first page is too many requests old."""
    api.leads.add(100, updated_at="2030-01-01T00:00:00.000Z")
    api.script(Fault("cursor_lifetime", times=None, count=3))
    for _ in range(2):
        page = get(api, updated_since="2030-01-01T00:00:00Z").json()
        for _ in range(3):
            page = get(api, cursor=page["next_cursor"]).json()
            assert len(page["leads"]) == 20
        response = get(api, cursor=page["next_cursor"])
        assert response.status_code == 400
        assert "cursor" in response.json()["error"]["message"]


def test_the_lifetime_of_an_older_cursor_starts_with_the_fault(api: Sandbox) -> None:
    """The sandbox does not know the age of a cursor that it issued before."""
    cursor = get(api).json()["next_cursor"]
    api.script(Fault("cursor_lifetime", times=None, count=1))
    cursor = get(api, cursor=cursor).json()["next_cursor"]
    assert get(api, cursor=cursor).status_code == 200


def test_updated_since_can_miss_its_own_lead(api: Sandbox) -> None:
    """A timestamp that was rounded up is later than the stored one."""
    leads = api.leads.all()
    since = leads[40]["updated_at"]
    expected = [x["id"] for x in leads if x["updated_at"] > since]
    api.script(Fault("rounds_up", times=None))
    query = {"updated_since": since, "created_since": "2020-01-01T00:00:00Z"}
    assert ids(list_leads(api, **query)) == expected
    assert len(list_leads(api, limit=60)) == 60


def test_a_page_can_be_out_of_order(api: Sandbox) -> None:
    """Its leads are in reverse order; the cursor is unchanged."""
    expected = get(api).json()
    api.script(Fault("disorder"))
    page = get(api).json()
    assert page == {**expected, "leads": expected["leads"][::-1]}


def test_leads_can_change_between_pages(api: Sandbox) -> None:
    """`before` is called in the server just before the response is made."""
    first = ids(list_leads(api))
    api.script(Fault(at=2, before=lambda: api.leads.delete(60)))
    assert ids(list_leads(api)) == first
    assert list_leads(api) == []


@pytest.mark.parametrize(
    ("quotes", "text"),
    [
        ("query", "search=a%26b&limit=3"),
        ("values", "a&b, 3"),
        ("token", Sandbox.token),
        ("token_inserted", f"{Sandbox.token[:34]}-{Sandbox.token[34:]}"),
        ("token_cut", Sandbox.token[:-4]),
        ("token_encoded", "%6D%65%67%61%5F%30"),
        ("lead", "quoted@example.com, +1 555 0100"),
        ("all", "%6D%65%67%61%5F%30"),
    ],
)
def test_an_error_can_quote_the_request_or_a_lead(
    api: Sandbox, quotes: str, text: str
) -> None:
    """An API that quotes secrets in its messages must not leak them into logs."""
    lead = {"contact_email": "quoted@example.com", "contact_phone": "+1 555 0100"}
    name = {"contact_name": "Ann", "updated_at": "2000-01-01T00:00:00Z"}
    api.leads.add(1, **lead, **name)
    api.script(Fault("quote", status=422, quotes=quotes))
    headers = {
        "Authorization": f"Bearer {api.token}",
        "x-customer-id": api.customer_id,
    }
    url = f"{api.url}{LEADS_PATH}?search=a%26b&limit=3"
    response = requests.get(url, headers=headers, timeout=10)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, 422)
    assert text in error["message"]
    assert ("quoted@example.com" in error["message"]) == (quotes in {"lead", "all"})


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_small_body_can_decode_to_a_huge_one(api: Sandbox, status: int) -> None:
    """Without its white space the body is an empty page or an error."""
    size = 20_000_000
    api.script(Fault("bomb", status=status, size=size))
    response = get_raw(api, stream=True)
    wire = response.raw.read(decode_content=False)
    body = zlib.decompress(wire, wbits=31)
    assert response.status_code == status
    assert response.headers["Content-Encoding"] == "gzip"
    assert (len(body), len(wire) < size // 500) == (size, True)
    assert json.loads(body).keys() >= ({"leads"} if status == 200 else {"error"})


@pytest.mark.parametrize("part", ["body", "headers", "chunks"])
def test_a_response_can_trickle(api: Sandbox, part: str) -> None:
    """It is complete in the end."""
    expected = get_raw(api).json()
    api.script(Fault("trickle", part=part, seconds=0))
    assert get_raw(api).json() == expected


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
    api.script(Fault("trickle", part=part, seconds=60))
    connection = connect(api)
    request(connection, api)
    received = read_until_silent(connection)
    connection.close()
    assert re.fullmatch(start, received, re.DOTALL)


def test_100_continue_can_repeat(api: Sandbox) -> None:
    """No final response follows."""
    api.script(Fault("trickle", part="continue", seconds=0.001))
    connection = connect(api)
    request(connection, api)
    received = b""
    while len(received) < 1000:
        received += connection.sock.recv(1000)
    connection.close()
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n" * 40)


def test_a_late_response_follows_an_error(api: Sandbox) -> None:
    """A client that keeps the connection reads the wrong response from then on."""
    api.script(Fault("late", seconds=0.05))
    connection = connect(api)
    request(connection, api, "?limit=1")
    assert connection.getresponse().status == 504
    head = f"GET {LEADS_PATH}?limit=2 HTTP/1.1\r\nHost: localhost\r\n"
    token = f"Authorization: Bearer {api.token}\r\n"
    id_ = f"x-customer-id: {api.customer_id}\r\n\r\n"
    connection.sock.sendall((head + token + id_).encode())
    received = read_until_silent(connection)
    connection.close()
    assert re.findall(rb'"limit": (\d+)', received) == [b"1", b"2"]
    assert [x.status for x in api.requests] == [504, 200]


def test_a_response_can_have_two_lengths(api: Sandbox) -> None:
    """The first one is right."""
    api.script(Fault("two_lengths"))
    connection = connect(api)
    request(connection, api)
    response = connection.getresponse()
    lengths = response.headers.get_all("Content-Length") or []
    body = response.read()
    connection.close()
    assert [int(length) for length in lengths] == [len(body), len(body) // 2]


def test_a_date_can_be_wrong(api: Sandbox, clock: FakeClock) -> None:
    """It is off by the given seconds."""
    api.script(Fault("date", seconds=7200))
    for seconds in (7200, 0):
        date = parsedate_to_datetime(get_raw(api).headers["Date"])
        assert date.timestamp() == clock.now + seconds


def test_the_clock_of_the_api_can_be_wrong(clock: FakeClock) -> None:
    """It dates responses and changes. Requests have the right time."""
    with Sandbox(leads=1, clock=clock.time, clock_offset=-600) as sandbox:
        sandbox.leads.add(1)
        response = get_raw(sandbox)
    date = parsedate_to_datetime(response.headers["Date"])
    updated_at = response.json()["leads"][-1]["updated_at"]
    assert date.timestamp() == clock.now - 600
    assert dt.datetime.fromisoformat(updated_at) == date
    assert sandbox.requests[0].time == clock.now


# The numbers of requests


def test_a_fault_happens_at_its_number_and_times(api: Sandbox) -> None:
    """Requests for other paths do not count."""
    api.script(Fault("error", at=2, times=2), Fault("html", at=3, times=None))
    requests.get(api.url + "/elsewhere", timeout=10)
    statuses = [get_raw(api).status_code for _ in range(5)]
    assert statuses == [200, 503, 503, 502, 502]
    api.script(Fault("error"))
    assert [get_raw(api).status_code for _ in range(2)] == [503, 200]


def test_a_fault_can_happen_to_every_third_request(api: Sandbox) -> None:
    """`at` is the first request, and `times` still counts how often it happens."""
    api.script(Fault("error", at=2, times=2, every=3))
    statuses = [get_raw(api).status_code for _ in range(9)]
    assert statuses == [200, 503, 200, 200, 503, 200, 200, 200, 200]
    api.script(Fault("error", at=3, times=None, every=3))
    statuses = [get_raw(api).status_code for _ in range(9)]
    assert statuses == [200, 200, 503] * 3


def test_responses_can_be_delayed(api: Sandbox) -> None:
    """The delay of the sandbox applies to all responses, that of a fault adds up."""
    api.delay = 0.05
    api.script(Fault("error", at=2, delay=0.1))
    assert get_raw(api).elapsed.total_seconds() >= 0.05
    assert get_raw(api).elapsed.total_seconds() >= 0.05 + 0.1


def test_a_delayed_response_does_not_block_the_end(clock: FakeClock) -> None:
    """When the sandbox stops, it closes the connection at once."""
    start = time.perf_counter()
    with Sandbox(leads=0, clock=clock.time, delay=60) as sandbox:
        connection = connect(sandbox)
        connection.request("GET", LEADS_PATH)
        while not sandbox.requests:
            time.sleep(0.01)
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()
    assert time.perf_counter() - start < 10


def test_replaced_responses_do_not_use_the_rate_limit(api: Sandbox) -> None:
    """A replaced response does not count for the rate limit; a changed one does."""
    api.limits = Limits(per_minute=2)
    api.script(Fault("error", times=5), Fault("empty_page", at=6))
    assert [get_raw(api).status_code for _ in range(8)] == [503] * 5 + [200, 200, 429]


def test_an_unknown_kind_is_an_error() -> None:
    """The error message names the kinds."""
    with pytest.raises(ValueError, match="truncate"):
        Fault("explode")


def test_a_fault_ignores_options_of_other_kinds() -> None:
    """A test can draw the kind and the options independently."""
    assert Fault("reset", status=500, retry_after=7).kind == "reset"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("reset@3", Fault("reset", at=3)),
        ("503@5x3", Fault("error", at=5, times=3, status=503)),
        ("429@2:retry-after=7", Fault("error", at=2, status=429, retry_after="7")),
        ("html@1x*:status=502", Fault("html", times=None, status=502)),
        ("empty-page", Fault("empty_page")),
        (
            "redirect@2:status=307:location=http://localhost:1/a?b=c",
            Fault("redirect", at=2, status=307, location="http://localhost:1/a?b=c"),
        ),
        ("429:customer=1", Fault("error", status=429, customer="1")),
        ("none@2x*:every=3", Fault(at=2, times=None, every=3)),
        ("disorder:delay=0.5", Fault("disorder", delay=0.5)),
        (
            "quote:status=422:quotes=token_cut",
            Fault("quote", status=422, quotes="token_cut"),
        ),
        ("bomb:size=5:status=503", Fault("bomb", size=5, status=503)),
        (
            "trickle:part=chunks:seconds=0.5",
            Fault("trickle", part="chunks", seconds=0.5),
        ),
        ("late:seconds=3", Fault("late", seconds=3)),
        ("two-lengths", Fault("two_lengths")),
        ("date:seconds=-90", Fault("date", seconds=-90)),
        ("total:value=1e400", Fault("total", value="1e400")),
        ("early-end:count=3:value=-5", Fault("early_end", count=3, value="-5")),
        ('raw-lead:lead={"id": 1}', Fault("raw_lead", lead='{"id": 1}')),
        ("cursor-lifetime@1x*:count=3", Fault("cursor_lifetime", 1, None, count=3)),
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
        ("reset@", "is not a fault"),
        ("reset@1.5", "is not a fault"),
        ("explode@1", "no fault is called 'explode'"),
        ("reset@0", "`at` is 0"),
        ("reset@-3", "`at` is -3"),
        ("reset@1x0", "`times` is 0"),
        ("reset@1x-1", "`times` is -1"),
        ("reset@1x*:every=0", "`every` is 0"),
        ("reset@1:every=2", "`every` has no effect"),
        ("reset:delay=-1", "`delay` is -1.0"),
        ("reset:delay=nan", "`delay` is nan"),
        ("quote:quotes=all-of-it", "`quotes` is all-of-it, not all, query, values"),
        ("trickle:part=end", "`part` is end, not body, headers, chunks, continue"),
        ("trickle:seconds=-1", "`seconds` is negative"),
        ("bomb:size=-1", "`size` is -1"),
        ("bomb:size=big", "size that is not a number"),
        ("total:value=many", "value many is not a JSON number"),
        ("total:value=01", "value 01 is not a JSON number"),
        ("early-end:count=-1", "`count` is -1"),
        ("rounds-up:count=1", "has no option count"),
        ("999", "`status` is 999"),
        ("html:status=99", "`status` is 99"),
        ("html:status=OK", "status that is not a number"),
        ("reset@1:x=1", "no valid option at 'x=1'"),
        ("reset:status=500", "has no option status"),
        ("redirect:retry-after=1", "has no option retry-after"),
        ("html:status=500:status=502", "two values for status"),
        ("503:status=500", "two values for status"),
        ("redirect:location=/\r\nA: b", "control characters"),
    ],
)
def test_invalid_text_is_not_a_fault(text: str, problem: str) -> None:
    """The error is one line that names the problem."""
    with pytest.raises(ValueError, match=problem) as error:
        read_fault(text)
    assert "\n" not in str(error.value)
