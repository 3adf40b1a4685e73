"""A full refresh into a real PostgreSQL: no hole meanwhile, and what is gone goes."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import re
import subprocess
import sys
import typing as t
from concurrent import futures
from pathlib import Path

import pytest

from demo.pipeline import (
    ROOT,
    STATE_ID,
    Pipeline,
    read_project,
    temporary_schema,
    with_scheme,
)
from demo.postgres import postgres_server
from sandbox import Sandbox
from sandbox.faults import Fault
from testing.harness import full_table
from tests.loaders import PLUGINS
from tests.tables import README

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.pipeline import Table
    from testing.harness import Command

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
CRON = re.compile(
    r"^\S+ \S+ \* \* (?P<weekday>\S+)  (?P<line>cd /srv/tap-mega && .*)$", re.MULTILINE
)


def listed(sandbox: Sandbox) -> dict[str, int]:
    """Return the leads of the source; the number grows with each change of one."""
    return {lead["id"]: lead["interaction_count"] for lead in sandbox.leads.all()}


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether it has, and leave it the machine for a moment if not."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TICK_SECONDS)
    return process.returncode is not None


@dataclasses.dataclass
class Warehouse:
    """A table, and the loader that meltano.yml describes, in smaller batches."""

    table: Table
    folder: Path
    url: str
    hard_delete: bool

    def live(self) -> dict[str, int]:
        """Return the leads that are there and not marked, as `listed` does."""
        rows = self.table.select(LIVE)
        return {row["id"]: row["interaction_count"] for row in rows}

    def counts(self) -> dict[str, int]:
        """Return how many rows are live, and how many a refresh has brought."""
        return self.table.select(COUNTS)[0]

    def load(self, messages: str) -> None:
        """Load what a tap wrote."""
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
    """A full-table sync under way; the test is the pipe between tap and target."""

    warehouse: Warehouse
    tap: subprocess.Popen[bytes]
    target: subprocess.Popen[bytes]
    seen: list[dict[str, int]] = dataclasses.field(default_factory=list)
    """What readers saw, moment for moment."""

    def batches(self, number: int) -> None:
        """Hand on so many batches, and read the table until each is in it."""
        for _ in range(number):
            enough = self.look()["refreshed"] + BATCH
            self._hand_on(b"RECORD", BATCH)
            while self.look()["refreshed"] < enough:
                assert not has_ended(self.target)

    def all_but_the_end(self) -> bytes:
        """Hand on all rows, and return the messages that come after them."""
        assert self.tap.stdout
        rest = list(self.tap.stdout)
        end = next(i for i, line in enumerate(rest) if b"ACTIVATE_VERSION" in line)
        self._write(b"".join(rest[:end]))
        return b"".join(rest[end:])

    def rest(self) -> None:
        """Hand on whatever the tap still writes."""
        assert self.tap.stdout
        self.end(self.tap.stdout.read())

    def end(self, messages: bytes) -> None:
        """Hand on the last messages, and read the table until the loader has ended."""
        assert self.target.stdin
        self._write(messages)
        self.target.stdin.close()
        while not has_ended(self.target):
            self.look()
        self.look()

    def look(self) -> dict[str, int]:
        """Read the table, as anybody might at this moment."""
        self.seen.append(self.warehouse.counts())
        return self.seen[-1]

    def _hand_on(self, kind: bytes, number: int) -> None:
        """Hand on messages up to so many of a kind."""
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
    """Start a full refresh, as `tap-mega-full` is."""
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


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    """A PostgreSQL."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """An API with the time of day: the commands are other processes."""
    with Sandbox(leads=LEADS) as api:
        yield api


@pytest.fixture(params=["hard", "soft"])
def warehouse(
    request: pytest.FixtureRequest, database_url: str, sandbox: Sandbox, tmp_path: Path
) -> Iterator[Warehouse]:
    """An empty warehouse, whose loader deletes or marks."""
    Pipeline(tmp_path, sandbox.config(), database_url, SCHEMA).install()
    with temporary_schema(database_url, SCHEMA) as table:
        yield Warehouse(table, tmp_path, database_url, request.param == "hard")


only_hard = pytest.mark.parametrize("warehouse", ["hard"], indirect=True)


def test_the_table_is_never_short(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """Readers see every lead always; what is gone goes, and may come back."""
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    gone = {*sandbox.leads.delete(30), *sandbox.leads.merge(20)}
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.batches(5)
        assert gone <= set(warehouse.live())
        refresh.rest()
    assert min(moment["live"] for moment in refresh.seen) >= sandbox.leads.count()
    assert len({moment["refreshed"] for moment in refresh.seen}) >= 6
    assert warehouse.live() == listed(sandbox)
    kept = warehouse.table.select("SELECT id FROM leads")
    assert len(kept) == (LEADS - 50 if warehouse.hard_delete else LEADS)
    sandbox.leads.add(1, id=min(gone))
    warehouse.load(tap(config=sandbox.config(), state=first.state).stdout)
    assert warehouse.live() == listed(sandbox)


@pytest.mark.parametrize("death", ["killed", "refused"])
@only_hard
def test_a_refresh_that_dies_changes_nothing_about_the_rest(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command, death: str
) -> None:
    """Rows that it did not bring stay as they are; the next refresh removes some."""
    warehouse.load(tap(config=sandbox.config()).stdout)
    before = {row["id"]: row for row in warehouse.table.select("SELECT * FROM leads")}
    gone = {*sandbox.leads.delete(30), *sandbox.leads.merge(20)}
    if death == "refused":
        sandbox.script(Fault("error", at=4, status=403))
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.batches(2)
        if death == "killed":
            refresh.tap.kill()
        refresh.rest()
    assert refresh.tap.wait() != 0
    rest = warehouse.table.select(
        "SELECT * FROM leads WHERE _sdc_table_version IS NULL"
    )
    assert gone < {row["id"] for row in rest}
    assert [before[row["id"]] for row in rest] == rest
    assert len(warehouse.live()) == LEADS
    sandbox.script()
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.rest()
    assert warehouse.live() == listed(sandbox)


@only_hard
def test_an_hourly_run_in_the_middle_loses_nothing(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """What it writes has no version; the refresh reads it again before its end."""
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    sandbox.leads.delete(30)
    with refreshing(warehouse, sandbox, tap) as refresh:
        refresh.batches(3)
        sandbox.leads.change(200)
        sandbox.leads.add(5)
        warehouse.load(tap(config=sandbox.config(), state=first.state).stdout)
        assert listed(sandbox).items() <= warehouse.live().items()
        refresh.rest()
    assert min(moment["live"] for moment in refresh.seen) >= LEADS - 30
    assert warehouse.live() == listed(sandbox)


@only_hard
def test_an_hourly_run_at_the_very_end_is_what_the_lock_is_for(
    warehouse: Warehouse, sandbox: Sandbox, tap: Command
) -> None:
    """A lead that it adds after the last page is taken for one that is gone."""
    first = tap(config=sandbox.config())
    warehouse.load(first.stdout)
    with refreshing(warehouse, sandbox, tap) as refresh:
        end = refresh.all_but_the_end()
        (added,) = sandbox.leads.add(1)
        warehouse.load(tap(config=sandbox.config(), state=first.state).stdout)
        assert added in warehouse.live()
        refresh.end(end)
    assert added not in warehouse.live()


def test_the_cron_lines_never_run_at_once(tmp_path: Path) -> None:
    """With one lock the hourly run is skipped, and the weekly one waits."""
    jobs = {it["job"] for it in read_project()["schedules"]}
    lines = {
        found["weekday"]: found["line"]
        for found in CRON.finditer(README.read_text("utf-8"))
    }
    assert len(lines) == 2
    for line in lines.values():
        assert line.split(" run ")[1].split()[0] in jobs
    hourly, weekly = (
        line.replace("/srv/tap-mega", str(tmp_path)).replace(
            ".venv/bin/meltano", "echo"
        )
        for _, line in sorted(lines.items())
    )
    (tmp_path / ".meltano").mkdir()
    log = tmp_path / ".meltano" / "leads.log"
    with (tmp_path / "meltano.yml").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["/bin/sh", "-c", hourly], check=True)
        waiting = subprocess.Popen(["/bin/sh", "-c", weekly])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.2)
        assert log.read_text() == ""
        fcntl.flock(lock, fcntl.LOCK_UN)
    assert waiting.wait(10) == 0
    assert log.read_text() == f"run {JOB}\n"


def test_the_job_refreshes_the_same_table(database_url: str, tmp_path: Path) -> None:
    """`meltano run` marks what is gone, with the same variables, and no hole."""
    with (
        Sandbox(leads=LEADS) as sandbox,
        temporary_schema(database_url, SCHEMA) as table,
        futures.ThreadPoolExecutor() as pool,
    ):
        pipeline = Pipeline(tmp_path, sandbox.config(), database_url, SCHEMA)
        pipeline.install()
        pipeline.run()
        bookmark = pipeline.bookmark()
        gone = {*sandbox.leads.delete(30), *sandbox.leads.merge(20)}
        run = pool.submit(pipeline.meltano, "run", JOB)
        warehouse = Warehouse(table, tmp_path, database_url, hard_delete=False)
        seen = [warehouse.counts()]
        while not futures.wait([run], TICK_SECONDS).done:
            seen.append(warehouse.counts())
        run.result()
        assert min(moment["live"] for moment in seen) >= sandbox.leads.count()
        assert warehouse.live() == listed(sandbox)
        marked = table.select("SELECT * FROM leads WHERE _sdc_deleted_at IS NOT NULL")
        assert {row["id"] for row in marked} == gone
        assert pipeline.bookmark() == bookmark
        states = pipeline.meltano("state", "list").stdout.split()
        assert states == [STATE_ID, STATE_ID.replace("tap-mega", "tap-mega-full")]
