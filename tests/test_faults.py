"""Test which faults of a request are retried, and which ones end the sync."""

from __future__ import annotations

import datetime as dt
import json
import typing as t

import pytest

from sandbox import Fault, Sandbox
from testing.harness import full_table

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Json, Sync

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
def test_a_transient_fault_is_retried(
    sandbox: Sandbox, sync: Sync, fault: Fault
) -> None:
    """At the first page and at a later one, it costs attempts, but no lead."""
    sandbox.script(*(Fault(**{**vars(fault), "at": at}) for at in (1, 3)))
    run = sync()
    assert run.code == 0
    assert run.leads == sandbox.leads.all()
    assert len(sandbox.requests) == 3 + 2


def test_a_persistent_fault_ends_in_one_line(sandbox: Sandbox, sync: Sync) -> None:
    """After `backoff_max_tries` attempts the sync fails, and its state is written."""
    sandbox.script(Fault("error", 2, None))
    run = sync(backoff_max_tries=4)
    assert run.code == 1
    assert len(sandbox.requests) == 1 + 4
    assert len(run.errors) == 1
    assert run.errors[0].startswith("Gave up after 4 tries: ")
    assert "Traceback" not in run.log
    assert run.messages[-1]["type"] == "STATE"
    assert run.bookmark == run.records[-1]["updated_at"]


def test_waits_between_attempts_grow(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """Waits double with jitter up to a minute, over ten attempts by default."""
    sandbox.script(Fault("error", times=None))
    run = sync()
    assert run.code == 1
    assert len(sandbox.requests) == 10
    expected = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    for wait, least in zip(clock.sleeps, expected, strict=True):
        assert least <= wait <= least + 1
    assert len({wait % 1 for wait in clock.sleeps}) > 1


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
    sandbox: Sandbox, sync: Sync, fault: Fault, words: list[str]
) -> None:
    """A permanent error ends the sync after one request, with one line of advice."""
    sandbox.script(Fault(**{**vars(fault), "times": None}))
    run = sync()
    assert run.code == 1
    assert len(sandbox.requests) == 1
    assert len(run.errors) == 1
    assert all(word in run.errors[0] for word in words)
    assert "scripted by the sandbox" not in run.log
    assert "Traceback" not in run.log
    assert not run.records


def test_a_redirect_is_never_followed(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """The target of a redirect gets no request, and so no credentials."""
    with Sandbox(leads=1, clock=clock.time) as other:
        sandbox.script(Fault("redirect", location=f"{other.url}/api/agents/crm/leads"))
        assert sync().code == 1
        assert not other.requests


@pytest.mark.parametrize("mode", ["incremental", "full table"])
def test_a_rejected_cursor_resumes_from_the_last_lead(
    tap: Command, sandbox: Sandbox, sync: Sync, mode: str
) -> None:
    """After a 400 for a cursor, the sync resumes a second before the last lead."""
    sandbox.script(Fault("refuse_cursor", at=3))
    catalog = full_table(tap) if mode == "full table" else None
    run = sync(catalog=catalog)
    assert run.code == 0
    ids = [lead["id"] for lead in run.records]
    assert set(ids) == {lead["id"] for lead in sandbox.leads.all()}
    assert len(ids) - len(set(ids)) < 10
    resumed = sandbox.requests[3].query
    assert "cursor" not in resumed
    last = dt.datetime.fromisoformat(run.records[199]["updated_at"])
    since = dt.datetime.fromisoformat(resumed["updated_since"])
    assert last - since == dt.timedelta(seconds=1)
