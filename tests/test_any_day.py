"""Run syncs amid random changes and faults: the copy ends up equal to the source."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
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

from sandbox import NO_LIMITS, Fault, Sandbox
from testing.clock import FakeClock
from testing.harness import Command, Run, bookmark_of

if t.TYPE_CHECKING:
    Json: t.TypeAlias = dict[str, t.Any]

pytestmark = pytest.mark.slow

LOOKBACK_SECONDS = 60
MICROSECOND = 1e-6
"""The precision of timestamps."""
KINDS = (
    "error",
    "html",
    "body",
    "reset",
    "truncate",
    "empty_page",
    "refuse_cursor",
    "repeat_cursor",
    "disorder",
    "none",
)
FILTERS: list[Json] = [{}, {"status": "won"}, {"lead_line": "buyer"}]

faults = st.builds(
    Fault,
    kind=st.sampled_from(KINDS),
    at=st.integers(1, 8),
    times=st.integers(1, 4),
    status=st.sampled_from([None, None, 401, 429, 500]),
    retry_after=st.sampled_from([None, 0, 30, 7200]),
)


def valid_fault(fault: Fault) -> Fault:
    """Return the fault with a status that its kind allows."""
    own_status = {"body": 200, "html": 502}
    if fault.kind == "error":
        return fault
    return dataclasses.replace(fault, status=own_status.get(fault.kind))


class AnyDay(RuleBasedStateMachine):
    """Model an API whose leads change, a tap that runs now and then, and a copy."""

    @initialize(leads=st.integers(0, 60), page_size=st.integers(1, 30))
    def begin(self, leads: int, page_size: int) -> None:
        """Start with some leads and an empty copy."""
        self.resources = contextlib.ExitStack()
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        self.tap = Command(Path(folder))
        self.clock = FakeClock()
        self.sandbox = self.resources.enter_context(
            Sandbox(leads=leads, clock=self.clock.time, limits=NO_LIMITS)
        )
        self.page_size = page_size
        self.filters: Json = {}
        self.state: object = None
        self.bookmark = ""
        self.copy: dict[str, Json] = {}

    @override
    def teardown(self) -> None:
        """Check that one sync without faults completes the copy."""
        with contextlib.ExitStack() as resources:
            if hasattr(self, "resources"):
                resources.push(self.resources)
                self.a_sync_without_faults({})

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
        self.sandbox.leads.add(count)

    @rule(count=st.integers(1, 5))
    def leads_are_deleted(self, count: int) -> None:
        """Delete leads, so that the API no longer lists them."""
        self.sandbox.leads.delete(min(count, self.sandbox.leads.count()))

    @rule(seconds=st.floats(0.001, LOOKBACK_SECONDS - 1))
    def a_lead_is_committed_late(self, seconds: float) -> None:
        """Add a lead whose `updated_at` is a little in the past."""
        then = dt.datetime.fromtimestamp(self.clock.now - seconds, dt.UTC)
        self.sandbox.leads.add(1, updated_at=then.isoformat())

    @rule()
    def a_lead_is_dated_in_the_future(self) -> None:
        """Add a lead whose `updated_at` is years in the future."""
        self.sandbox.leads.add(1, updated_at="2130-01-01T00:00:00.000Z")

    @rule(
        script=st.lists(faults, max_size=3),
        killed=st.floats(0, 2),
        max_wait=st.sampled_from([0, 3900]),
        filters=st.sampled_from(FILTERS),
    )
    def a_sync_with_faults(
        self, script: list[Fault], killed: float, max_wait: int, filters: Json
    ) -> None:
        """Run the tap while faults happen; it may be killed at any byte."""
        self.filters = filters
        faults_with_changes = [
            dataclasses.replace(valid_fault(it), before=self._change) for it in script
        ]
        self.sandbox.script(*faults_with_changes)
        run = self._run(max_wait_seconds=max_wait)
        if killed < 1:
            whole = run.stdout[: int(len(run.stdout) * killed)].rpartition("\n")[0]
            run = Run(-9, whole, "")
        self._load(run)

    def _change(self) -> None:
        self.clock.sleep(0.5)
        self.sandbox.leads.change(min(3, self.sandbox.leads.count()))

    @rule(filters=st.sampled_from(FILTERS))
    def a_sync_without_faults(self, filters: Json) -> None:
        """Run the tap without faults: the copy has every lead as the source has it."""
        self.filters = filters
        self.sandbox.script()
        run = self._run()
        assert run.code == 0, run.log
        self._load(run)
        listed = [lead for lead in self.sandbox.leads.all() if self._matches(lead)]
        for lead in listed:
            assert self.copy.get(lead["id"]) == lead

    def _run(self, **more: t.Any) -> Run:
        config = {
            **self.sandbox.config(),
            "page_size": self.page_size,
            "filters": self.filters,
            "lookback_seconds": LOOKBACK_SECONDS,
            "backoff_max_tries": 3,
            **more,
        }
        run = self.tap(config=config, state=self.state, clock=self.clock)
        assert "Traceback" not in run.log
        assert run.code in {0, 1}
        assert run.code == 1 or not run.errors
        return run

    def _load(self, run: Run) -> None:
        """Keep the records and the last state, as a target does."""
        self.copy.update({lead["id"]: lead for lead in run.records})
        if run.states:
            self.state = run.states[-1]

    def _matches(self, lead: Json) -> bool:
        values = {"lead_line": lead["custom_fields"].get("lead_line")}
        found = {**lead, **values}
        return all(found[name] == value for name, value in self.filters.items())

    @invariant()
    def the_bookmark_is_never_in_the_future(self) -> None:
        """Check that no bookmark is later than the current time."""
        state = getattr(self, "state", None)
        if isinstance(state, dict) and (value := bookmark_of(state)):
            moment = dt.datetime.fromisoformat(value)
            assert moment.timestamp() <= self.clock.now + MICROSECOND


AnyDay.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyDay = AnyDay.TestCase
