"""No row of a live lead is removed, and deleted leads are: whatever happens.

Random days of an API, a tap and two kinds of loaders, in memory. More of them:
`DELETED_LEADS_EXAMPLES=5000 python3 dev.py test tests/test_deleted_leads.py`
"""

from __future__ import annotations

import functools
import itertools
import os
import typing as t

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from typing_extensions import override

from tap_mega.shared.timestamps import parse_timestamp
from testing.simulation import API, Faults, SkewedClock, Table, Tap

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from testing.simulation import Json, Key, Result

EXAMPLES = int(os.environ.get("DELETED_LEADS_EXAMPLES", "60"))
STEPS = 40
DAY = 86_400
CUSTOMERS = ["a", "b", "c"]
LIES = ["", "", "empty", "early", "unreadable", "total"]
CHANGES = ["add", "add", "edit", "edit", "delete", "delete"]
CHANGES += ["import", "late", "late_add", "future", "restore"]
RUN_ARGUMENTS = ("reads_all", "faults", "kill_at")
MAX_IDLE_REQUESTS = 3
numbers = st.integers(0, 20)
changes = st.tuples(st.sampled_from(CHANGES), st.sampled_from(CUSTOMERS), numbers)


class DeletedLeads(RuleBasedStateMachine):
    """What may happen to one table."""

    def __init__(self) -> None:
        """Start with an empty table, and three customers, of which one is read."""
        super().__init__()
        self.clock = SkewedClock()
        self.api = API(self.clock)
        self.tap = Tap(self.api, self.clock)
        self.tables = [Table(removes_equal=it) for it in (False, True)]
        self.state: Json = {}
        self.history: list[Json] = [{}]
        self.customers = ["a"]
        self.activated = 0
        self.lie = ""
        for name in CUSTOMERS:
            self.api.leads[name], self.api.deleted[name] = {}, {}

    @initialize(
        lie=st.sampled_from(LIES),
        offset=st.sampled_from([0, 0, -240, 240]),
        counts=st.tuples(numbers, numbers, numbers),
    )
    def begin(self, lie: str, offset: int, counts: tuple[int, ...]) -> None:
        """Fill the API. It tells lies of one kind."""
        self.lie, self.api.offset = lie, offset
        for name, count in zip(CUSTOMERS, counts, strict=True):
            for number in range(count):
                age = 40 * DAY - number * 3600
                self.api.add(name, created=age, updated=age)

    @rule(seconds=st.sampled_from([30, 600, 3600, DAY, DAY, 8 * DAY]))
    def time_passes(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.now += seconds

    @rule(several=st.lists(changes, min_size=1, max_size=6))
    def leads_change(self, several: list[tuple[str, str, int]]) -> None:
        """Let others change leads."""
        for it in several:
            self.change(*it)

    def change(self, kind: str, customer: str, number: int) -> None:
        """Change a lead of a customer."""
        add, edit = self.api.add, self.api.edit
        late = number * 2.5
        kinds: dict[str, Callable[[], object]] = {
            "add": lambda: add(customer),
            "edit": lambda: edit(customer, number),
            "delete": lambda: self.api.delete(customer, number),
            "import": lambda: add(customer, created=number * 3 * DAY),
            "late": lambda: edit(customer, number, updated=late),
            "late_add": lambda: add(customer, created=late, updated=late),
            "future": lambda: add(customer, created=-900 * DAY, updated=-900 * DAY),
            "restore": lambda: self.api.restore(customer),
        }
        kinds[kind]()

    @rule(
        what=st.sampled_from([*CUSTOMERS, *CUSTOMERS, "lost", "older"]), number=numbers
    )
    def a_person_acts(self, what: str, number: int) -> None:
        """Add or remove a customer, lose the state, or restore an older one."""
        if what == "lost":
            self.restored({})
        elif what == "older":
            self.restored(self.history[-1 - number % len(self.history)])
        elif what not in self.customers:
            self.customers.append(what)
        elif self.customers != [what] and what in customers_of(self.state):
            self.customers.remove(what)

    def restored(self, state: Json) -> None:
        """Go on from a state. It may lack customers and versions of the table."""
        self.state, self.activated = state, 0
        known = {key[0] for table in self.tables for key in table.rows}
        self.customers += sorted(known - set(self.customers))

    @rule(
        quota=st.sampled_from([0, 0, 1, 2, 3, 5]),
        seconds=st.sampled_from([None, None, 1, 2]),
        skew=st.sampled_from([0, 0, -240, 240]),
        days=st.sampled_from([(0, 1), (1, 7), (0, 3650)]),
        is_on=st.sampled_from([True] * 7 + [False]),
        reads_all=st.sampled_from([False] * 5 + [True]),
        errors=st.dictionaries(
            st.integers(1, 25), st.sampled_from(["broken", "429", "cursor", "lie"])
        ),
        events=st.dictionaries(st.integers(1, 25), changes, max_size=6),
        kill_at=st.none() | st.integers(0, 20),
        stored=st.none() | st.tuples(st.integers(0, 60), numbers),
    )
    def a_run(
        self,
        *,
        quota: int,
        seconds: int | None,
        skew: int,
        days: tuple[int, int],
        is_on: bool,
        reads_all: bool,
        errors: dict[int, str],
        events: dict[int, tuple[str, str, int]],
        kill_at: int | None,
        stored: tuple[int, int] | None,
    ) -> None:
        """Run the tap and the loader, either of which may die.

        With the setting off, rows have no version. So the state of such a run must not
        be lost: a refresh that an older one resumes would not know of them.
        """
        lie = {"lie": self.lie if self.lie != "total" else ""}
        faults = Faults(
            {at: lie.get(it, it) for at, it in errors.items()},
            total_error=len(errors) if self.lie == "total" else 0,
            events={
                at: functools.partial(self.change, *it) for at, it in events.items()
            },
        )
        self.clock.offset = skew
        more = {"max_run_seconds": seconds} if seconds else {}
        result = self.run_tap(
            reads_all=reads_all and is_on,
            faults=faults,
            kill_at=kill_at if is_on else None,
            requests_per_hour=quota,
            emit_activate_version_messages=is_on,
            full_refresh_min_age_days=days[0],
            full_refresh_max_age_days=days[1],
            **more,
        )
        if not is_on:
            self.history.clear()
        self.load(result, stored if is_on else None)

    @rule(skew=st.sampled_from([0, 0, 0, -240, 240]))
    def a_good_run(self, skew: int) -> None:
        """Run without a fault."""
        self.clock.offset = skew
        before = self.source(self.customers)
        # The rest of a pass may miss late ones.
        resumes = any("unfinished" in it for it in parts_of(self.state))
        result = self.run_tap()
        self.load(result, None)
        if not (resumes or result.failures or self.lie == "unreadable"):
            for table in self.tables:
                for key, number in before.items():
                    assert table.rows[key][0] >= number

    def run_tap(self, **more: t.Any) -> Result:
        """Run the tap, and look at what it did."""
        own = {it: more.pop(it) for it in RUN_ARGUMENTS if it in more}
        more["full_refresh_max_removed_percent"] = 100
        settings = self.tap.settings(self.customers, **more)
        result = self.tap.run(self.state, settings, **own)
        self.check_state(result)
        return result

    def source(self, customers: list[str]) -> dict[Key, int]:
        """Return the content of each lead."""
        return {
            (name, it.id): it.number
            for name in customers
            for it in self.api.leads[name].values()
        }

    @override
    def teardown(self) -> None:
        """Let the faults end: the table equals the source, and idle runs are cheap."""
        self.clock.offset, self.customers = 0, list(CUSTOMERS)
        for number in range(8):
            self.clock.now += 8 * DAY if number in {0, 4} else 3600
            result = self.run_tap()
            self.load(result, None)
        assert not result.failures, result.failures
        for table in self.tables:
            rows = {key: it[0] for key, it in table.rows.items()}
            assert rows == self.source(CUSTOMERS)
        self.clock.now += 3600
        result = self.run_tap(page_size=100)
        assert result.requests <= MAX_IDLE_REQUESTS * len(CUSTOMERS)

    def load(self, result: Result, stored: tuple[int, int] | None) -> None:
        """Load messages, all of them or up to a point, and keep a state."""
        count, age = stored or (len(result.messages), 0)
        states = [self.state]
        loads: dict[str, Callable[[t.Any], object]] = {
            "row": self.load_row,
            "activate": functools.partial(self.activate, result),
            "state": states.append,
        }
        for kind, value in result.messages[:count]:
            loads[kind](value)
        self.state = states[-1 - age % len(states)]
        if self.state != states[-1]:
            self.activated = 0  # An older state may know of lower versions.
        self.history.append(self.state)

    def load_row(self, row: tuple[str, Json, int | None]) -> None:
        """Load a row, whose version is above all that were activated."""
        assert row[2] is None or row[2] > self.activated
        for table in self.tables:
            table.load(row)

    def activate(self, result: Result, version: int) -> None:
        """Remove rows: none of a lead that is live, and was not away meanwhile."""
        self.activated = version
        for table in self.tables:
            for customer, key in table.activate(version):
                lead = self.api.leads[customer].get(key)
                assert not lead or lead.listed_at > result.started_at, (customer, key)

    def check_state(self, result: Result) -> None:
        """Bookmarks move forward, not past the present, and no open end is quiet."""
        bookmarks: dict[str, str] = {}
        for part in itertools.chain(*map(parts_of, result.values("state"))):
            name = part["context"]["customer_id"]
            if name in self.customers and (at := part.get("replication_key_value")):
                assert at >= bookmarks.get(name, "")
                bookmarks[name] = at
                assert parse_timestamp(at).timestamp() * 1000 <= self.api.now
        if not (result.is_killed or result.failures or result.is_stopped):
            self.check_end(result)

    def check_end(self, result: Result) -> None:
        """Leave no full refresh and no pass of changes open without a failure."""
        tables = [table_of(it) for it in result.values("state")]
        if not all(self.api.leads[it] for it in self.customers):
            return  # Nothing is removed if a customer has no lead, or seems to.
        opened = [not it.get("is_closed", True) for it in tables]
        assert opened[-1] or not any(opened) or result.values("activate")
        if customers_of(result.state) <= set(self.customers):
            assert not opened[-1]
            assert not any("unfinished" in it for it in parts_of(result.state))


def table_of(state: Json) -> Json:
    """Return what the customers of a state share."""
    found: Json = state["bookmarks"]["leads"].get("table", {}) if state else {}
    return found


def parts_of(state: Json) -> list[Json]:
    """Return the parts of a state."""
    return state["bookmarks"]["leads"]["partitions"] if state else []


def customers_of(state: Json) -> set[str]:
    """Return the customers of a state."""
    return {it["context"]["customer_id"] for it in parts_of(state)}


DeletedLeads.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    phases=[Phase.generate] + [Phase.shrink] * (EXAMPLES < 100),
    suppress_health_check=list(HealthCheck),
)
TestDeletedLeads = DeletedLeads.TestCase
