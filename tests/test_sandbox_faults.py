"""The sandbox has bad days on request, and can be told so while it runs."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import typing as t

import pytest
import requests

from sandbox import NO_LIMITS, Fault, Limits, Sandbox
from sandbox.__main__ import main
from sandbox.control import USAGE
from sandbox.document import LEADS_PATH
from sandbox.faults import KINDS, read_fault
from tests.test_sandbox import ask, ids, listed, walk

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """A sandbox with 60 leads: three pages of 20."""
    with Sandbox(leads=60, limits=NO_LIMITS, clock=clock.time) as sandbox:
        yield sandbox


def raw(sandbox: Sandbox, **query: str) -> requests.Response:
    """Return an answer that may be none of the document's."""
    headers = {
        "Authorization": f"Bearer {sandbox.token}",
        "x-customer-id": sandbox.customer_id,
    }
    url = sandbox.url + LEADS_PATH
    return requests.get(url, query, headers=headers, timeout=10, allow_redirects=False)


def connect(sandbox: Sandbox) -> http.client.HTTPConnection:
    """Return a connection that leaves everything to its user."""
    host = sandbox.url.removeprefix("http://")
    return http.client.HTTPConnection(host, timeout=10)


# What happens


def test_an_error_has_the_envelope(api: Sandbox) -> None:
    """Any status, with Retry-After as it is given."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    api.script(
        Fault("error", at=1, status=429),
        Fault("error", at=2, status=429, retry_after=7),
        Fault("error", at=3, status=503, retry_after=date),
    )
    answers = [raw(api) for _ in range(3)]
    kinds = [answer.json()["error"]["type"] for answer in answers]
    assert [answer.status_code for answer in answers] == [429, 429, 503]
    assert [answer.headers.get("Retry-After") for answer in answers] == [
        None,
        "7",
        date,
    ]
    assert kinds == ["rate_limit_error", "rate_limit_error", "api_error"]


def test_a_proxy_answers_with_html(api: Sandbox) -> None:
    """Any status, with a page for people."""
    api.script(Fault("html", status=504))
    answer = raw(api)
    assert answer.status_code == 504
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<html>")


def test_a_redirect_leads_where_it_is_told(api: Sandbox) -> None:
    """And who follows it is seen there."""
    elsewhere = api.url + "/elsewhere"
    api.script(Fault("redirect", status=307, location=elsewhere))
    answer = raw(api)
    assert (answer.status_code, answer.headers["Location"]) == (307, elsewhere)
    requests.get(elsewhere, timeout=10)
    assert [x.path for x in api.requests] == [LEADS_PATH, "/elsewhere"]


@pytest.mark.parametrize("body", ["", "[]", '{"leads": null}', "\udcff"])
def test_a_body_may_be_anything(api: Sandbox, body: str) -> None:
    """With status 200 and as JSON, down to bytes that are no text."""
    api.script(Fault("body", body=body))
    answer = raw(api)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert (answer.status_code, answer.content) == (
        200,
        body.encode(errors="surrogateescape"),
    )


def test_a_connection_is_reset(api: Sandbox) -> None:
    """No byte of an answer, and RST instead of an end."""
    api.script(Fault("reset"))
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        raw(api)
    assert [x.status for x in api.requests] == [None]
    assert raw(api).ok


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_answer_is_cut_short(api: Sandbox, encoding: str) -> None:
    """Half of what was announced, then the end."""
    api.script(Fault("truncate"))
    connection = connect(api)
    headers = {
        "Authorization": f"Bearer {api.token}",
        "x-customer-id": api.customer_id,
        "Accept-Encoding": encoding,
    }
    connection.request("GET", LEADS_PATH, headers=headers)
    with pytest.raises(http.client.IncompleteRead) as cut:
        connection.getresponse().read()
    connection.close()
    assert len(cut.value.partial) == pytest.approx(cut.value.expected, abs=1)


def test_a_hanging_answer_never_comes(api: Sandbox) -> None:
    """The client gives up; others are served meanwhile."""
    api.script(Fault("hang"))
    headers = {"Authorization": f"Bearer {api.token}"}
    with pytest.raises(requests.ReadTimeout):
        requests.get(api.url + LEADS_PATH, headers=headers, timeout=0.05)
    assert raw(api).ok
    assert [x.status for x in api.requests] == [None, 200]


def test_a_hanging_answer_does_not_keep_the_sandbox(clock: FakeClock) -> None:
    """When the sandbox ends, whoever still waits is let go."""
    arrived = threading.Event()
    fault = Fault("hang", before=arrived.set)
    with Sandbox(leads=0, clock=clock.time, faults=[fault]) as hanging:
        connection = connect(hanging)
        connection.request("GET", LEADS_PATH)
        assert arrived.wait(10)
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()


def test_a_page_may_be_empty(api: Sandbox) -> None:
    """Its leads come with its next cursor, which is none that was seen before."""
    expected = ids(api.leads.all())
    api.script(Fault("empty_page", at=1), Fault("empty_page", at=3, times=2))
    pages = [ask(api).json()]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(ask(api, cursor=cursor).json())
    cursors = [page["next_cursor"] for page in pages]
    assert [len(page["leads"]) for page in pages] == [0, 20, 0, 0, 20, 20]
    assert [lead["id"] for page in pages for lead in page["leads"]] == expected
    assert len(set(cursors)) == len(cursors)


@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_an_empty_first_page_hides_nobody(api: Sandbox, sort_dir: str) -> None:
    """In either direction."""
    api.script(Fault("empty_page"))
    assert len(walk(api, sort_dir=sort_dir)) == 60


def test_a_cursor_may_repeat(api: Sandbox) -> None:
    """The same page for ever."""
    api.script(Fault("repeat_cursor", times=None))
    cursor = ask(api).json()["next_cursor"]
    pages = [ask(api, cursor=cursor).json() for _ in range(3)]
    assert [page["next_cursor"] for page in pages] == [cursor] * 3
    assert pages[0]["leads"] == pages[2]["leads"]


def test_a_cursor_may_be_refused(api: Sandbox) -> None:
    """400 for a request that has one; a request without one is answered."""
    api.script(Fault("refuse_cursor", times=None))
    cursor = ask(api).json()["next_cursor"]
    answer = ask(api, cursor=cursor)
    assert (answer.status_code, answer.json()["error"]["type"]) == (
        400,
        "invalid_request_error",
    )


def test_a_page_may_be_out_of_order(api: Sandbox) -> None:
    """The same leads, the other way round, and the cursor as ever."""
    good = ask(api).json()
    api.script(Fault("disorder"))
    bad = ask(api).json()
    assert bad == {**good, "leads": good["leads"][::-1]}


def test_leads_may_change_between_pages(api: Sandbox) -> None:
    """What is to happen first happens in the server, just before the answer."""
    first = ids(listed(api))
    api.script(Fault(at=2, before=lambda: api.leads.delete(60)))
    assert ids(listed(api)) == first
    assert listed(api) == []


# When it happens


def test_a_fault_happens_when_and_as_often_as_told(api: Sandbox) -> None:
    """From one request on, several times, and not to other paths."""
    api.script(Fault("error", at=2, times=2), Fault("html", at=3, times=None))
    requests.get(api.url + "/elsewhere", timeout=10)
    statuses = [raw(api).status_code for _ in range(5)]
    assert statuses == [200, 503, 503, 502, 502]
    api.script(Fault("error"))
    assert [raw(api).status_code for _ in range(2)] == [503, 200]


def test_what_the_api_does_not_see_is_not_counted(api: Sandbox) -> None:
    """A fault instead of an answer spends no quota; a spoiled answer does."""
    api.limits = Limits(per_minute=2)
    api.script(Fault("error", times=5), Fault("empty_page", at=6))
    assert [raw(api).status_code for _ in range(8)] == [503] * 5 + [200, 200, 429]


def test_a_fault_that_does_not_exist_is_refused() -> None:
    """And those that do are named."""
    with pytest.raises(ValueError, match="truncate"):
        Fault("explode")


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
        ('body@1:body={"leads": null}', Fault("body", body='{"leads": null}')),
    ],
)
def test_faults_are_read_from_text(text: str, fault: Fault) -> None:
    """As the command line takes them."""
    assert read_fault(text) == fault


@pytest.mark.parametrize("text", ["", "reset@0", "explode@1", "999", "reset@1:x=1"])
def test_text_that_is_no_fault_is_refused(text: str) -> None:
    """With a line that says what is wrong."""
    with pytest.raises(ValueError, match=r"no fault"):
        read_fault(text)


# What a client sees of the server


def test_requests_are_remembered(api: Sandbox, clock: FakeClock) -> None:
    """When, what, with which headers, and how it was answered."""
    ask(api, limit=3, search="a b")
    (received,) = api.requests
    assert (received.time, received.method) == (clock.now, "GET")
    assert (received.path, received.status) == (LEADS_PATH, 200)
    assert received.query == {"limit": "3", "search": "a b"}
    assert received.headers["x-customer-id"] == api.customer_id
    api.requests.clear()
    ask(api, limit=0)
    assert [x.status for x in api.requests] == [400]


def test_answers_are_compressed_for_who_can_read_that(api: Sandbox) -> None:
    """And for nobody else."""
    answer = ask(api, {"Accept-Encoding": "gzip"})
    plain = ask(api, {"Accept-Encoding": "identity"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert answer.content == plain.content


def test_a_connection_serves_many_requests(api: Sandbox) -> None:
    """A hundred requests over one connection do not wait for each other's packets."""
    connection = connect(api)
    connection.connect()
    opened, begin = connection.sock, time.perf_counter()
    for _ in range(100):
        connection.request("GET", "/elsewhere")
        assert connection.getresponse().read()
        assert connection.sock is opened
    connection.close()
    # With Nagle's algorithm and delayed acknowledgements each would take 0.04 s.
    assert time.perf_counter() - begin < 100 * 0.04


