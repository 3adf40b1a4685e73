"""Run syncs amid random changes and faults: the copy ends up equal to the source."""

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
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from typing_extensions import override

from sandbox import NO_LIMITS, Fault, Limits, Sandbox
from testing.clock import FakeClock
from testing.harness import Command, Run, as_record, cut, full_table, part_of
from testing.table import Table

if t.TYPE_CHECKING:
    from collections.abc import Callable

    Json: t.TypeAlias = dict[str, t.Any]

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("ANY_DAY_EXAMPLES", "60"))
LOOKBACK_SECONDS = 60
MICROSECOND = 1e-6
"""The precision of timestamps."""
MAX_LEADS = 99
"""Of fewer than 100 leads, a refresh may miss none: see MAX_DELETED_SHARE."""
MAX_CHANGES = 12
"""How often leads change during a sync. If it were always, no sync would ever end."""
FILTERS: list[Json] = [{}, {"status": "won"}, {"lead_line": "buyer"}]

PLAIN_KINDS = (
    *("html", "body", "reset", "truncate", "none"),
    *("empty_page", "refuse_cursor", "repeat_cursor", "same_page"),
    *("repeat_leads", "disorder", "rounds_up"),
)
"""The faults of the sandbox that need no option and take no time.

`redirect` is missing, because it is an `error`; and `hang`, `trickle`, `late`, `bomb`,
`two_lengths` and `quote`, which say nothing about leads and have tests of their own.
"""
LYING_TOTALS = ("0", "-5", "0.5", "7", "1e6", "1e400")
IMPOSSIBLE_LEADS = ("null", "{}", '{"id": "x"}', "1" * 5000, "[" * 9000 + "]" * 9000)
OLD = ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.400Z", "2026-01-01T00:00:01Z")
"""Long before the look-back, and within a second: see STEP_BACK."""


def fault(kind: str, **options: st.SearchStrategy[t.Any]) -> st.SearchStrategy[Fault]:
    """Return faults of a kind that happen to some of the first requests."""
    times = {"at": st.integers(1, 8), "times": st.integers(1, 4)}
    return st.builds(Fault, st.just(kind), **{**times, **options})


faults = st.one_of(
    *(fault(kind) for kind in PLAIN_KINDS),
    fault(
        "error",
        status=st.sampled_from([400, 401, 429, 500]),
        retry_after=st.sampled_from([None, 0, 30, 7200]),
    ),
    fault("total", value=st.sampled_from(LYING_TOTALS)),
    # These hide leads, which is what a refresh has to notice.
    *(
        fault("early_end", at=st.integers(1, 4), count=st.integers(0, 7), value=value)
        for value in (st.none(), st.none(), st.sampled_from(LYING_TOTALS))
    ),
    fault("raw_lead", lead=st.sampled_from(IMPOSSIBLE_LEADS)),
    fault("cursor_lifetime", times=st.none(), count=st.integers(0, 4)),
    fault("date", seconds=st.sampled_from([-3600, 3600])),
)
scripts = st.lists(faults, max_size=3).map(
    # Of two faults the first one happens: one that does not end comes last.
    lambda script: sorted(script, key=lambda it: it.times is None)
)
kills = st.one_of(st.just(1.0), st.just(1.0), st.floats(0, 1))
quotas = st.sampled_from(
    [NO_LIMITS, NO_LIMITS, Limits(per_minute=3), Limits(per_minute=5)]
)


