"""Test full-table syncs: they resume, and take place only when they are needed."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import typing as t

import pytest
from tap_mega.sync.table_refresh import TableRefresh

from sandbox import Fault, Sandbox
from tap_mega.shared.words import counted
from tap_mega.sync.full_refresh import FullRefresh
from testing.harness import Run, as_record, cut, full_table, part_of, selecting
from testing.table import Table

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from testing.clock import FakeClock
    from testing.harness import Command

    Json: t.TypeAlias = dict[str, t.Any]
    Refresh: t.TypeAlias = Callable[..., Run]

DAY = 24 * 3600
NO_QUOTA = Fault("error", 2, None, status=429, retry_after=7200)
"""The first request has quota, and no other one."""


@pytest.fixture
def refresh(tap: Command, sandbox: Sandbox, clock: FakeClock) -> Refresh:
    """Return a function that runs a full-table sync of the sandbox."""
    return refreshing(tap, sandbox, clock)


def refreshing(tap: Command, sandbox: Sandbox, clock: FakeClock) -> Refresh:
    """Return a function that runs a full-table sync, a minute after the last one."""

    def run(state: Json | None = None, **more: t.Any) -> Run:
        clock.sleep(60)
        config = {**sandbox.config(), "emit_activate_version_messages": True, **more}
        catalog = full_table(tap, config)
        return tap(config=config, catalog=catalog, state=state, clock=clock)

    return run


def activated(run: Run) -> list[int]:
    """Return the versions that a run activates."""
    kind = "ACTIVATE_VERSION"
    return [it["version"] for it in run.messages if it["type"] == kind]


def versions(*runs: Run) -> set[int]:
    """Return the versions of the records of runs."""
    messages = itertools.chain.from_iterable(run.messages for run in runs)
    return {it["version"] for it in messages if it["type"] == "RECORD"}


# It resumes


def test_it_resumes_under_the_same_version(refresh: Refresh, sandbox: Sandbox) -> None:
    """Runs that stop for quota are one load: each page is requested once."""
    runs: list[Run] = []
    while not runs or not activated(runs[-1]):
        sandbox.script(Fault("error", 3, None, status=429, retry_after=7200))
        runs.append(refresh(runs[-1].state if runs else None))
    assert [len(run.records) for run in runs] == [200, 50]
    assert [run.code for run in runs] == [0, 0]
    assert versions(*runs) == set(activated(runs[-1]))
    assert "Resuming the full-table sync that began at 2027-01-15T08:0" in runs[1].log
    assert "All leads were read" in runs[-1].log
    assert "refresh" not in part_of(runs[-1].state)
    answered = [it for it in sandbox.requests if it.status == 200]
    # One more than pages: the last total counts only what was left.
    assert len(answered) == math.ceil(250 / 100) + 1


def test_it_resumes_after_kills(refresh: Refresh, sandbox: Sandbox) -> None:
    """After three kills and some changes, the table equals the source."""
    table = Table()
    table.load(refresh())
    sandbox.leads.delete(1)
    state = None
    for share in (0.2, 0.5, 0.7):
        run = cut(refresh(state), share)
        table.load(run)
        state = run.states[-1] if run.states else state
        sandbox.leads.change(1)
    assert len(table.rows) == 250
    last = refresh(state)
    table.load(last)
    assert table.rows == {lead["id"]: as_record(lead) for lead in sandbox.leads.all()}
    assert len(activated(last)) == 1


def test_a_changed_lead_hides_no_other_one(refresh: Refresh, sandbox: Sandbox) -> None:
    """A lead that an earlier run has read does not count for one that never came."""
    sandbox.script(NO_QUOTA)
    first = refresh()
    for lead in first.records[:50]:
        sandbox.leads.update(lead["id"], status="won")
    sandbox.script(Fault("repeat_leads"))
    last = refresh(first.state)
    read = {lead["id"] for lead in first.records + last.records}
    assert len(read) < 250 <= len(first.records + last.records)
    assert not activated(last)
    assert "No ACTIVATE_VERSION" in last.log


def test_a_lead_that_was_left_out_is_remembered(
    refresh: Refresh, sandbox: Sandbox
) -> None:
    """If an earlier run left out a lead, no row is removed, and the next run starts."""
    sandbox.script(Fault("raw_lead", 1, lead="{}"), NO_QUOTA)
    first = refresh()
    assert first.code == 1
    sandbox.script()
    last = refresh(first.state)
    assert (last.code, activated(last)) == (0, [])
    assert "No ACTIVATE_VERSION: 1 lead could not be read" in last.log
    assert len(refresh(last.state).records) == 250


@pytest.mark.parametrize(
    "change",
    [
        {"include_custom_fields": False},
        {"stream_maps": {"leads": {"contact_email": "__NULL__"}}},
        {"start_date": "2020-01-01"},
    ],
    ids=lambda it: next(iter(it)),
)
def test_it_starts_over_if_the_rows_would_differ(
    refresh: Refresh, sandbox: Sandbox, change: Json
) -> None:
    """All rows of a load have the same columns."""
    sandbox.script(NO_QUOTA)
    first = refresh()
    sandbox.script()
    last = refresh(first.state, **change)
    assert len(last.records) == 250
    assert "starts over: its columns or settings have changed" in last.log
    assert versions(first).isdisjoint(activated(last))


def test_it_starts_over_for_another_api(
    refresh: Refresh, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A position is valid only for the API that it was made from."""
    sandbox.script(NO_QUOTA)
    first = refresh()
    with Sandbox(leads=250, clock=clock.time) as other:
        last = refresh(first.state, **other.config())
    assert len(last.records) == 250
    assert "was made with another 'api_url'" in last.log


