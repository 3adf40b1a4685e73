"""One request, however the API behaves: what is tried again, and what ends a sync."""

from __future__ import annotations

import email.utils
import json
import socket
import typing as t

import pytest

from sandbox import Fault, Sandbox
from testing.harness import Command, full_table

if t.TYPE_CHECKING:
    from testing.clock import FakeClock

    Json: t.TypeAlias = dict[str, t.Any]

LEAD = {
    "id": "1",
    "customer_id": "2",
    "source_platform": "direct",
    "source_type": "form",
    "status": "won",
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}


def body(**page: t.Any) -> str:
    """Return a page of the API as text, with parts of it replaced."""
    good: Json = {"leads": [LEAD], "total": 1, "next_cursor": None}
    return json.dumps({**good, **page})


PASSING: dict[str, Fault] = {
    "500": Fault("error", status=500),
    "503": Fault("error", status=503),
    "408": Fault("error", status=408),
    "html": Fault("html", status=502),
    "html-200": Fault("html", status=200),
    "reset": Fault("reset"),
    "truncated": Fault("truncate"),
    "no-json": Fault("body", body="{"),
    "nothing": Fault("body", body=""),
    "not-utf-8": Fault("body", body="\udcff"),
    "no-end": Fault("body", body="[" * 100_000),
    "array": Fault("body", body="[]"),
    "text": Fault("body", body='"leads"'),
    "null": Fault("body", body="null"),
    "leads-null": Fault("body", body=body(leads=None)),
    "leads-object": Fault("body", body=body(leads={"id": "1"})),
    "leads-missing": Fault("body", body='{"total": 0, "next_cursor": null}'),
    "cursor-missing": Fault("body", body='{"leads": [], "total": 0}'),
    "cursor-number": Fault("body", body=body(next_cursor=7)),
    "cursor-empty": Fault("body", body=body(next_cursor="")),
    "number-without-end": Fault("body", body='{"leads": [{"x": 1e%s}]}' % (20 * "9")),
    "cursor-no-text": Fault("body", body=body(next_cursor="\ud800")),
    "lead-null": Fault("body", body=body(leads=[None])),
    "lead-without-id": Fault("body", body=body(leads=[{**LEAD, "id": None}])),
    "lead-without-date": Fault("body", body=body(leads=[{**LEAD, "updated_at": ""}])),
    "empty-204": Fault("body", status=204),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("at", [1, 2], ids=["first-page", "second-page"])
def test_what_passes_is_tried_again(
    tap: Command, sandbox: Sandbox, clock: FakeClock, fault: Fault, at: int
) -> None:
    """A fault that passes costs its tries and no lead."""
    fault = Fault(**{**vars(fault), "at": at, "times": 2})
    sandbox.script(fault)
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert run.records == sandbox.leads.all()
    assert len(sandbox.requests) == 3 + 2


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_does_not_pass_ends_in_one_line(
    tap: Command, sandbox: Sandbox, clock: FakeClock, fault: Fault
) -> None:
    """After `backoff_max_tries` a request is given up, with the state gone out."""
    sandbox.script(Fault(**{**vars(fault), "at": 2, "times": None}))
    config = {**sandbox.config(), "backoff_max_tries": 4}
    run = tap(config=config, clock=clock)
    assert run.code == 1
    assert len(sandbox.requests) == 1 + 4
    assert len(run.errors) == 1
    assert run.errors[0].startswith("Gave up after 4 tries: ")
    assert "Traceback" not in run.log
    assert run.messages[-1]["type"] == "STATE"
    assert run.bookmark == run.records[-1]["updated_at"]


def test_a_test_of_the_connection_does_not_try_for_long(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """`--test` gives up after three tries: somebody waits for it."""
    sandbox.script(Fault("error", times=None))
    assert tap("--test", config=sandbox.config(), clock=clock).code == 1
    assert len(sandbox.requests) == 3


def test_waits_between_tries_grow(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Exponential backoff with jitter, up to a minute; ten tries by default."""
    sandbox.script(Fault("error", times=None))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(sandbox.requests) == 10
    expected = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    for wait, least in zip(clock.sleeps, expected, strict=True):
        assert least <= wait <= least + 1
    assert len({wait % 1 for wait in clock.sleeps}) > 1


def test_a_refused_connection_is_tried_again(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Where nobody listens, all tries are spent, and the line names the host."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    run = tap(config={**sandbox.config(), "api_url": url}, clock=clock)
    assert run.code == 1
    assert len(run.errors) == 1
    assert run.errors[0].startswith(
        f"Gave up after 10 tries: the connection to {url} failed (ConnectionError). "
    )


def test_no_answer_in_time_is_tried_again(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A server that hangs costs `request_timeout` and a try."""
    sandbox.script(Fault("hang", at=2))
    run = tap(config={**sandbox.config(), "request_timeout": 0.2}, clock=clock)
    assert run.code == 0
    assert run.records == sandbox.leads.all()
    assert "Try 1 of 10 failed: no response within 0.2 s" in run.log


@pytest.mark.parametrize(("asked", "least"), [("120", 120), ("0", 1), ("soon", 1)])
def test_a_5xx_with_retry_after_waits_as_long(
    tap: Command,
    sandbox: Sandbox,
    clock: FakeClock,
    asked: str,
    least: float,
) -> None:
    """`Retry-After` of a 503 is obeyed; what is no time is not."""
    sandbox.script(Fault("error", retry_after=asked))
    assert tap(config=sandbox.config(), clock=clock).code == 0
    (wait,) = clock.sleeps
    assert least <= wait <= least + 1


def test_a_5xx_with_a_date_waits_until_then(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """`Retry-After` may be an HTTP date."""
    date = email.utils.formatdate(clock.now + 90, usegmt=True)
    sandbox.script(Fault("error", retry_after=date))
    assert tap(config=sandbox.config(), clock=clock).code == 0
    assert clock.sleeps == [90]


FATAL: list[tuple[Fault, list[str]]] = [
    (Fault("error", status=400), ["400", "filters"]),
    (Fault("error", status=401), ["401", "auth_token"]),
    (Fault("error", status=403), ["403", "public_api:leads:read", "customer_id"]),
    (Fault("error", status=404), ["404", "api_url"]),
    (Fault("error", status=409), ["409"]),
    (Fault("html", status=403), ["403", "public_api:leads:read", "customer_id"]),
    (Fault("redirect", location="/elsewhere"), ["302", "api_url", "not followed"]),
    (Fault("redirect", status=308, location="/x"), ["308", "api_url", "not followed"]),
]


@pytest.mark.parametrize(("fault", "words"), FATAL, ids=lambda it: str(it)[:60])
def test_what_will_not_pass_ends_at_once(
    tap: Command, sandbox: Sandbox, clock: FakeClock, fault: Fault, words: list[str]
) -> None:
    """One request, one line that says what to do, exit 1."""
    sandbox.script(Fault(**{**vars(fault), "times": None}))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(sandbox.requests) == 1
    assert len(run.errors) == 1
    assert all(word in run.errors[0] for word in words)
    assert ("scripted by the sandbox" in run.errors[0]) == (fault.kind == "error")
    assert "Traceback" not in run.log
    assert not run.records


WRONG = {
    "auth_token": "mega_wrong",
    "customer_id": "11111111-1111-4111-8111-111111111111",
}


@pytest.mark.parametrize("setting", WRONG)
def test_wrong_credentials_are_named(
    tap: Command, sandbox: Sandbox, clock: FakeClock, setting: str
) -> None:
    """The API's own 401 and 403, for another token and another customer."""
    wrong = {
        "auth_token": "mega_wrong",
        "customer_id": "1" * 8 + "-1111-4111-8111-" + "1" * 12,
    }
    config = {**sandbox.config(), setting: wrong[setting]}
    run = tap(config=config, clock=clock)
    assert run.code == 1
    assert len(run.errors) == 1
    assert f"'{setting}'" in run.errors[0]


def test_a_redirect_is_never_followed(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Nothing reaches the host that a redirect names: it would get the credentials."""
    with Sandbox(leads=1, clock=clock.time) as other:
        sandbox.script(Fault("redirect", location=f"{other.url}/api/agents/crm/leads"))
        assert tap(config=sandbox.config(), clock=clock).code == 1
        assert not other.requests


def test_an_empty_page_with_a_cursor_is_not_the_last(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Leads behind an empty page are read."""
    sandbox.script(Fault("empty_page", at=1), Fault("empty_page", at=3, times=2))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert run.records == sandbox.leads.all()
    assert len(sandbox.requests) == 6


def test_a_cursor_that_comes_twice_ends_the_sync(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Pages without an end are an error after a handful of requests."""
    sandbox.script(Fault("repeat_cursor", at=2, times=None))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(run.errors) == 1
    assert "the same cursor twice" in run.errors[0]
    assert len(sandbox.requests) <= 5


def test_two_cursors_in_turn_end_the_sync_too(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Also a circle of more than one page is seen."""
    pages = [body(next_cursor=cursor) for cursor in ("a", "b", "a", "b", "a", "b")]
    faults = [Fault("body", at, body=page) for at, page in enumerate(pages, start=1)]
    sandbox.script(*faults)
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(sandbox.requests) == 3


@pytest.mark.parametrize("mode", ["incremental", "full table"])
def test_a_refused_cursor_resumes_from_the_last_lead(
    tap: Command, sandbox: Sandbox, clock: FakeClock, mode: str
) -> None:
    """A 400 for a cursor starts over from the last lead's `updated_at`."""
    sandbox.script(Fault("refuse_cursor", at=3))
    catalog = full_table(tap) if mode == "full table" else None
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert run.code == 0
    ids = [lead["id"] for lead in run.records]
    assert set(ids) == {lead["id"] for lead in sandbox.leads.all()}
    assert len(ids) - len(set(ids)) < 10
    resumed = sandbox.requests[3].query
    assert "cursor" not in resumed
    assert resumed["updated_since"] == run.records[199]["updated_at"]


def test_cursors_that_are_always_refused_still_get_on(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Without a single cursor the leads can be read, a page at a time."""
    sandbox.script(Fault("refuse_cursor", times=None))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert {it["id"] for it in run.records} == {it["id"] for it in sandbox.leads.all()}


def test_a_refused_cursor_without_progress_ends_the_sync(
    tap: Command, clock: FakeClock
) -> None:
    """More leads of one moment than a page holds cannot be read without cursors."""
    with Sandbox(leads=0, clock=clock.time) as sandbox:
        sandbox.leads.add(250, updated_at="2026-01-01T00:00:00.000Z")
        sandbox.script(Fault("refuse_cursor", times=None))
        run = tap(config=sandbox.config(), clock=clock)
        assert run.code == 1
        assert len(run.errors) == 1
        assert "400" in run.errors[0]
        assert len(sandbox.requests) == 4