class AnyDay(RuleBasedStateMachine):
    """Model an API whose leads change, a tap that runs now and then, and a copy."""

    @initialize(
        leads=st.integers(0, 30),
        old=st.integers(0, 40),
        page_size=st.sampled_from([1, 2, 3, 10, 30]),
        loaded=st.booleans(),
    )
    def begin(self, leads: int, old: int, page_size: int, *, loaded: bool) -> None:
        """Start with some leads, and with a table that is empty or has them."""
        self.resources = contextlib.ExitStack()
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        self.tap = Command(Path(folder))
        self.clock = FakeClock()
        self.sandbox = self.resources.enter_context(
            Sandbox(leads=leads, clock=self.clock.time, limits=NO_LIMITS)
        )
        self.sandbox.leads.add(old, updated_at=OLD[0])
        self.page_size = page_size
        self.filters: Json = {}
        self.state: Json | None = None
        self.table = Table()
        self.scripted: list[tuple[int, Fault]] = []
        if loaded:
            self.a_refresh_without_faults()

    @override
    def teardown(self) -> None:
        """Check that syncs without faults complete the table, and clean it."""
        with contextlib.ExitStack() as resources:
            if hasattr(self, "resources"):
                resources.push(self.resources)
                self.a_sync_without_faults({})
                self.a_refresh_without_faults()

    # The source

    @rule(seconds=st.sampled_from([0.001, 1, 59, 61, 4000]))
    def time_passes(self, seconds: float) -> None:
        """Let some time pass."""
        self.clock.sleep(seconds)

    @rule(count=st.integers(1, 20))
    def leads_change(self, count: int) -> None:
        """Change some leads within milliseconds."""
        self.sandbox.leads.change(min(count, self.sandbox.leads.count()))

    @rule(count=st.integers(1, 20))
    def leads_appear(self, count: int) -> None:
        """Add leads that share one timestamp."""
        self._add(count)

    @rule(count=st.integers(1, 5))
    def leads_are_deleted(self, count: int) -> None:
        """Delete leads, so that the API no longer lists them."""
        self.sandbox.leads.delete(min(count, self.sandbox.leads.count()))

    @rule(seconds=st.floats(0.001, LOOKBACK_SECONDS - 1))
    def a_lead_is_committed_late(self, seconds: float) -> None:
        """Add a lead whose `updated_at` is a little in the past."""
        then = dt.datetime.fromtimestamp(self.clock.now - seconds, dt.UTC)
        self._add(1, updated_at=then.isoformat())

    @rule()
    def a_lead_is_dated_in_the_future(self) -> None:
        """Add a lead whose `updated_at` is years in the future."""
        self._add(1, updated_at="2130-01-01T00:00:00.000Z")

    @rule(count=st.integers(1, 40), updated_at=st.sampled_from(OLD))
    def old_leads_appear(self, count: int, updated_at: str) -> None:
        """Add leads from before the look-back, which no bookmark finds: start over."""
        self._add(count, updated_at=updated_at)
        self.state = None

    @rule()
    def the_state_is_lost(self) -> None:
        """Read all leads again at the next sync."""
        self.state = None

    def _add(self, count: int, **fields: str) -> None:
        count = min(count, MAX_LEADS - self.sandbox.leads.count())
        self.sandbox.leads.add(count, **fields)

    # Syncs

    @rule(
        script=scripts,
        quota=quotas,
        paced=st.booleans(),
        killed=kills,
        max_wait=st.sampled_from([0, 3900]),
        filters=st.sampled_from(FILTERS),
    )
    def a_sync_with_faults(
        self,
        script: list[Fault],
        quota: Limits,
        killed: float,
        max_wait: int,
        filters: Json,
        *,
        paced: bool,
    ) -> None:
        """Run the tap while faults happen; it may be killed at any byte."""
        self.filters = filters
        self._prepare(script, quota, self._change_and_delete)
        run = self._run(**pace(quota, paced=paced), max_wait_seconds=max_wait)
        self._load(cut(run, killed))
        if any(it.kind == "repeat_leads" for it in self.happened):
            # Inside of a tie, nothing tells that the API repeats a page and hides the
            # next one. The hidden leads lie behind the bookmark: start over.
            self.state = None

    @rule(filters=st.sampled_from(FILTERS))
    def a_sync_without_faults(self, filters: Json) -> None:
        """Run the tap without faults: the table has every lead as the source has it."""
        self.filters = filters
        resumes = "unfinished" in self._part
        # A sync that resumes another does not look back. The one after it does.
        for _ in range(1 + resumes):
            self._prepare([], NO_LIMITS)
            run = self._run()
            assert run.code == 0, run.log
            self._load(run)
        for lead in self.sandbox.leads.all():
            row = self.table.rows.get(lead["id"])
            assert row == as_record(lead) or not self._matches(lead)

    @rule(
        script=scripts,
        quota=quotas,
        paced=st.booleans(),
        killed=kills,
        max_wait=st.sampled_from([0, 3900]),
    )
    def a_refresh_with_faults(
        self,
        script: list[Fault],
        quota: Limits,
        killed: float,
        max_wait: int,
        *,
        paced: bool,
    ) -> None:
        """Run a full-table sync while faults happen: no row of a lead is removed."""
        self.filters = {}
        # Leads that are deleted meanwhile would hide as many that the API hides.
        self._prepare(script, quota, self._change)
        answered = len(self.sandbox.requests)
        before = set(self.table.rows)
        settings_ = {**pace(quota, paced=paced), "max_wait_seconds": max_wait}
        self._load(cut(self._refresh(**settings_), killed))
        removed = (before - set(self.table.rows)) & set(self._ids())
        if self._honest_totals(answered) == 0:
            # Nothing tells that leads are missing. Their rows come back at a new start.
            self.state = None
        else:
            assert not removed

    @rule()
    def a_refresh_without_faults(self) -> None:
        """Run a full-table sync without faults: the table is equal to the source."""
        self.filters = {}
        resumes = "refresh" in self._part
        # A sync that resumes another may not be sure that it is complete.
        for _ in range(1 + resumes):
            self._prepare([], NO_LIMITS)
            run = self._refresh()
            assert run.code == 0 or resumes, run.log
            self._load(run)
        assert ('"ACTIVATE_VERSION"' in run.stdout) == bool(self._ids())
        source = {lead["id"]: as_record(lead) for lead in self.sandbox.leads.all()}
        assert self.table.rows == source or not source

    def _honest_totals(self, answered: int) -> int:
        """Return how many pages told the number of leads, of those after so many."""
        pages = [it for it in self.sandbox.requests[answered:] if it.status == 200]
        others = [
            it
            for it in self.happened
            if it.kind in {"total", "body", "truncate", "rounds_up"}
            or (it.kind == "early_end" and it.value is not None)
        ]
        return len(pages) - len(others)

    # What happens during a sync

    @property
    def happened(self) -> list[Fault]:
        """The faults of the last sync that had a page: 429 comes before any fault."""
        sent = self.sandbox.requests
        return [fault for number, fault in self.scripted if sent[number].status == 200]

    def _prepare(
        self,
        script: list[Fault],
        quota: Limits,
        change: Callable[[], object] = lambda: None,
    ) -> None:
        """Let faults happen to the next sync, and `change` at each of them."""
        self.scripted = []
        self.sandbox.limits = quota

        def happen(fault: Fault) -> None:
            self.scripted.append((len(self.sandbox.requests) - 1, fault))
            if len(self.scripted) <= MAX_CHANGES:
                change()

        self.sandbox.script(
            *(
                dataclasses.replace(it, before=functools.partial(happen, it))
                for it in script
            )
        )

    def _change(self) -> None:
        self.clock.sleep(0.5)
        self.sandbox.leads.change(min(3, self.sandbox.leads.count()))

    def _change_and_delete(self) -> None:
        self._change()
        self.sandbox.leads.delete(min(1, self.sandbox.leads.count()))

    def _refresh(self, **more: t.Any) -> Run:
        self.clock.sleep(
            1
        )  # A version is the second of its start if the state is lost.
        more["emit_activate_version_messages"] = True
        return self._run(full_table(self.tap), **more)

    def _run(self, catalog: Json | None = None, **more: t.Any) -> Run:
        config = {
            **self.sandbox.config(),
            "page_size": self.page_size,
            "filters": self.filters,
            "lookback_seconds": LOOKBACK_SECONDS,
            "backoff_max_tries": 3,
            **more,
        }
        run = self.tap(
            config=config, state=self.state, catalog=catalog, clock=self.clock
        )
        assert "Traceback" not in run.log
        assert run.code in {0, 1}
        assert run.code == 1 or not run.errors
        # A run that stops for quota does not say yet that it left out a lead.
        if any(it.kind == "raw_lead" for it in self.happened):
            assert run.code == 1
        return run

    def _load(self, run: Run) -> None:
        """Keep the records and the last state, as a target does."""
        for message in run.messages:
            self.table.apply(message)
            if message["type"] == "STATE":
                self._follow(message["value"])

    def _follow(self, state: Json) -> None:
        """Keep a state. Its bookmark does not move back, unless the source differs."""
        old, new = self._part, part_of(state)
        if old.get("filters") == new.get("filters"):
            assert timestamp_of(old) <= timestamp_of(new)
        self.state = state

    @property
    def _part(self) -> Json:
        return part_of(self.state) if self.state else {}

    def _ids(self) -> list[str]:
        return [lead["id"] for lead in self.sandbox.leads.all()]

    def _matches(self, lead: Json) -> bool:
        values = {"lead_line": lead["custom_fields"].get("lead_line")}
        found = {**lead, **values}
        return all(found[name] == value for name, value in self.filters.items())

    @invariant()
    def the_bookmark_is_never_in_the_future(self) -> None:
        """Check that no bookmark is later than the current time."""
        state = getattr(self, "state", None)
        if state:
            assert timestamp_of(part_of(state)) <= self.clock.now + MICROSECOND


def timestamp_of(part: Json) -> float:
    """Return the bookmark in a part of a state; 0 if there is none."""
    value = part.get("replication_key_value")
    return dt.datetime.fromisoformat(value).timestamp() if value else 0


def pace(quota: Limits, *, paced: bool) -> Json:
    """Return the settings of a tap that knows its quota, or does not."""
    return {"requests_per_minute": quota.per_minute if paced else 0}


AnyDay.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyDay = AnyDay.TestCase