def test_it_reads_its_last_page_again_if_the_end_is_missing(
    refresh: Refresh, sandbox: Sandbox
) -> None:
    """So the rows that another job has written meanwhile have the version, too."""
    whole = refresh()
    kinds = [it["type"] for it in whole.messages]
    lines = whole.lines[: kinds.index("ACTIVATE_VERSION")]
    killed = Run(-9, "\n".join(lines), "")
    sandbox.leads.add(2)
    last = refresh(killed.state)
    assert len(last.records) == 52
    assert activated(last) == activated(whole)


@pytest.mark.parametrize("names", [["leads"], ["lead_changes"]], ids=str)
def test_rows_without_a_version_are_no_part_of_it(
    refresh: Refresh, sandbox: Sandbox, tap: Command, clock: FakeClock, names: list[str]
) -> None:
    """If an earlier run wrote no versions, or no leads, the sync starts over."""
    sandbox.script(NO_QUOTA)
    emit = names != ["leads"]
    config = {**sandbox.config(), "emit_activate_version_messages": emit}
    catalog = selecting(tap, *names)
    for entry in catalog["streams"]:
        entry["replication_method"] = "FULL_TABLE"
    first = tap(config=config, catalog=catalog, clock=clock)
    assert len(first.records) == 100
    sandbox.script()
    last = refresh(first.state)
    assert len(last.records) == 250
    assert len(activated(last)) == 1


def test_a_refused_cursor_does_not_count_leads_twice(
    refresh: Refresh, sandbox: Sandbox
) -> None:
    """Leads that change after they were read do not raise the total."""
    read = [lead["id"] for lead in refresh().records[:5]]

    def change() -> None:
        for key in read:
            sandbox.leads.update(key, status="won")

    sandbox.script(Fault("refuse_cursor", 2, before=change))
    assert len(activated(refresh())) == 1


def test_a_lead_of_year_one_is_read(refresh: Refresh, sandbox: Sandbox) -> None:
    """Nothing lies a second before the first timestamp."""
    sandbox.leads.add(3, updated_at="0001-01-01T00:00:00Z")
    assert len(refresh(page_size=1).records) == 253


