"""Test that the bookmark is correct for any order, timestamps and input state."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest

from sandbox import Fault, Sandbox
from testing.harness import state_of

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Sync

    Json: t.TypeAlias = dict[str, t.Any]


def timestamp_at(clock: FakeClock, seconds: float) -> str:
    """Return the timestamp so many seconds from now in the API's format."""
    then = dt.datetime.fromtimestamp(clock.now + seconds, dt.UTC)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def empty(clock: FakeClock) -> t.Iterator[Sandbox]:
    """Provide an API without leads."""
    with Sandbox(leads=0, clock=clock.time) as sandbox:
        yield sandbox


SAME_ORDER = {
    "2026-06-01T12:00:00Z": "2026-06-01T12:00:00Z",
    "2026-06-01T12:00:00.5Z": "2026-06-01T12:00:00.5Z",
    "2026-06-01T14:00:00.75+02:00": "2026-06-01T12:00:00.75Z",
    "2026-06-01T12:00:01.000Z": "2026-06-01T12:00:01.000Z",
    "2026-06-01T07:30:01.250000-04:30": "2026-06-01T12:00:01.250000Z",
    "2026-06-01T12:00:01.2501Z": "2026-06-01T12:00:01.2501Z",
}
"""What the API sends, and the same in UTC."""


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_timestamps_are_compared_as_time(
    tap: Command, empty: Sandbox, clock: FakeClock, page_size: int
) -> None:
    """Different fraction digits and offsets do not affect order or bookmark."""
    for timestamp in SAME_ORDER:
        empty.leads.add(1, updated_at=timestamp)
    run = tap(config={**empty.config(), "page_size": page_size}, clock=clock)
    assert run.code == 0
    assert [lead["updated_at"] for lead in run.records] == [*SAME_ORDER.values()]
    assert run.bookmark == "2026-06-01T12:00:01.250100Z"
    again = tap(config=empty.config(), state=run.state, clock=clock)
    assert again.code == 0
    assert again.bookmark == run.bookmark


@pytest.mark.parametrize("page_size", [1, 100])
def test_a_lead_dated_in_the_future_hides_nothing(
    tap: Command, empty: Sandbox, clock: FakeClock, page_size: int
) -> None:
    """The bookmark never passes the time at which the sync started."""
    empty.leads.add(1)
    empty.leads.add(1, updated_at="2130-01-01T00:00:00.000Z")
    config = {**empty.config(), "page_size": page_size}
    clock.sleep(5)
    first = tap(config=config, clock=clock)
    assert len(first.records) == 2
    assert first.bookmark == timestamp_at(clock, 0)
    clock.sleep(1000)
    changed = empty.leads.add(1)
    clock.sleep(1000)
    second = tap(config=config, state=first.state, clock=clock)
    assert changed[0] in {lead["id"] for lead in second.records}


def test_a_late_commit_is_read(tap: Command, empty: Sandbox, clock: FakeClock) -> None:
    """The look-back reads a lead that appears behind the bookmark."""
    empty.leads.add(3)
    first = tap(config=empty.config(), clock=clock)
    late = empty.leads.add(1, updated_at=timestamp_at(clock, -59))
    second = tap(config=empty.config(), state=first.state, clock=clock)
    assert late[0] in {lead["id"] for lead in second.records}


@pytest.mark.parametrize("page", [1, 2])
def test_leads_that_change_during_a_sync_are_read_again(
    sandbox: Sandbox, clock: FakeClock, sync: Sync, page: int
) -> None:
    """The newest version of a lead is read in this sync or in the next one."""

    def change() -> None:
        clock.sleep(1)
        sandbox.leads.change(40)

    sandbox.script(Fault(at=page, before=change), Fault(at=page + 1, before=change))
    run = sync()
    rest = sync(state=run.state)
    read = {lead["id"]: lead for lead in run.leads + rest.leads}
    assert read == {lead["id"]: lead for lead in sandbox.leads.all()}


def test_leads_that_disappear_during_a_sync_hide_no_others(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """Leads that are deleted or merged during a sync hide none of the others."""

    def vanish() -> None:
        clock.sleep(1)
        sandbox.leads.delete(20)
        sandbox.leads.merge(20)

    sandbox.script(Fault(at=2, before=vanish))
    run = sync()
    rest = sync(state=run.state)
    read = {lead["id"]: lead for lead in run.leads + rest.leads}
    for lead in sandbox.leads.all():
        assert read[lead["id"]] == lead


def test_a_wrong_order_ends_the_sync(sandbox: Sandbox, sync: Sync) -> None:
    """The sync ends with one line, and the bookmark stays before the disorder."""
    sandbox.script(Fault("disorder", at=2))
    run = sync()
    assert run.code == 1
    assert len(run.errors) == 1
    assert "sorts by updated_at" in run.errors[0]
    assert run.bookmark == run.records[-1]["updated_at"]
    rest = sync(state=run.state)
    ids = {lead["id"] for lead in run.records + rest.records}
    assert ids == {lead["id"] for lead in sandbox.leads.all()}


def test_changed_filters_start_over(sandbox: Sandbox, sync: Sync) -> None:
    """A lead that matches the new filters is read, even behind the bookmark."""
    won: Json = {"filters": {"status": "won"}}
    first = sync(**won)
    same = sync(state=first.state, **won)
    assert len(same.records) < 5
    assert "Starting over" not in same.log
    other = sync(state=first.state, filters={"status": "lost"})
    assert "Starting over: the state was made with other filters" in other.log
    assert len(other.records) == sum(
        lead["status"] == "lost" for lead in sandbox.leads.all()
    )
    none = sync(state=other.state)
    assert len(none.records) == 250
    back = sync(state=none.state)
    assert len(back.records) < 5


def test_an_invalid_bookmark_is_one_line(sandbox: Sandbox, sync: Sync) -> None:
    """A bookmark that is not a date ends the run in one line, before any request."""
    run = sync(state=state_of(sandbox.config(), "soon"))
    assert run.code == 1
    assert len(run.errors) == 1
    assert "replication_key_value" in run.errors[0]
    assert "Traceback" not in run.log
    assert not sandbox.requests
