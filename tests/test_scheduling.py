"""Test what docs/scheduling.md says: short runs, several customers, and its code."""

from __future__ import annotations

import ast
import re
import tempfile
import typing as t
from pathlib import Path

import pytest
import yaml

from demo.pipeline import Pipeline, read_project, temporary_schema
from demo.postgres import postgres_server
from sandbox import Limits, Sandbox
from tests import tables

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Run

HOUR = 3600
PER_MINUTE, PER_HOUR = 12, 200
"""A fifth of the API's limits: an hour's quota is spent in as many minutes."""
PAGE = (tables.ROOT / "docs" / "scheduling.md").read_text(encoding="utf-8")
TOOLS = {"airflow", "dagster"}
LEADS = {"acme": 30, "bravo": 20}


def blocks(language: str) -> list[str]:
    """Return the code blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run_until_all_is_read(
    tap: Command, sandbox: Sandbox, clock: FakeClock, *, wait: int, every: int
) -> list[tuple[Run, float]]:
    """Run once per period, and return each run with its duration."""
    pace = {"requests_per_minute": PER_MINUTE, "requests_per_hour": PER_HOUR}
    once = {"page_size": 1, "max_wait_seconds": wait}
    config = {**sandbox.config(), **pace, **once}
    runs: list[tuple[Run, float]] = []
    state, start = None, clock.now
    while not runs or "max_wait_seconds" in runs[-1][0].log:
        started_at = clock.now = max(clock.now, start + len(runs) * every)
        run = tap(config=config, state=state, clock=clock)
        runs.append((run, clock.now - started_at))
        state = run.state
    return runs


def check_complete(runs: list[tuple[Run, float]], sandbox: Sandbox) -> None:
    """Check that every run succeeded, and that together they read every lead."""
    assert {run.code for run, _ in runs} == {0}
    ids = {lead["id"] for run, _ in runs for lead in run.records}
    assert ids == {lead["id"] for lead in sandbox.leads.all()}


@pytest.mark.parametrize("minute", [7, 50])
@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_hourly_runs_with_short_waits_complete_a_load(
    tap: Command, clock: FakeClock, window: t.Literal["sliding", "fixed"], minute: int
) -> None:
    """With `max_wait_seconds: 300`, runs end within 40 minutes and waste no hour."""
    limits = Limits(PER_MINUTE, PER_HOUR, window)
    with Sandbox(leads=460, clock=clock.time, limits=limits) as sandbox:
        clock.now += minute * 60
        runs = run_until_all_is_read(tap, sandbox, clock, wait=300, every=HOUR)
        check_complete(runs, sandbox)
        assert 2 <= len(runs) <= 3
        assert max(seconds for _, seconds in runs) < 40 * 60
        # Each lead is a page. Each run but the first repeats the look-back.
        sent = [it for it in sandbox.requests if it.status == 200]
        assert len(sent) == sum(len(run.records) for run, _ in runs) < 460 + 10


def test_runs_that_do_not_wait_complete_a_load(tap: Command, clock: FakeClock) -> None:
    """With `max_wait_seconds: 0`, a run ends when the minute's quota is spent."""
    with Sandbox(leads=50, clock=clock.time) as sandbox:
        runs = run_until_all_is_read(tap, sandbox, clock, wait=0, every=61)
        check_complete(runs, sandbox)
        assert len(runs) == 5
        assert sum(seconds for _, seconds in runs) == 0


def test_the_code_names_jobs_that_exist() -> None:
    """Each `meltano run` on the page runs a job of `meltano.yml` or of the page."""
    jobs = {job["name"] for job in read_project()["jobs"]}
    (customers,) = blocks("yaml")
    jobs |= {job["name"] for job in yaml.safe_load(customers)["jobs"]}
    named = re.findall(r'meltano(?: |", ")run(?: |", ")([a-z-]+)', PAGE)
    assert len(named) == 3
    assert set(named) <= jobs


def test_the_cron_line_matches_the_readme() -> None:
    """The page repeats the README's cron line and adds only what happens on failure."""
    readme = tables.README.read_text(encoding="utf-8")
    (hourly,) = re.findall(r"^```cron\n(.*)\n", readme, re.MULTILINE)
    assert f"\n{hourly} || " in PAGE


def test_the_python_code_uses_airflow_and_dagster() -> None:
    """Each block parses, imports Airflow or Dagster, and sets a maximum wait."""
    found = set()
    for block in blocks("python"):
        nodes = list(ast.walk(ast.parse(block)))
        names = [it.names[0].name for it in nodes if isinstance(it, ast.Import)]
        names += [str(it.module) for it in nodes if isinstance(it, ast.ImportFrom)]
        found |= {name.partition(".")[0] for name in names} & TOOLS
        assert "TAP_MEGA_MAX_WAIT_SECONDS" in block
    assert found == TOOLS


@pytest.mark.slow
def test_several_customers_have_a_state_and_a_schema_each(tmp_path: Path) -> None:
    """Each customer's leads go into their own schema, with their own state."""
    (tmp_path / "meltano.yml").write_text(yaml.safe_dump(with_customers()))
    with (
        postgres_server() as url,
        Sandbox(leads=LEADS["acme"], seed=1) as acme,
        Sandbox(leads=LEADS["bravo"], seed=2) as bravo,
        temporary_schema(url, "acme") as acme_table,
        temporary_schema(url, "bravo") as bravo_table,
    ):
        config = {
            f"{name}_{key}": value
            for name, sandbox in (("acme", acme), ("bravo", bravo))
            for key, value in sandbox.config().items()
        }
        Pipeline(new_folder(tmp_path), config, url, "").install()
        pipeline = Pipeline(new_folder(tmp_path), config, url, "", project=tmp_path)
        pipeline.meltano("run", "acme-to-postgres", "bravo-to-postgres")
        for sandbox, table in ((acme, acme_table), (bravo, bravo_table)):
            ids = {row["id"] for row in table.select("SELECT id FROM leads")}
            assert ids == {lead["id"] for lead in sandbox.leads.all()}
        assert pipeline.meltano("state", "list").stdout.split() == [
            f"dev:tap-mega-{name}-to-target-postgres-{name}" for name in LEADS
        ]


def new_folder(parent: Path) -> Path:
    """Return an empty folder."""
    return Path(tempfile.mkdtemp(dir=parent))


def with_customers() -> dict[str, t.Any]:
    """Return `meltano.yml` with the page's additions."""
    content = read_project()
    (block,) = blocks("yaml")
    added = yaml.safe_load(block)
    for kind in ("extractors", "loaders"):
        content["plugins"][kind] += added["plugins"][kind]
    content["jobs"] += added["jobs"]
    return content