def test_customers_resume_apart(tap: Command, clock: FakeClock) -> None:
    """A customer that is complete waits for the others, and reads one page again."""
    with Sandbox(customers=2, leads=[50, 250], clock=clock.time) as sandbox:
        refresh = refreshing(tap, sandbox, clock)
        sandbox.script(
            Fault("error", 2, None, customer=1, status=429, retry_after=7200)
        )
        first = refresh()
        assert (first.code, activated(first)) == (0, [])
        assert len(first.records) == 150
        sandbox.script()
        last = refresh(first.state)
    assert len(last.records) == 50 + 150
    assert versions(first, last) == set(activated(last))


def test_a_failing_customer_keeps_the_rows_of_all(
    tap: Command, clock: FakeClock
) -> None:
    """The next run reads what is missing, and activates the version for all."""
    with Sandbox(customers=2, leads=[50, 250], clock=clock.time) as sandbox:
        refresh = refreshing(tap, sandbox, clock)
        sandbox.script(Fault("error", 2, None, customer=1, status=403))
        first = refresh()
        assert (first.code, activated(first)) == (1, [])
        sandbox.script()
        last = refresh(first.state)
    assert (last.code, len(last.records)) == (0, 50 + 150)
    assert versions(first, last) == set(activated(last))


def test_the_rows_of_a_customer_that_is_left_out_stay(
    tap: Command, clock: FakeClock
) -> None:
    """The message speaks for the whole table, and the state has another customer."""
    with Sandbox(customers=2, leads=[50, 70], clock=clock.time) as sandbox:
        refresh = refreshing(tap, sandbox, clock)
        first = refresh()
        customers = sandbox.config()["customers"][:1]
        last = refresh(first.state, customers=customers)
    assert len(activated(first)) == 1
    assert (last.code, len(last.records), activated(last)) == (0, 50, [])
    assert "the leads of 1 customer that the settings leave out" in last.log


def test_a_version_that_has_ended_for_some_is_not_resumed() -> None:
    """The loader may have removed rows for it, so it is not a load any more."""
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    parts: list[Json] = [{}, {}]

    def refreshes() -> list[FullRefresh]:
        return [FullRefresh(part, now, "", is_whole=True) for part in parts]

    first = TableRefresh(refreshes())
    first.begin(now)
    assert TableRefresh(refreshes()).resumed_from() == now
    del parts[0]["refresh"]
    last = TableRefresh(refreshes())
    assert last.resumed_from() is None
    last.begin(now)
    assert last.version == first.version + 1


# Only when it is needed


@pytest.fixture
def complete(refresh: Refresh) -> Run:
    """Provide a complete sync."""
    return refresh(full_refresh_when="leads_are_gone")


@pytest.fixture
def when_gone(refresh: Refresh, complete: Run, sandbox: Sandbox) -> Refresh:
    """Return a function that runs a sync that reads leads only if some are gone."""
    sandbox.requests.clear()

    def run(**more: t.Any) -> Run:
        return refresh(complete.state, full_refresh_when="leads_are_gone", **more)

    return run


def test_nothing_is_read_if_no_lead_is_gone(
    when_gone: Refresh, sandbox: Sandbox
) -> None:
    """Two requests find out that no lead has disappeared, whatever was added."""
    sandbox.leads.add(20)
    sandbox.leads.change(30)
    run = when_gone()
    assert (run.code, run.records, activated(run)) == (0, [], [])
    assert [it.query["limit"] for it in sandbox.requests] == ["1", "1"]
    assert "No lead has disappeared: there is nothing to refresh" in run.log


def test_all_leads_are_read_if_one_is_gone(
    when_gone: Refresh, sandbox: Sandbox
) -> None:
    """A lead that was deleted or merged is noticed, although others were added."""
    sandbox.leads.add(20)
    sandbox.leads.delete(1)
    run = when_gone()
    assert len(run.records) == 269
    assert len(activated(run)) == 1
    assert "1 lead has disappeared: reading all" in run.log
    assert len(sandbox.requests) == 2 + 3


