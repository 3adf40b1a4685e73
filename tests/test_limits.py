"""What bounds a run: `end_date`, `max_run_seconds`; and which streams are replaced."""

from __future__ import annotations

import typing as t

import pytest

from sandbox import Fault, Sandbox
from testing.harness import bookmark_of, full_table, part_of

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Run, Sync

    Json: t.TypeAlias = dict[str, t.Any]


def ids(leads: list[Json]) -> set[str]:
    """Return the ids of leads."""
    return {lead["id"] for lead in leads}


@pytest.fixture
def middle(sandbox: Sandbox) -> str:
    """The `updated_at` of the 150th lead: on the second page."""
    return t.cast("str", sandbox.leads.all()[149]["updated_at"])


def test_only_leads_before_the_end_date_are_read(
    sandbox: Sandbox, sync: Sync, middle: str
) -> None:
    """Paging stops there, and the bookmark is that of the last lead read."""
    run = sync(end_date=middle)
    assert run.code == 0
    assert run.leads == sandbox.leads.all()[:149]
    assert len(sandbox.requests) == 2
    assert bookmark_of(run.state) == run.records[-1]["updated_at"]
    assert "unfinished" not in part_of(run.state)
    assert "WARNING" not in run.log


def test_two_jobs_share_the_leads_without_gap_or_overlap(
    sandbox: Sandbox, sync: Sync, middle: str
) -> None:
    """`start_date` and `end_date` split the leads: exactly one job reads each."""
    new = sync(start_date=middle)
    old = sync(end_date=middle)
    assert ids(new.records) | ids(old.records) == ids(sandbox.leads.all())
    assert not ids(new.records) & ids(old.records)
    again = sync(state=old.state, end_date=middle)
    assert again.code == 0
    assert bookmark_of(again.state) == bookmark_of(old.state)


@pytest.mark.parametrize("end", ["2026-01-01", "2025-12-31T23:59:59Z"])
def test_the_end_date_must_be_after_the_start_date(
    tap: Command, sandbox: Sandbox, end: str
) -> None:
    """Otherwise nothing would ever be read."""
    config = {**sandbox.config(), "start_date": "2026-01-01", "end_date": end}
    run = tap(config=config)
    assert (run.code, run.errors) == (
        1,
        ["The setting 'end_date' must be after 'start_date'"],
    )
    assert not sandbox.requests


def test_a_run_stops_before_the_request_that_would_be_too_late(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """Exit code 0, and the next run resumes exactly there."""
    sandbox.script(Fault(times=None, before=lambda: clock.sleep(7)))
    config: Json = {"max_run_seconds": 10}
    first = sync(**config)
    assert first.code == 0
    assert len(first.records) == 200
    assert "the setting 'max_run_seconds' allows. About 50 leads are left" in first.log
    rest = sync(state=first.state, **config)
    assert first.leads + rest.leads == sandbox.leads.all()


def test_a_run_does_not_wait_past_its_end(clock: FakeClock, sync: Sync) -> None:
    """A wait that ends too late is not begun."""
    run = sync(max_run_seconds=30, requests_per_minute=1)
    assert run.code == 0
    assert clock.sleeps == []
    assert len(run.records) == 100


def versions(run: Run, stream: str = "leads") -> set[int]:
    """Return the versions of the records of a stream."""
    found = (it for it in run.messages if it["type"] == "RECORD")
    return {it["version"] for it in found if it["stream"] == stream}


def test_all_records_of_a_run_have_one_version(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """It is the time of the first answer, later than all versions of runs before."""
    sandbox.script(Fault(times=None, before=lambda: clock.sleep(7)))
    run = sync(emit_activate_version_messages=True)
    assert versions(run) == {1_800_000_007}
    assert "ACTIVATE_VERSION" not in run.stdout
    plain = sync()
    assert not [it for it in plain.messages if "version" in it]


HISTORY = {
    "leads": {"__else__": None, "id": "id", "status": "status"},
    "history": {
        "__source__": "leads",
        "__key_properties__": ["id", "updated_at"],
        "__filter__": "status == 'won'",
        "id": "id",
        "updated_at": "updated_at",
        "__else__": None,
    },
}


def test_only_the_stream_with_the_key_of_leads_is_replaced(
    tap: Command, sync: Sync
) -> None:
    """A history that a stream map makes keeps its rows; its filter does not matter."""
    run = sync(
        catalog=full_table(tap),
        emit_activate_version_messages=True,
        stream_maps=HISTORY,
    )
    assert run.code == 0, run.log
    assert {it["stream"] for it in run.messages if "record" in it} == {
        "leads",
        "history",
    }
    activated = [it for it in run.messages if it["type"] == "ACTIVATE_VERSION"]
    assert [it["stream"] for it in activated] == ["leads"]
