"""Test a full refresh of a PostgreSQL table: no row is missing while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest

from demo.pipeline import (
    ROOT,
    Pipeline,
    temporary_schema,
    with_scheme,
)
from sandbox import Sandbox
from sandbox.faults import Fault
from testing.harness import cut, full_table
from tests.loaders import PLUGINS

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.pipeline import Table
    from testing.harness import Command, Json

LEADS = 600
BATCH = 100
TICK_SECONDS = 0.005
SCHEMA = "mega_full"
JOB = "leads-to-postgres-full"
TAP = Path(sys.executable).parent / "tap-mega"
TARGET = ROOT / ".meltano" / "loaders" / "target-postgres" / "venv/bin/target-postgres"
LIVE = "SELECT id, interaction_count FROM leads WHERE _sdc_deleted_at IS NULL"
COUNTS = """
SELECT count(*) FILTER (WHERE _sdc_deleted_at IS NULL) AS live,
    count(_sdc_table_version) AS refreshed FROM leads
"""


def listed(sandbox: Sandbox) -> dict[str, int]:
    """Return the interaction count of each lead, which grows with every change."""
    return {lead["id"]: lead["interaction_count"] for lead in sandbox.leads.all()}


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the process has ended, after a short wait."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TICK_SECONDS)
    return process.returncode is not None


@dataclasses.dataclass
class Warehouse:
    """Load a table with the loader from meltano.yml, in smaller batches."""

    table: Table
    folder: Path
    url: str
    hard_delete: bool

    def live(self) -> dict[str, int]:
        """Return the rows that are not marked as deleted, in the form of `listed`."""
        rows = self.table.select(LIVE)
        return {row["id"]: row["interaction_count"] for row in rows}

    def counts(self) -> dict[str, int]:
        """Return how many rows are live, and how many a refresh has loaded."""
        return self.table.select(COUNTS)[0]

    def load(self, messages: str) -> None:
        """Load the output of a tap."""
        with self.target() as target:
            target.communicate(messages.encode())
        assert target.returncode == 0

    def target(self) -> subprocess.Popen[bytes]:
        """Start the loader."""
        plugin = PLUGINS["target-postgres"]
        config = {
            **plugin["config"],
            "sqlalchemy_url": with_scheme("postgresql+psycopg", self.url),
            "default_target_schema": self.table.schema,
            "hard_delete": self.hard_delete,
            "batch_size_rows": BATCH,
        }
        path = self.folder / "target.json"
        path.write_text(json.dumps(config))
        return subprocess.Popen(
            [TARGET, "--config", path],
            env={**os.environ, **plugin["env"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )


@dataclasses.dataclass
class Refresh:
    """Run a full-table sync, in which the test forwards messages from tap to target."""

    warehouse: Warehouse
    tap: subprocess.Popen[bytes]
    target: subprocess.Popen[bytes]
    seen: list[dict[str, int]] = dataclasses.field(default_factory=list)
    """The counts that readers saw, in order."""

    def load_batches(self, number: int) -> None:
        """Forward so many batches, and read the table until each one is loaded."""
        for _ in range(number):
            enough = self.sample()["refreshed"] + BATCH
            self._forward(b"RECORD", BATCH)
            while self.sample()["refreshed"] < enough:
                assert not has_ended(self.target)

    def load_rows(self) -> bytes:
        """Forward all rows, and return the messages that follow them."""
        assert self.tap.stdout
        rest = list(self.tap.stdout)
        end = next(i for i, line in enumerate(rest) if b"ACTIVATE_VERSION" in line)
        self._write(b"".join(rest[:end]))
        return b"".join(rest[end:])

    def load_rest(self) -> None:
        """Forward everything that the tap still writes."""
        assert self.tap.stdout
        self.finish(self.tap.stdout.read())

    def finish(self, messages: bytes) -> None:
        """Forward the last messages, and read the table until the loader has ended."""
        assert self.target.stdin
        self._write(messages)
        self.target.stdin.close()
        while not has_ended(self.target):
            self.sample()
        self.sample()

    def sample(self) -> dict[str, int]:
        """Read the table once, as any reader may."""
        self.seen.append(self.warehouse.counts())
        return self.seen[-1]

    def _forward(self, kind: bytes, number: int) -> None:
        """Forward messages up to the given number of one kind."""
        assert self.tap.stdout
        found = itertools.count(1)
        for line in self.tap.stdout:
            self._write(line)
            if kind in line and next(found) == number:
                return

    def _write(self, messages: bytes) -> None:
        assert self.target.stdin
        self.target.stdin.write(messages)
        self.target.stdin.flush()


@contextlib.contextmanager
def refreshing(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> Iterator[Refresh]:
    """Start a full refresh with the settings of `tap-mega-full`."""
    config, catalog = warehouse.folder / "full.json", warehouse.folder / "all.json"
    settings = {**sandbox.config(), "emit_activate_version_messages": True}
    config.write_text(json.dumps(settings))
    catalog.write_text(json.dumps(full_table(tap)))
    command: list[str | Path] = [TAP, "--config", config, "--catalog", catalog]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as source,
        warehouse.target() as target,
    ):
        try:
            yield Refresh(warehouse, source, target)
        finally:
            source.kill()
            target.kill()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Provide an API on the real clock, because the commands are other processes."""
    with Sandbox(leads=LEADS) as api:
        yield api


