"""Test that the bookmark is correct for any order, timestamps and input state."""

from __future__ import annotations

import datetime as dt
import json
import typing as t

import pytest

from sandbox import Fault, Sandbox
from tap_mega.shared.timestamps import parse_timestamp
from testing.harness import bookmark_of, part_of, state_of

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command

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


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-06-01t12:00:02z", "2026-06-01T12:00:02Z"),
        ("2026-06-30T23:59:60Z", "2026-06-30T23:59:59.999999Z"),
        ("2026-06-30T23:59:60.5+00:00", "2026-06-30T23:59:59.999999Z"),
        ("2026-06-01T12:00:00.123456789Z", "2026-06-01T12:00:00.123456789Z"),
    ],
)
def test_each_notation_of_the_standard_is_accepted(
    tap: Command, sandbox: Sandbox, clock: FakeClock, written: str, read: str
) -> None:
    """Lowercase letters, leap seconds and nanoseconds are valid."""
    lead = {**sandbox.leads.all()[0], "updated_at": written}
    page = {"leads": [lead], "next_cursor": None, "total": 1}
    sandbox.script(Fault("body", body=json.dumps(page)))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert run.records[0]["updated_at"] == read
    assert parse_timestamp(str(run.bookmark)) == parse_timestamp(written)


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


def test_the_bookmark_never_goes_back(
    tap: Command, empty: Sandbox, clock: FakeClock
) -> None:
    """A poll that reads only older leads does not move the bookmark."""
    empty.leads.add(1, updated_at=timestamp_at(clock, -30))
    bookmark = timestamp_at(clock, 0)
    run = tap(
        config=empty.config(), state=state_of(empty.config(), bookmark), clock=clock
    )
    assert len(run.records) == 1
    assert {bookmark_of(it) for it in run.states} == {bookmark}


@pytest.mark.parametrize("page", [1, 2])
def test_leads_that_change_during_a_sync_are_read_again(
    tap: Command, sandbox: Sandbox, clock: FakeClock, page: int
) -> None:
    """The newest version of a lead is read in this sync or in the next one."""

    def change() -> None:
        clock.sleep(1)
        sandbox.leads.change(40)

    sandbox.script(Fault(at=page, before=change), Fault(at=page + 1, before=change))
    run = tap(config=sandbox.config(), clock=clock)
    rest = tap(config=sandbox.config(), state=run.state, clock=clock)
    read = {lead["id"]: lead for lead in run.leads + rest.leads}
    assert read == {lead["id"]: lead for lead in sandbox.leads.all()}


def test_leads_that_disappear_during_a_sync_hide_no_others(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Leads that are deleted or merged during a sync hide none of the others."""

    def vanish() -> None:
        clock.sleep(1)
        sandbox.leads.delete(20)
        sandbox.leads.merge(20)

    sandbox.script(Fault(at=2, before=vanish))
    run = tap(config=sandbox.config(), clock=clock)
    rest = tap(config=sandbox.config(), state=run.state, clock=clock)
    read = {lead["id"]: lead for lead in run.leads + rest.leads}
    for lead in sandbox.leads.all():
        assert read[lead["id"]] == lead


def test_a_wrong_order_ends_the_sync(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The sync ends with one line, and the bookmark stays before the disorder."""
    sandbox.script(Fault("disorder", at=2))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert len(run.errors) == 1
    assert "sorts by updated_at" in run.errors[0]
    assert run.bookmark == run.records[-1]["updated_at"]
    rest = tap(config=sandbox.config(), state=run.state, clock=clock)
    ids = {lead["id"] for lead in run.records + rest.records}
    assert ids == {lead["id"] for lead in sandbox.leads.all()}


def test_changed_filters_start_over(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A lead that matches the new filters is read, even behind the bookmark."""
    won = {**sandbox.config(), "filters": {"status": "won"}}
    lost = {**sandbox.config(), "filters": {"status": "lost"}}
    first = tap(config=won, clock=clock)
    same = tap(config=won, state=first.state, clock=clock)
    assert len(same.records) < 5
    assert "Starting over" not in same.log
    other = tap(config=lost, state=first.state, clock=clock)
    assert "Starting over: the state was made with other filters" in other.log
    assert len(other.records) == sum(
        lead["status"] == "lost" for lead in sandbox.leads.all()
    )
    none = tap(config=sandbox.config(), state=other.state, clock=clock)
    assert len(none.records) == 250
    back = tap(config=sandbox.config(), state=none.state, clock=clock)
    assert len(back.records) < 5


@pytest.mark.parametrize(
    "shape", [{"leads": "2026-01-01T00:00:00Z"}, {"bookmarks": []}], ids=str
)
def test_an_unusable_state_starts_over(
    tap: Command, sandbox: Sandbox, clock: FakeClock, shape: Json
) -> None:
    """A warning gives the reason, and all leads are read."""
    run = tap(config=sandbox.config(), state=shape, clock=clock)
    assert run.code == 0
    assert "Starting over: the state" in run.log
    assert len(run.records) == 250


def test_a_sync_without_filters_saves_none(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Filters that matched nothing do not remain in the state of the next sync."""
    nothing = {**sandbox.config(), "filters": {"status": "nowhere"}}
    first = tap(config=nothing, clock=clock)
    second = tap(config=sandbox.config(), state=first.state, clock=clock)
    assert "filters" not in part_of(second.state)
    third = tap(config=sandbox.config(), state=second.state, clock=clock)
    assert len(third.records) < 5


@pytest.mark.parametrize("shape", [{}, "", {"bookmarks": {"x": {}}}], ids=str)
def test_a_state_without_a_bookmark_is_a_first_run(
    tap: Command, sandbox: Sandbox, clock: FakeClock, shape: object
) -> None:
    """A state without a bookmark starts a first run and logs no warning."""
    run = tap(config=sandbox.config(), state=shape, clock=clock)
    assert run.code == 0
    assert "WARNING" not in run.log
    assert len(run.records) == 250


def test_an_invalid_bookmark_is_one_line(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A bookmark that is not a date ends the run in one line, before any request."""
    run = tap(
        config=sandbox.config(), state=state_of(sandbox.config(), "soon"), clock=clock
    )
    assert run.code == 1
    assert len(run.errors) == 1
    assert "replication_key_value" in run.errors[0]
    assert "Traceback" not in run.log
    assert not sandbox.requests


def test_a_bookmark_from_another_tap_is_accepted(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A bookmark in another notation, for example from another tap, is accepted."""
    foreign = state_of(sandbox.config(), "2026-06-30T14:00:00+02:00", x="y")
    run = tap(config=sandbox.config(), state=foreign, clock=clock)
    assert run.code == 0
    assert sandbox.requests[0].query["updated_since"] == "2026-06-30T11:59:00.000Z"


def test_a_state_of_another_api_starts_over(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A state that was made on one API loses no lead of another."""
    first = tap(config=sandbox.config(), clock=clock)
    with Sandbox(leads=120, clock=clock.time) as other:
        run = tap(config=other.config(), state=first.state, clock=clock)
        assert run.code == 0
        assert run.leads == other.leads.all()
        assert "Starting over: the state was made with another 'api_url'" in run.log
        again = tap(config=other.config(), state=run.state, clock=clock)
        assert len(again.records) < 5
