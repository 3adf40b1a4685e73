"""Test which faults of a request are retried, and which ones end the sync."""

from __future__ import annotations

import datetime as dt
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
    """Return a page of the API as text, with some of its keys replaced."""
    good: Json = {"leads": [LEAD], "total": 1, "next_cursor": None}
    return json.dumps({**good, **page})


TRANSIENT: dict[str, Fault] = {
    "500": Fault("error", status=500),
    "503": Fault("error", status=503),
    "408": Fault("error", status=408),
    "html": Fault("html", status=502),
    "html-200": Fault("html", status=200),
    "reset": Fault("reset"),
    "truncated": Fault("truncate"),
    "invalid-json": Fault("body", body="{"),
    "empty-body": Fault("body", body=""),
    "not-utf-8": Fault("body", body="\udcff"),
    "endless-nesting": Fault("body", body="[" * 100_000),
    "array": Fault("body", body="[]"),
    "text": Fault("body", body='"leads"'),
    "null": Fault("body", body="null"),
    "leads-null": Fault("body", body=body(leads=None)),
    "leads-object": Fault("body", body=body(leads={"id": "1"})),
    "leads-missing": Fault("body", body='{"total": 0, "next_cursor": null}'),
    "cursor-missing": Fault("body", body='{"leads": [], "total": 0}'),
    "cursor-number": Fault("body", body=body(next_cursor=7)),
    "cursor-empty": Fault("body", body=body(next_cursor="")),
    "endless-exponent": Fault("body", body='{"leads": [{"x": 1e%s}]}' % (20 * "9")),
    "cursor-not-unicode": Fault("body", body=body(next_cursor="\ud800")),
    "empty-204": Fault("body", status=204),
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
@pytest.mark.parametrize("at", [1, 2], ids=["first-page", "second-page"])
def test_a_transient_fault_is_retried(
    tap: Command, sandbox: Sandbox, clock: FakeClock, fault: Fault, at: int
) -> None:
    """A transient fault costs attempts, but no lead."""
    fault = Fault(**{**vars(fault), "at": at, "times": 2})
    sandbox.script(fault)
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert run.leads == sandbox.leads.all()
    assert len(sandbox.requests) == 3 + 2


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_a_persistent_fault_ends_in_one_line(
    tap: Command, sandbox: Sandbox, clock: FakeClock, fault: Fault
) -> None:
    """After `backoff_max_tries` attempts the sync fails, and its state is written."""
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


def test_waits_between_attempts_grow(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Waits double with jitter up to a minute, over ten attempts by default."""
    sandbox.script(Fault("error", times=None))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(sandbox.requests) == 10
    expected = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    for wait, least in zip(clock.sleeps, expected, strict=True):
        assert least <= wait <= least + 1
    assert len({wait % 1 for wait in clock.sleeps}) > 1


def test_a_refused_connection_is_retried(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A refused connection is retried, and the error names the host."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    run = tap(config={**sandbox.config(), "api_url": url}, clock=clock)
    assert run.code == 1
    assert len(run.errors) == 1
    assert run.errors[0].startswith(
        f"Gave up after 10 tries: {url} refused the connection. "
    )


def test_a_timeout_is_retried(tap: Command, sandbox: Sandbox, clock: FakeClock) -> None:
    """A server that hangs costs `request_timeout` and one attempt."""
    sandbox.script(Fault("hang", at=2))
    run = tap(config={**sandbox.config(), "request_timeout": 0.2}, clock=clock)
    assert run.code == 0
    assert run.leads == sandbox.leads.all()
    assert "Try 1 of 10 failed: no complete response within 0.2 s" in run.log


@pytest.mark.parametrize(("header", "least"), [("120", 120), ("0", 1), ("soon", 1)])
def test_retry_after_of_a_5xx_is_obeyed(
    tap: Command,
    sandbox: Sandbox,
    clock: FakeClock,
    header: str,
    least: float,
) -> None:
    """The tap obeys `Retry-After` of a 503, and ignores an invalid one."""
    sandbox.script(Fault("error", retry_after=header))
    assert tap(config=sandbox.config(), clock=clock).code == 0
    (wait,) = clock.sleeps
    assert least <= wait <= least + 1


def test_retry_after_of_a_5xx_may_be_a_date(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """`Retry-After` may be an HTTP date."""
    date = email.utils.formatdate(clock.now + 90, usegmt=True)
    sandbox.script(Fault("error", retry_after=date))
    assert tap(config=sandbox.config(), clock=clock).code == 0
    assert clock.sleeps == [90]


PERMANENT: list[tuple[Fault, list[str]]] = [
    (Fault("error", status=400), ["400", "filters"]),
    (Fault("error", status=401), ["401", "auth_token"]),
    (Fault("error", status=403), ["403", "public_api:leads:read", "customer_id"]),
    (Fault("error", status=404), ["404", "api_url"]),
    (Fault("error", status=409), ["409"]),
    (Fault("html", status=403), ["403", "public_api:leads:read", "customer_id"]),
    (Fault("redirect", location="/elsewhere"), ["302", "api_url", "not followed"]),
    (Fault("redirect", status=308, location="/x"), ["308", "api_url", "not followed"]),
]


@pytest.mark.parametrize(("fault", "words"), PERMANENT, ids=lambda it: str(it)[:60])
def test_a_permanent_error_ends_the_sync_at_once(
    tap: Command, sandbox: Sandbox, clock: FakeClock, fault: Fault, words: list[str]
) -> None:
    """A permanent error ends the sync after one request, with one line of advice."""
    sandbox.script(Fault(**{**vars(fault), "times": None}))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(sandbox.requests) == 1
    assert len(run.errors) == 1
    assert all(word in run.errors[0] for word in words)
    assert "scripted by the sandbox" not in run.log
    assert "Traceback" not in run.log
    assert not run.records


WRONG = {
    "auth_token": "mega_wrong",
    "customer_id": "11111111-1111-4111-8111-111111111111",
}


@pytest.mark.parametrize("setting", WRONG)
def test_wrong_credentials_name_the_setting(
    tap: Command, sandbox: Sandbox, clock: FakeClock, setting: str
) -> None:
    """The error for a wrong token or customer ID names the setting."""
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
    """The target of a redirect gets no request, and so no credentials."""
    with Sandbox(leads=1, clock=clock.time) as other:
        sandbox.script(Fault("redirect", location=f"{other.url}/api/agents/crm/leads"))
        assert tap(config=sandbox.config(), clock=clock).code == 1
        assert not other.requests


def test_an_empty_page_with_a_cursor_is_not_the_last(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Leads after an empty page are read."""
    sandbox.script(Fault("empty_page", at=1), Fault("empty_page", at=3, times=2))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert run.leads == sandbox.leads.all()
    assert len(sandbox.requests) == 6


def test_a_repeated_cursor_ends_the_sync(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A repeated cursor ends the sync after a few requests."""
    sandbox.script(Fault("repeat_cursor", at=2, times=None))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(run.errors) == 1
    assert "the same cursor twice" in run.errors[0]
    assert len(sandbox.requests) <= 5


def test_a_cycle_of_cursors_ends_the_sync(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A cycle of two cursors is detected as well."""
    pages = [body(next_cursor=cursor) for cursor in ("a", "b", "a", "b", "a", "b")]
    faults = [Fault("body", at, body=page) for at, page in enumerate(pages, start=1)]
    sandbox.script(*faults)
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(sandbox.requests) == 3


@pytest.mark.parametrize("mode", ["incremental", "full table"])
def test_a_rejected_cursor_resumes_from_the_last_lead(
    tap: Command, sandbox: Sandbox, clock: FakeClock, mode: str
) -> None:
    """After a 400 for a cursor, the sync resumes a second before the last lead."""
    sandbox.script(Fault("refuse_cursor", at=3))
    catalog = full_table(tap) if mode == "full table" else None
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert run.code == 0
    ids = [lead["id"] for lead in run.records]
    assert set(ids) == {lead["id"] for lead in sandbox.leads.all()}
    assert len(ids) - len(set(ids)) < 10
    resumed = sandbox.requests[3].query
    assert "cursor" not in resumed
    last = dt.datetime.fromisoformat(run.records[199]["updated_at"])
    since = dt.datetime.fromisoformat(resumed["updated_since"])
    assert last - since == dt.timedelta(seconds=1)


def test_a_sync_completes_if_every_cursor_is_rejected(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """If the API rejects every cursor, the sync still reads all leads."""
    sandbox.script(Fault("refuse_cursor", times=None))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert {it["id"] for it in run.records} == {it["id"] for it in sandbox.leads.all()}


def test_a_tie_is_read_without_a_single_cursor(tap: Command, clock: FakeClock) -> None:
    """Leads of one timestamp on several pages are read by `offset` instead."""
    with Sandbox(leads=0, clock=clock.time) as sandbox:
        sandbox.leads.add(250, updated_at="2026-01-01T00:00:00.000Z")
        sandbox.script(Fault("refuse_cursor", times=None))
        run = tap(config=sandbox.config(), clock=clock)
        assert run.code == 0
        ids = {lead["id"] for lead in run.records}
        assert ids == {lead["id"] for lead in sandbox.leads.all()}
