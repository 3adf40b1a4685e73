"""The statistics of a run, as metrics of the SDK's form."""

from __future__ import annotations

import json
import re
import typing as t

from sandbox import Fault, Limits, Sandbox
from tap_mega.sync.progress import RunMetric
from tests.tables import ROOT

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Run


def metrics(run: Run) -> dict[str, float]:
    """Return the metrics of a run; those of a status have it in their name."""
    points = [json.loads(it) for it in re.findall(r"METRIC: (\{.*\})", run.log)]
    return {
        f"{it['metric']}{it['tags'].get('http_status_code', '')}": it["value"]
        for it in points
    }


def test_a_first_run_and_a_quiet_one(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The metrics count leads that were read, that are new, and that were left out."""
    sandbox.script(Fault("raw_lead", at=2, times=2, lead='{"id": "x"}'))
    first = tap(config=sandbox.config(), clock=clock)
    found = metrics(first)
    assert (found["leads_read"], found["leads_new"]) == (250, 250)
    assert (found["leads_left_out"], found["http_request_count"]) == (1, 4)
    assert (found["leads_to_read"], found["seconds_behind"]) == (0, 0)
    again = metrics(tap(config=sandbox.config(), state=first.state, clock=clock))
    assert again["leads_read"] > again["leads_new"] == 0


def test_a_run_without_quota(tap: Command, clock: FakeClock) -> None:
    """The metrics have the leads to read, the refusals, and the age of the bookmark."""
    with Sandbox(leads=250, clock=clock.time, limits=Limits(per_minute=2)) as sandbox:
        config = {**sandbox.config(), "requests_per_minute": 0, "max_wait_seconds": 0}
        found = metrics(tap(config=config, clock=clock))
    assert (found["leads_to_read"], found["http_request_count429"]) == (50, 1)
    assert found["seconds_behind"] > 0


def test_each_metric_is_documented() -> None:
    """docs/monitoring.md has a row for each."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert all(f"\n| `{name}` | " in page for name in RunMetric)