def test_all_leads_are_read_after_some_days(
    when_gone: Refresh, clock: FakeClock
) -> None:
    """With counts alone, one lead can hide another one: so age counts, too."""
    clock.sleep(3 * DAY)
    assert when_gone().records == []
    assert len(when_gone(full_refresh_max_age_days=3).records) == 250


def test_all_leads_are_read_for_a_new_column(when_gone: Refresh) -> None:
    """A column that is new gets its values in all rows."""
    run = when_gone(custom_field_types={"budget": "number"})
    assert len(run.records) == 250


def test_all_leads_are_read_without_a_count(refresh: Refresh) -> None:
    """The first sync reads everything, and so does one with `always`."""
    first = refresh(full_refresh_when="leads_are_gone")
    assert len(first.records) == 250
    assert len(refresh(first.state).records) == 250


def test_all_leads_are_read_if_the_api_does_not_say(
    when_gone: Refresh, sandbox: Sandbox
) -> None:
    """Without a total, nobody knows whether a lead has disappeared."""
    sandbox.script(Fault("body", 1, body='{"leads": [], "next_cursor": null}'))
    assert len(when_gone().records) == 250


def test_a_sync_that_stopped_is_no_count(refresh: Refresh, sandbox: Sandbox) -> None:
    """A sync that is under way is resumed, without a look at the counts."""
    sandbox.script(NO_QUOTA)
    first = refresh(full_refresh_when="leads_are_gone")
    sandbox.script()
    last = refresh(first.state, full_refresh_when="leads_are_gone")
    assert len(first.records) + len(last.records) == 250
    assert len(activated(last)) == 1


def test_a_lead_that_was_deleted_between_two_runs_is_gone(
    refresh: Refresh, sandbox: Sandbox
) -> None:
    """Its row has the version of the sync, so the next check has to find it."""
    gone = {"full_refresh_when": "leads_are_gone"}
    sandbox.script(Fault("error", 3, None, status=429, retry_after=7200))
    first = refresh(**gone)
    deleted = sandbox.leads.delete(2)
    stale = [it for it in first.records if it["id"] in deleted]
    assert stale
    sandbox.script()
    second = refresh(first.state, **gone)
    assert len(activated(second)) == 1
    third = refresh(second.state, **gone)
    assert len(third.records) == 248
    assert f"{counted(len(stale), 'lead')} ha" in third.log
    assert refresh(third.state, **gone).records == []


def test_a_sync_that_removed_no_row_leaves_no_count(refresh: Refresh) -> None:
    """Rows of leads that are gone are still there, so the next sync reads all."""
    gone = {"full_refresh_when": "leads_are_gone"}
    first = refresh(emit_activate_version_messages=False, **gone)
    assert len(refresh(first.state, **gone).records) == 250


def test_no_quota_for_the_count_is_a_failure(
    when_gone: Refresh, sandbox: Sandbox
) -> None:
    """A run that could not even count ends with one line and exit code 1."""
    sandbox.script(Fault("error", times=None, status=429, retry_after=7200))
    run = when_gone()
    assert (run.code, run.records, len(run.errors)) == (1, [], 1)
    assert "max_wait_seconds" in run.errors[0]


def test_filters_leave_no_count(refresh: Refresh, sandbox: Sandbox) -> None:
    """A sync that leaves out leads says nothing about those that are gone."""
    state = refresh(start_date="2000-01-01").state
    assert len(refresh(state, full_refresh_when="leads_are_gone").records) == 250
    assert sandbox.requests


def test_one_customer_with_a_lost_lead_is_enough(
    tap: Command, clock: FakeClock
) -> None:
    """All customers share the table, so all of them are read again."""
    with Sandbox(customers=2, leads=[50, 70], clock=clock.time) as sandbox:
        refresh = refreshing(tap, sandbox, clock)
        gone = {"full_refresh_when": "leads_are_gone"}
        none = refresh(refresh(**gone).state, **gone)
        assert none.records == []
        sandbox.customers[1].leads.delete(1)
        last = refresh(none.state, **gone)
        assert len(last.records) == 50 + 69
        assert len(activated(last)) == 1