def test_a_port_that_is_taken_is_an_error(api: Sandbox) -> None:
    """OSError, and nothing is left running."""
    threads = threading.active_count()
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        Sandbox(leads=0, port=port).__enter__()
    assert threading.active_count() == threads


# From outside


def test_leads_can_be_changed_over_http(api: Sandbox) -> None:
    """Without credentials; each answer says which leads."""
    for name, left in {"change": 60, "add": 65, "merge": 60, "delete": 55}.items():
        answer = requests.post(f"{api.url}/sandbox/{name}?count=5", timeout=10).json()
        assert (answer[name], len(answer["ids"])) == (5, 5)
        assert api.leads.count() == left
    assert not api.requests


def test_faults_and_requests_are_reachable_over_http(api: Sandbox) -> None:
    """A script can be set, and what came of it counted."""
    url = f"{api.url}/sandbox/faults"
    assert requests.post(url, params={"fault": ["reset", "503@2"]}, timeout=10).ok
    with pytest.raises(requests.ConnectionError):
        raw(api)
    assert raw(api).status_code == 503
    counted = requests.get(f"{api.url}/sandbox/requests", timeout=10).json()
    assert counted == {"requests": 2, "by_status": {"no answer": 1, "503": 1}}


@pytest.mark.parametrize(
    "path", ["change?count=61", "delete?count=x", "faults?fault=explode@1"]
)
def test_nonsense_over_http_is_refused(api: Sandbox, path: str) -> None:
    """With the reason."""
    answer = requests.post(f"{api.url}/sandbox/{path}", timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_help_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """And every option."""
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    for kind in KINDS:
        assert f"    {kind.replace('_', '-')} " in said


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_stopped(stop: signal.Signals) -> None:
    """It prints a configuration and a curl line that work, and ends without a word."""
    command = [
        sys.executable,
        "-m",
        "sandbox",
        "--port=0",
        "--leads=3",
        "--fault=401@2",
    ]
    pipes: dict[str, t.Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        said = ""
        while "/sandbox/requests" not in said:
            said += process.stdout.readline() if process.stdout else ""
        config = json.loads(said[said.index("{") : said.index("}") + 1])
        headers = {
            "Authorization": f"Bearer {config['auth_token']}",
            "x-customer-id": config["customer_id"],
        }
        url = config["api_url"] + LEADS_PATH
        statuses = [requests.get(url, headers=headers, timeout=10).status_code]
        statuses.append(requests.get(url, headers=headers, timeout=10).status_code)
        process.send_signal(stop)
        rest = process.communicate(timeout=10)
    assert statuses == [200, 401]
    assert f"'{url}?" in said
    assert all(path in said for _, path, _ in USAGE)
    assert (process.returncode, rest[1]) == (0, "")


def test_the_command_says_that_its_port_is_taken(api: Sandbox) -> None:
    """In one line."""
    port = api.url.rpartition(":")[2]
    with pytest.raises(SystemExit, match=f"port {port} .*--port"):
        main(["--port", port, "--leads", "0"])


@pytest.mark.parametrize(
    "option", ["--leads=-1", "--speed=0", "--fault=explode", "--window=odd"]
)
def test_a_wrong_option_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line that names it."""
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err
