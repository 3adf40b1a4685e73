"""A table that the real target-postgres loads, and the job that loads it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import typing as t

from demo.pipeline import ROOT, Pipeline, temporary_schema, with_scheme
from tests.loaders import PLUGINS

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demo.pipeline import Table
    from sandbox import Sandbox
    from testing.clock import FakeClock
    from testing.harness import Command, Json, Run

    Key: t.TypeAlias = tuple[str, str]

BATCH = 100
SECONDS_BETWEEN_LOOKS = 0.02
HOUR = 3600
DAY = 24 * HOUR
SCHEMA = "mega_deletions"
TARGET = ROOT / ".meltano" / "loaders" / "target-postgres" / "venv/bin/target-postgres"
ROWS = """
SELECT customer_id, id, interaction_count, _sdc_deleted_at IS NULL AS live FROM leads
"""
EXISTS = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'leads'"


@dataclasses.dataclass
class Warehouse:
    """Loads a table with the loader from meltano.yml, in smaller batches."""

    table: Table
    folder: Path
    url: str
    sandbox: Sandbox
    hard_delete: bool

    def listed(self) -> dict[Key, int]:
        """Return the interaction count of each lead, which grows with every change."""
        return {
            (customer.customer_id, lead["id"]): lead["interaction_count"]
            for customer in self.sandbox.customers
            for lead in customer.leads.all()
        }

    def live(self) -> dict[Key, int]:
        """Return the rows that are not marked as deleted, in the form of `listed`."""
        if not self.table.select(EXISTS, self.table.schema):
            return {}
        return {
            (row["customer_id"], row["id"]): row["interaction_count"]
            for row in self.table.select(ROWS)
            if row["live"]
        }

    def stored(self) -> set[Key]:
        """Return the keys of all rows."""
        return {(row["customer_id"], row["id"]) for row in self.table.select(ROWS)}

    def load(self, messages: str) -> Json | None:
        """Load the output of a tap, and return the last state that the loader wrote.

        Meanwhile, read the table all the time: no row of a live lead is ever missing.
        """
        alive = self.live().keys() & self.listed().keys()
        with self.start(messages) as target:
            while target.poll() is None:
                assert alive <= self.live().keys()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    target.wait(SECONDS_BETWEEN_LOOKS)
        assert target.returncode == 0
        assert alive <= self.live().keys()
        states = (self.folder / "states").read_text().splitlines()
        return t.cast("Json", json.loads(states[-1])) if states else None

    @contextlib.contextmanager
    def start(self, messages: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start the loader with the output of a tap, and kill it at the end."""
        plugin, config = PLUGINS["target-postgres"], self.folder / "target.json"
        settings = {
            **plugin["config"],
            "sqlalchemy_url": with_scheme("postgresql+psycopg", self.url),
            "default_target_schema": self.table.schema,
            "hard_delete": self.hard_delete,
            "batch_size_rows": BATCH,
        }
        config.write_text(json.dumps(settings))
        (self.folder / "messages").write_text(messages, encoding="utf-8")
        with (
            (self.folder / "messages").open("rb") as stdin,
            (self.folder / "states").open("wb") as stdout,
            subprocess.Popen(
                [TARGET, "--config", config],
                env={**os.environ, **plugin["env"]},
                stdin=stdin,
                stdout=stdout,
            ) as target,
        ):
            try:
                yield target
            finally:
                target.kill()


@dataclasses.dataclass
class Job:
    """Runs the tap and the loader, an hour later each time, as an orchestrator does."""

    tap: Command
    clock: FakeClock
    warehouse: Warehouse
    state: Json | None = None
    """What the last run has saved."""

    @property
    def config(self) -> Json:
        """The settings."""
        deletions = {"emit_activate_version_messages": True}
        return {**self.warehouse.sandbox.config(), **deletions}

    def extract(self, **settings: t.Any) -> Run:
        """Run the tap alone, with more settings."""
        self.clock.sleep(HOUR)
        config = {**self.config, **settings}
        return self.tap(config=config, state=self.state, clock=self.clock)

    def load(self, messages: str) -> None:
        """Load messages, and save the state."""
        self.state = self.warehouse.load(messages) or self.state

    def run(self, *, code: int = 0, **settings: t.Any) -> Run:
        """Run the tap, whose exit code is known, and load what it writes."""
        run = self.extract(**settings)
        assert run.code == code, run.log
        self.load(run.stdout)
        return run


@contextlib.contextmanager
def warehouse_of(
    sandbox: Sandbox, folder: Path, database_url: str, *, hard_delete: bool
) -> Iterator[Warehouse]:
    """Provide an empty warehouse for the leads of a sandbox."""
    Pipeline(folder, {}, database_url, SCHEMA).install()
    with temporary_schema(database_url, SCHEMA) as table:
        yield Warehouse(table, folder, database_url, sandbox, hard_delete)
