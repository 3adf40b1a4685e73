"""The rules for deleted leads, one by one, and the days on which others fail."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest

from tap_mega.state.values import MAX_RECENT, Anchor, Part, Refresh, Table
from tap_mega.sync import full_refresh
from testing.simulation import API, DEFAULTS, Faults, SkewedClock, Tap
from testing.simulation import Table as Rows

if t.TYPE_CHECKING:
    from collections.abc import Generator

    from sandbox import Sandbox
    from tap_mega.config.settings import Settings
    from testing.clock import FakeClock
    from testing.harness import Command
    from testing.simulation import Json, Result

    T = t.TypeVar("T")

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
DAY_SECONDS = 86_400
LOOKBACK = dt.timedelta(minutes=1)
START = NOW - LOOKBACK
"""Up to here, a check with the bookmark NOW counts."""

PART = Part(NOW, anchor=Anchor(NOW - DAY, 10))
EARLIER, LATER = {"a": START - DAY / 2}, {"b": NOW}


class World:
    """Three customers, one table of each kind of loader, and one state."""

    def __init__(self, *counts: int) -> None:
        """Start with so many leads for each customer, none of them read."""
        self.clock = SkewedClock()
        self.api = API(self.clock)
        self.tap = Tap(self.api, self.clock)
        self.tables = [Rows(removes_equal=it) for it in (False, True)]
        self.state: Json = {}
        for name, count in zip("abc", counts, strict=False):
            self.api.leads[name], self.api.deleted[name] = {}, {}
            for number in range(count):
                age = 9 * DAY_SECONDS - number
                self.api.add(name, created=age, updated=age)

    def run(self, customers: str = "a", seconds: float = 3600, **more: t.Any) -> Result:
        """Let time pass, run the tap, and load all that it wrote."""
        self.clock.now += seconds
        own = {it: more.pop(it) for it in ("faults", "kill_at") if it in more}
        settings = self.tap.settings(list(customers), **more)
        result = self.tap.run(self.state, settings, **own)
        for table in self.tables:
            for kind, value in result.messages:
                if kind == "row":
                    table.load(value)
                elif kind == "activate":
                    table.activate(value)
        self.state = result.state
        return result

    def is_equal(self) -> bool:
        """Return whether the tables hold the leads that the API lists."""
        listed = {(name, key) for name, it in self.api.leads.items() for key in it}
        return all(set(table.rows) == listed for table in self.tables)


def is_active(result: Result) -> bool:
    """Return whether a run lets the loader remove rows."""
    return bool(result.values("activate"))


def settings(**more: t.Any) -> Settings:
    """Return settings with the defaults for ages and percent."""
    return Tap.settings(t.cast("Tap", None), ["a"], **more)


def answered(
    steps: t.Callable[[full_refresh.Count], Generator[t.Any, t.Any, T]],
    *totals: int | None,
) -> T:
    """Return the result of what counts, given these totals. All must be asked for."""
    rest = list(totals)

    def count(**_since: dt.datetime) -> Generator[t.Any, t.Any, int | None]:
        yield from ()
        return rest.pop(0)

    generator = steps(count)
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert rest == []
    return t.cast("T", end.value.value)


# The check


@pytest.mark.parametrize(
    ("part", "totals", "rows", "is_due"),
    [
        (PART, (12, 2), 10, False),
        (PART.but(recent=EARLIER | LATER), (12, 1), 11, False),
        (PART, (11, 2) * 2, 10, True),
        (PART, (13, 2) * 2, 10, True),
        (PART.but(edited=3), (15, 2), 13, False),
        (PART.but(edited=2), (15, 2) * 2, 12, True),
        (PART.but(edited=3), (11, 2) * 2, 10, True),
        (PART, (11, 2, 12, 2), 10, False),
        (PART.but(recent=EARLIER, has_more=True), (9, 19, 1), 18, False),
        (PART.but(recent=EARLIER, has_more=True), (9, *(18, 1) * 2), 18, True),
    ],
    ids=[
        *("same", "recent", "gone", "missing", "imports", "more-than-edits"),
        *("gone-among-edits", "at-second-look", "many-recent", "gone-of-many"),
    ],
)
def test_a_check_compares_rows_with_leads(
    part: Part, totals: tuple[int, ...], rows: int, *, is_due: bool
) -> None:
    """It moves the anchor, and is due if leads are gone or missing."""
    after = answered(lambda it: full_refresh.check(part, it, LOOKBACK), *totals)
    assert after.anchor == Anchor(START, rows)
    assert (after.is_due, after.edited, after.has_more) == (is_due, 0, False)
    assert set(after.recent) <= set(LATER)


@pytest.mark.parametrize(
    "totals", [(11, 2, 10, 2, 9, 2, 8, 2), (None, None), (12, None)], ids=str
)
def test_a_check_believes_no_contradiction(totals: tuple[int | None, ...]) -> None:
    """After four different answers, or without a total, nothing is decided."""
    assert answered(lambda it: full_refresh.check(PART, it, LOOKBACK), *totals) == PART


def test_a_part_names_a_thousand_new_leads() -> None:
    """Of more, it knows only that there are more."""
    many = PART.knowing(((str(it), NOW) for it in range(1001)), NOW, edits=True)
    assert (len(many.recent), many.has_more, many.edited) == (MAX_RECENT, True, 0)
    assert PART.knowing([("x", NOW - DAY)], NOW, edits=True).edited == 1


# When a refresh begins


@pytest.mark.parametrize(
    ("part", "days", "expected"),
    [
        (PART, 6.9, False),
        (PART, 7, True),
        (PART.but(is_due=True), 0.9, False),
        (PART.but(is_due=True), 1, True),
        (Part(NOW), 0, True),
    ],
)
def test_a_refresh_is_needed_at_some_age(
    part: Part, days: float, *, expected: bool
) -> None:
    """From one day if leads are gone, from seven if not. Ten minutes do not matter."""
    began = NOW - days * DAY + dt.timedelta(minutes=9)
    table = Table(began=began)
    assert full_refresh.is_needed([PART, part], table, settings(), NOW) == expected


def test_no_record_has_the_version_that_is_activated() -> None:
    """A refresh begins two above all records, or at the time of the API."""
    seconds = int(NOW.timestamp())
    for version, expected in ((5, seconds), (seconds, seconds + 2)):
        table = Table().seen(version).opened(NOW)
        assert (table.version, table.refresh_version) == (expected, expected)
        assert expected - 1 > version
    assert Table(version=9).seen(5).version == 9


# Its end


def refreshed(**more: t.Any) -> Part:
    """Return a part whose refresh has read all of ten leads."""
    values = {"read": 10, "unchanged": 10, "old": 10, "is_read": True, **more}
    return PART.but(refresh=Refresh(NOW, **values))


@pytest.mark.parametrize(
    ("part", "totals", "doubt"),
    [
        (refreshed(), (10, 0), ""),
        (refreshed(), (12, 4), ""),
        (refreshed(), (11, 0, 11, 1), ""),
        (refreshed(), (11, 0) * 4, "1 lead that the API counts"),
        (refreshed(rejected=2), (), "2 leads could not be read"),
        (refreshed(), (None, None), "does not say how many"),
        (refreshed(read=0).but(anchor=None), (), "sent no lead"),
    ],
    ids=["all", "fewer", "at-second-look", "skipped", "rejected", "no-total", "none"],
)
def test_a_refresh_proves_that_it_read_all(
    part: Part, totals: tuple[int | None, ...], doubt: str
) -> None:
    """What has not changed since its begin must be no more than what it read."""
    found = answered(lambda it: full_refresh.prove(part, it, settings()), *totals)
    assert (doubt in found) if doubt else not found


@pytest.mark.parametrize(
    ("rows", "percent", "refused"),
    [(12, 20, False), (13, 20, True), (13, 24, False), (10, 0, False), (20, 49, True)],
)
def test_too_many_removals_are_refused(
    rows: int, percent: int, *, refused: bool
) -> None:
    """The line says how many rows would go, and which setting to raise."""
    part = refreshed().but(anchor=Anchor(NOW - DAY, rows))
    limit = settings(full_refresh_max_removed_percent=percent)
    line = full_refresh.find_removals(part, limit)
    assert bool(line) == refused
    if refused:
        assert f"{rows - 10} of {rows} rows" in line
        assert "'full_refresh_max_removed_percent'" in line


def test_its_end_moves_the_anchor_to_its_begin() -> None:
    """Leads that were created since stay known. A first load ends so, too."""
    part = refreshed().but(recent=EARLIER | LATER, is_due=True)
    after = full_refresh.complete(part, LOOKBACK)
    expected = (Anchor(START, 10), LATER, False, None)
    assert (after.anchor, after.recent, after.is_due, after.refresh) == expected
    first = refreshed(is_first=True, is_read=False)
    assert full_refresh.finished(first, LOOKBACK).refresh is None


# Runs


def test_a_million_leads_in_hourly_runs() -> None:
    """Changes are read first, and a refresh takes as many runs as its pages.

    A million leads are 10,000 pages, or ten hours of quota. It is the same with 500
    pages of one lead, and 50 requests per hour.
    """
    world = World(501)
    leads = world.api.leads["a"]
    world.run(page_size=100)
    world.api.delete("a", 250)
    runs = requests = 0
    while not world.is_equal():
        world.api.edit("a", runs * 40)
        changed = max(leads.values(), key=lambda it: it.number)
        result = world.run(
            page_size=1, requests_per_hour=50, full_refresh_min_age_days=0
        )
        assert world.tables[0].rows["a", changed.id][0] == changed.number
        assert result.failures == []
        runs, requests = runs + 1, requests + result.requests
    assert runs == 11  # Ten hours of pages, and changes and checks in each run.
    assert requests <= 500 + runs * 2 + 10


@pytest.mark.parametrize(("is_on", "cost"), [(True, 3), (False, 1)])
def test_what_an_idle_run_costs(*, is_on: bool, cost: int) -> None:
    """One request for changes, and two for the check."""
    world = World(5)
    more: Json = {"emit_activate_version_messages": is_on, "page_size": 100}
    world.run(**more)
    assert world.run(**more).requests == cost


def test_too_few_leads_stop_the_activation_until_a_person_allows_it() -> None:
    """The refresh stays open, so the run that allows it reads no lead again."""
    world = World(10)
    world.run()
    for _ in range(4):
        world.api.delete("a", 0)
    world.run()
    refused = world.run(seconds=DAY_SECONDS)
    assert "4 of 10 rows (40 %)" in "".join(refused.failures)
    allowed = world.run(full_refresh_max_removed_percent=40)
    assert is_active(allowed)
    assert allowed.requests <= 3 + 2
    assert world.is_equal()


def test_a_limit_during_the_proof_is_a_failure_in_the_end() -> None:
    """A run that only repeats what the last one did must not end with success."""
    world = World(3)
    quota: Json = {"requests_per_hour": 3, "full_refresh_max_age_days": 1}
    world.run()
    runs = [world.run(seconds=DAY_SECONDS, **quota) for _ in range(3)]
    assert is_active(runs[-1]) or runs[-1].failures


def test_a_customer_added_to_an_open_full_table_is_read() -> None:
    """The refresh waits for all customers, so none may wait for the refresh."""
    world = World(6, 3)
    for customers, quota in (("a", 2), ("ab", 0), ("ab", 0)):
        names = list(customers)
        limits = world.tap.settings(names, requests_per_hour=quota)
        world.clock.now += 3600
        result = world.tap.run(world.state, limits, reads_all=True)
        world.state = result.state
    assert is_active(result)


# The days on which rows of live leads were removed, or deleted ones stayed


def test_a_customer_that_is_new_keeps_its_rows() -> None:
    """Its first load comes before any activation."""
    world = World(5, 5, 5)
    world.run("ab")
    world.api.delete("a", 0)
    world.run("ab")
    world.run("abc", seconds=2 * DAY_SECONDS, requests_per_hour=3)
    assert not is_active(world.run("ab"))
    world.run("abc")
    world.run("abc")
    assert world.is_equal()


@pytest.mark.parametrize("seconds", [200, 400])
def test_a_clock_that_was_ahead_removes_nothing(seconds: int) -> None:
    """The refresh was interrupted, and the next run has the right clock."""
    world = World(9, 3)
    world.api.offset = seconds
    world.run("ab")
    world.api.delete("a", 0)
    world.run("ab")
    world.clock.offset = seconds
    world.run("ab", seconds=2 * DAY_SECONDS, requests_per_hour=3)
    world.clock.offset = world.api.offset = 0
    world.run("ab", seconds=0)
    live = {("a", it) for it in world.api.leads["a"]}
    assert live <= set(world.tables[0].rows)
    world.run("ab", seconds=2 * DAY_SECONDS)
    assert world.is_equal()


def test_a_late_commit_in_a_refresh_hides_behind_no_deletion() -> None:
    """Its `updated_at` lies before the position, but no lead moves in this order."""
    world = World(9)
    world.run()

    def change() -> None:
        world.api.edit("a", 8, updated=50)
        world.api.delete("a", 0)

    events = dict.fromkeys((3, 5), change)
    more: Json = {
        "full_refresh_max_age_days": 1,
        "full_refresh_max_removed_percent": 100,
    }
    result = world.run(seconds=DAY_SECONDS, faults=Faults(events=events), **more)
    assert is_active(result)
    assert {("a", it) for it in world.api.leads["a"]} <= set(world.tables[0].rows)


def test_a_lead_that_lived_shortly_is_noticed_by_the_next_run() -> None:
    """It was created after the last refresh. One dated 2031 disturbs no count."""
    world = World(3)
    world.api.add("a", created=-1800 * DAY_SECONDS, updated=-1800 * DAY_SECONDS)
    world.run()
    lead = world.api.add("a")
    world.run()
    assert "is_due" not in str(world.run().state)
    del world.api.leads["a"][lead.id]
    assert "is_due" in str(world.run().state)


def test_runs_of_a_few_seconds_come_to_an_end() -> None:
    """Each one reads some pages, and none of them twice."""
    world = World(30)
    runs = [world.run(max_run_seconds=1) for _ in range(8)]
    assert not any(it.failures for it in runs)
    assert world.is_equal()


def test_a_total_that_is_too_large_does_not_hinder() -> None:
    """A constant error of the total cancels."""
    world = World(5)
    world.run(faults=Faults(total_error=1))
    world.api.delete("a", 0)
    world.clock.now += DAY_SECONDS
    world.api.edit("a", 0)
    result = world.run(seconds=0, faults=Faults(total_error=1))
    assert (is_active(result), result.failures) == (True, [])
    assert world.is_equal()


def test_a_stream_without_its_key_is_not_activated(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The log says so, and the state does not believe that rows were removed."""
    maps = {"leads": {"__key_properties__": ["contact_email"]}}
    run = tap(
        config={
            **sandbox.config(),
            "emit_activate_version_messages": True,
            "stream_maps": maps,
        },
        clock=clock,
    )
    assert "leaves no stream with the key" in run.log
    assert "are removed or marked now" not in run.log
    assert {it["type"] for it in run.messages} == {"SCHEMA", "RECORD", "STATE"}
    assert "refresh" not in str(run.state)


def test_a_daily_job_refreshes_each_seventh_day() -> None:
    """The age counts from the begin, and some minutes more or less do not matter."""
    world = World(3)
    world.run()
    days = [is_active(world.run(seconds=DAY_SECONDS - 40)) for _ in range(15)]
    assert [number for number, it in enumerate(days, 1) if it] == [7, 14]
    assert DEFAULTS["full_refresh_max_age_days"] == 7
