"""Run the command amid random changes and faults: the table becomes the source.

More examples: `ANY_DAY_EXAMPLES=2000 python3 dev.py test tests/test_any_day.py`
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import os
import tempfile
import typing as t
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from typing_extensions import override

from sandbox import NO_LIMITS, Limits, Sandbox
from tap_mega.shared.timestamps import format_timestamp, from_epoch
from tap_mega.sync.scheduler import Scheduler
from testing.clock import FakeClock
from testing.harness import Command, Run, as_record, cut, full_table
from testing.random_faults import HIDING_KINDS, scripts
from testing.table import Table

if t.TYPE_CHECKING:
    from sandbox import Fault
    from sandbox.leads import Leads

    Json: t.TypeAlias = dict[str, t.Any]

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("ANY_DAY_EXAMPLES", "60"))
LOOKBACK_SECONDS = 60
MICROSECOND = 1e-6
DAY = 86_400
MAX_LEADS = 60  # of each customer
MAX_CHANGES = 12
"""How often leads change during a run. If it were always, no run would ever end."""
DATES = (
    *("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.400Z", "2026-01-01T00:00:01Z"),
    "2130-01-01T00:00:00.000Z",
)
"""Long before the look-back, and within a second: see STEP_BACK. One is to come."""
customers = st.integers(0, 2)
quotas = [NO_LIMITS, NO_LIMITS, Limits(per_minute=3), Limits(per_minute=5)]


class AnyDay(RuleBasedStateMachine):
    """Model an API whose leads change, a tap that runs now and then, and a table."""

    @initialize(
        counts=st.lists(st.integers(0, 25), min_size=1, max_size=3),
        old=st.integers(0, 20),
        page_size=st.sampled_from([2, 3, 10, 30]),
        loaded=st.booleans(),
    )
    def begin(
        self, counts: list[int], old: int, page_size: int, *, loaded: bool
    ) -> None:
        """Start with some leads, and with a table that is empty or has them."""
        self.resources = contextlib.ExitStack()
        # One request at a time: an example is the same whenever it runs.
        patch = self.resources.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(Scheduler, "MAX_IN_FLIGHT", 1)
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        self.tap = Command(Path(folder))
        self.clock = FakeClock()
        more: Json = {"clock": self.clock.time, "limits": NO_LIMITS}
        self.sandbox = self.resources.enter_context(
            Sandbox(leads=counts, customers=len(counts), **more)
        )
        self.sandbox.leads.add(old, updated_at=DATES[0], created_at=DATES[0])
        self.page_size = page_size
        self.full_table = full_table(self.tap, self.sandbox.config())
        self.state: Json = {}
        self.table = Table()
        self.scripted: list[tuple[int, Fault]] = []
        self.unseen: set[str] = set()
        """Leads whose change only a full refresh finds."""
        self.since_begin: set[str] = set()
        """What has happened since the open full refresh began."""
        if loaded:
            self.a_good_run(reads_all=False)

    @override
    def teardown(self) -> None:
        """Check that runs without faults complete the table, and clean up."""
        with contextlib.ExitStack() as resources:
            if hasattr(self, "resources"):
                resources.push(self.resources)
                self.good_weeks()

    # The source

    def leads(self, customer: int) -> Leads:
        """Return the leads of a customer."""
        return self.sandbox.customers[customer % len(self.sandbox.customers)].leads

    def source(self) -> dict[str, Json]:
        """Return what the API lists: the row of each lead, by its ID."""
        many = len(self.sandbox.customers) > 1
        return {
            lead["id"]: as_record(
                {**lead, **({"customer_id": it.customer_id} if many else {})}
            )
            for it in self.sandbox.customers
            for lead in it.leads.all()
        }

    @rule(seconds=st.sampled_from([0.001, 1, 59, 61, 4000, DAY, 8 * DAY]))
    def time_passes(self, seconds: float) -> None:
        """Let some time pass."""
        self.clock.sleep(seconds)

    @rule(customer=customers, count=st.integers(1, 20))
    def leads_change(self, customer: int, count: int) -> None:
        """Change some leads within milliseconds."""
        leads = self.leads(customer)
        leads.change(min(count, leads.count()))

    @rule(customer=customers, seconds=st.floats(0.001, LOOKBACK_SECONDS - 1))
    def a_lead_is_committed_late(self, customer: int, seconds: float) -> None:
        """Add a lead whose timestamps are a little in the past."""
        then = format_timestamp(from_epoch(self.clock.now - seconds))
        self.add(customer, 1, created_at=then, updated_at=then)

    @rule(
        customer=customers,
        count=st.integers(1, 20),
        at=st.sampled_from(DATES),
        names=st.sets(st.sampled_from(["created_at", "updated_at"])),
    )
    def leads_appear(self, customer: int, count: int, at: str, names: set[str]) -> None:
        """Add leads of now, or with a date from long ago or to come."""
        ids = self.add(customer, count, **dict.fromkeys(names, at))
        if "updated_at" in names:
            self.unseen.update(ids)

    @rule(
        customer=customers,
        count=st.integers(1, 5),
        how=st.sampled_from(["delete", "merge", "hide"]),
    )
    def leads_are_gone(self, customer: int, count: int, how: str) -> None:
        """Delete, merge or hide leads, so that the API no longer lists them."""
        leads = self.leads(customer)
        count = min(count, leads.count() - (how == "merge"))
        if count > 0:
            getattr(leads, how)(count)
            self.since_begin.add("deletion")

    @rule(customer=customers)
    def leads_come_back(self, customer: int) -> None:
        """List hidden leads again, unchanged."""
        self.unseen.update(self.leads(customer).show())

    def add(self, customer: int, count: int, **fields: str) -> list[str]:
        """Add leads of a customer, and return their IDs."""
        leads = self.leads(customer)
        return leads.add(max(0, min(count, MAX_LEADS - leads.count())), **fields)

    # Runs

    @rule()
    def the_state_is_lost(self) -> None:
        """Read all leads again at the next run."""
        self.state = {}

    @rule(
        script=scripts,
        quota=st.sampled_from(quotas),
        killed=st.one_of(st.just(1.0), st.just(1.0), st.floats(0, 1)),
        reads_all=st.sampled_from([False, False, False, True]),
        requests_per_minute=st.sampled_from([0, 3]),
        max_wait_seconds=st.sampled_from([0, 3900]),
        max_run_seconds=st.sampled_from([1, 90, 3900, DAY]),
        full_refresh_min_age_days=st.sampled_from([0, 0, 1]),
        full_refresh_max_removed_percent=st.sampled_from([20, 100]),
    )
    def a_bad_run(
        self, *, script: list[Fault], quota: Limits, killed: float, **more: t.Any
    ) -> None:
        """Run the tap while faults happen; it may stop early, or be killed."""
        self.script(script, quota)
        run = self.run(**more)
        if self.happened(HIDING_KINDS, self.page_size):
            self.unseen.update(self.source())
            self.since_begin.add("hidden")
        if self.happened({"total", "early_end"}, limit=1):
            self.since_begin.add("lie")
        self.load(cut(run, killed))

    @rule(reads_all=st.booleans())
    def a_good_run(self, *, reads_all: bool) -> None:
        """Run the tap without faults: each lead that it could see is in the table."""
        self.script([])
        # A run that resumes another does not look back, and may fail for its faults.
        for _ in range(2 if is_unfinished(self.state) else 1):
            run = self.run(reads_all=reads_all)
            self.load(run)
        assert run.code == 0, run.log
        for key, row in self.source().items():
            assert self.table.rows.get(key) == row or key in self.unseen

    @rule()
    def good_weeks(self) -> None:
        """Run the tap without faults for two weeks: the table is equal to the source.

        The first run may go on with a full refresh that cannot end well any more.
        """
        self.script([])
        for _ in range(2):
            self.clock.sleep(8 * DAY)  # full_refresh_max_age_days is 7.
            run = self.run()
            self.load(run)
        assert run.code == 0, run.log
        assert self.table.rows == self.source()
        self.unseen.clear()

    def run(self, *, reads_all: bool = False, **more: t.Any) -> Run:
        """Run the tap, which ends with one line if it fails."""
        config = {
            **self.sandbox.config(),
            "page_size": self.page_size,
            "lookback_seconds": LOOKBACK_SECONDS,
            "backoff_max_tries": 3,
            "emit_activate_version_messages": True,
            "full_refresh_min_age_days": 0,
            "full_refresh_max_removed_percent": 100,
            **more,
        }
        catalog = self.full_table if reads_all else None
        run = self.tap(
            config=config, state=self.state, catalog=catalog, clock=self.clock
        )
        assert "Traceback" not in run.log
        assert run.code == bool(run.errors)
        return run

    def script(self, script: list[Fault], quota: Limits = NO_LIMITS) -> None:
        """Let faults happen to the next run, and leads change at each of them."""
        self.sandbox.limits, self.scripted = quota, []

        self.sandbox.script(
            *(
                dataclasses.replace(it, before=functools.partial(self.happen, it))
                for it in script
            )
        )

    def happen(self, fault: Fault) -> None:
        """Note a fault, and let leads change."""
        self.scripted.append((len(self.sandbox.requests) - 1, fault))
        number = len(self.scripted)
        if number <= MAX_CHANGES:
            self.clock.sleep(0.5)
            self.leads_change(number, 3)
            self.leads_are_gone(number, 1, "merge" if fault.at % 2 else "delete")

    def happened(self, kinds: set[str], limit: int) -> bool:
        """Return whether one of these faults happened to a page with this limit."""
        sent = [self.sandbox.requests[n] for n, it in self.scripted if it.kind in kinds]
        # A 429 comes before any fault.
        return any(it.status == 200 and int(it.query["limit"]) == limit for it in sent)

    # The table

    def load(self, run: Run) -> None:
        """Load the messages of a run, as a loader does: no live row is removed.

        What the API hides in a full refresh shows in the count at its end, unless the
        API has a wrong total there, or as many leads are deleted meanwhile.
        """
        live = set(self.source())
        is_excused = "hidden" in self.since_begin and len(self.since_begin) > 1
        for message in run.messages:
            before = live & set(self.table.rows)
            self.table.apply(message)
            removed = before - set(self.table.rows)
            assert not removed or is_excused
            self.unseen.update(removed)
            if message["type"] == "STATE":
                self.follow(message["value"])
        if not is_unfinished(self.state):
            self.since_begin.clear()

    def follow(self, state: Json) -> None:
        """Keep a state. No bookmark moves back, or is later than the current time."""
        old, new = bookmarks_of(self.state), bookmarks_of(state)
        for name, bookmark in new.items():
            assert old.get(name, 0) <= bookmark <= self.clock.now + MICROSECOND
        self.state = state


def parts_of(state: Json) -> list[Json]:
    """Return the part of each customer in a state."""
    return state["bookmarks"]["leads"]["partitions"] if state else []


def is_unfinished(state: Json) -> bool:
    """Return whether a pass of changes or a full refresh has not ended."""
    return any({"unfinished", "refresh"} & set(part) for part in parts_of(state))


def bookmarks_of(state: Json) -> dict[str, float]:
    """Return the bookmark of each customer that has one, in epoch seconds."""
    return {
        part["context"]["customer_id"]: dt.datetime.fromisoformat(value).timestamp()
        for part in parts_of(state)
        if (value := part.get("replication_key_value"))
    }


AnyDay.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestAnyDay = AnyDay.TestCase