@pytest.fixture(params=["hard", "soft"])
def warehouse(
    request: pytest.FixtureRequest, database_url: str, sandbox: Sandbox, tmp_path: Path
) -> Iterator[Warehouse]:
    """Provide an empty warehouse whose loader deletes rows or marks them."""
    Pipeline(tmp_path, sandbox.config(), database_url, SCHEMA).install()
    with temporary_schema(database_url, SCHEMA) as table:
        yield Warehouse(table, tmp_path, database_url, request.param == "hard")


only_hard = pytest.mark.parametrize("warehouse", ["hard"], indirect=True)


def test_the_table_is_always_complete(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """Readers always see every lead; deleted ones go at the end, and may return."""
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    gone = {*sandbox.leads.delete(30), *sandbox.leads.merge(20)}
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.load_batches(5)
        assert gone <= set(warehouse.live())
        refresh.load_rest()
    assert min(counts["live"] for counts in refresh.seen) >= sandbox.leads.count()
    assert len({counts["refreshed"] for counts in refresh.seen}) >= 6
    assert warehouse.live() == listed(sandbox)
    kept = warehouse.table.select("SELECT id FROM leads")
    assert len(kept) == (LEADS - 50 if warehouse.hard_delete else LEADS)
    sandbox.leads.add(1, id=min(gone))
    warehouse.load(tap(config=sandbox.config(), state=first.state).stdout)
    assert warehouse.live() == listed(sandbox)


@pytest.mark.parametrize("cause", ["killed", "rejected"])
@only_hard
def test_a_failed_refresh_does_not_change_other_rows(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command, cause: str
) -> None:
    """Rows that the refresh did not load stay unchanged until the next refresh."""
    warehouse.load(tap(config=sandbox.config()).stdout)
    before = {row["id"]: row for row in warehouse.table.select("SELECT * FROM leads")}
    gone = {*sandbox.leads.delete(30), *sandbox.leads.merge(20)}
    if cause == "rejected":
        sandbox.script(Fault("error", at=4, status=403))
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.load_batches(2)
        if cause == "killed":
            refresh.tap.kill()
        refresh.load_rest()
    assert refresh.tap.wait() != 0
    rest = warehouse.table.select(
        "SELECT * FROM leads WHERE _sdc_table_version IS NULL"
    )
    assert gone < {row["id"] for row in rest}
    assert [before[row["id"]] for row in rest] == rest
    assert len(warehouse.live()) == LEADS
    sandbox.script()
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.load_rest()
    assert warehouse.live() == listed(sandbox)


@only_hard
def test_an_hourly_run_during_a_refresh_loses_nothing(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """The refresh reads the changes of an hourly run again before its end."""
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    sandbox.leads.delete(30)
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.load_batches(3)
        sandbox.leads.change(200)
        sandbox.leads.add(5)
        warehouse.load(tap(config=sandbox.config(), state=first.state).stdout)
        assert listed(sandbox).items() <= warehouse.live().items()
        refresh.load_rest()
    assert min(counts["live"] for counts in refresh.seen) >= LEADS - 30
    assert warehouse.live() == listed(sandbox)


@only_hard
def test_an_hourly_run_after_the_last_page_needs_the_lock(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """Without the lock, the refresh removes a lead added after its last page."""
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    with refreshing(warehouse, sandbox, tap) as refresh:
        end = refresh.load_rows()
        (added,) = sandbox.leads.add(1)
        warehouse.load(tap(config=sandbox.config(), state=first.state).stdout)
        assert added in warehouse.live()
        refresh.finish(end)
    assert added not in warehouse.live()


@only_hard
def test_an_hourly_run_with_versions_needs_no_lock(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """A lead that it adds after the last page has a larger version, and stays."""
    marked = {**sandbox.config(), "emit_activate_version_messages": True}
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    with refreshing(warehouse, sandbox, tap) as refresh:
        end = refresh.load_rows()
        (added,) = sandbox.leads.add(1)
        warehouse.load(tap(config=marked, state=first.state).stdout)
        assert added in warehouse.live()
        refresh.finish(end)
    assert added in warehouse.live()
    assert warehouse.live() == listed(sandbox)


@only_hard
def test_an_hourly_run_that_began_before_the_refresh(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """A lead has the version of its page: that of the start of the run is too old."""
    marked = {**sandbox.config(), "emit_activate_version_messages": True}
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    sandbox.leads.change(150)
    refused = threading.Event()
    sandbox.script(Fault("error", at=2, status=429, retry_after=2, before=refused.set))
    with hourly_run(warehouse.folder, marked, first.state) as hourly:
        page = read_page(hourly)
        assert refused.wait(10)
        hourly.send_signal(signal.SIGSTOP)  # It waits for quota.
        warehouse.load(page)
        with refreshing(warehouse, sandbox, tap) as refresh:
            end = refresh.load_rows()
            (added,) = sandbox.leads.add(1)
            hourly.send_signal(signal.SIGCONT)
            messages, _ = hourly.communicate()
            (schema,) = [it for it in page.splitlines() if '"SCHEMA"' in it]
            warehouse.load(f"{schema}\n{messages.decode()}")
            refresh.finish(end)
    assert added in warehouse.live()
    assert warehouse.live() == listed(sandbox)


@contextlib.contextmanager
def hourly_run(
    folder: Path, settings: Json, state: Json
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an incremental sync, and kill it at the end."""
    files = {"hourly": settings, "state": state}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    options = (f"--config={folder}/hourly.json", f"--state={folder}/state.json")
    with subprocess.Popen([TAP, *options], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def read_page(process: subprocess.Popen[bytes]) -> str:
    """Return the messages of a run up to the first STATE after a record."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line.decode())
        if b'"STATE"' in line and len(lines) > BATCH:
            break
    return "".join(lines)


@pytest.mark.parametrize("warehouse", ["soft"], indirect=True)
def test_a_killed_refresh_is_finished(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """After three kills, rows and marks equal the source, at a page for each kill."""
    warehouse.load(tap(config=sandbox.config()).stdout)
    gone = {*sandbox.leads.delete(30), *sandbox.leads.merge(20)}
    config = {
        **sandbox.config(),
        "emit_activate_version_messages": True,
        "full_refresh_when": "leads_are_gone",
    }
    catalog, state, pages = full_table(tap), None, 0
    for share in (0.3, 0.4, 0.5, 1):
        run = cut(tap(config=config, catalog=catalog, state=state), share)
        warehouse.load(run.stdout)
        state = run.states[-1]
        pages += len(run.states)
        sandbox.leads.change(1)
    assert warehouse.live().keys() == listed(sandbox).keys()
    marked = warehouse.table.select(
        "SELECT id FROM leads WHERE _sdc_deleted_at IS NOT NULL"
    )
    assert {row["id"] for row in marked} == gone
    assert pages <= math.ceil(550 / 100) + 3 + 1
    sandbox.requests.clear()
    assert tap(config=config, catalog=catalog, state=state).records == []
    sandbox.leads.delete(1)
    assert len(tap(config=config, catalog=catalog, state=state).records) == 549
    assert len(sandbox.requests) == 2 + 2 + 6
