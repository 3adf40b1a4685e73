"""The dbt package in `dbt/`, run by the real dbt in an environment of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tomllib
import typing as t

import pytest

from demo.pipeline import ROOT
from demo.processes import environment_without
from testing.environments import make_environment
from tests.tables import DBT

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from testing.harness import Json

ENVIRONMENT = ROOT / ".loaders" / "dbt"
CONSTRAINTS = ROOT / "constraints-dbt.txt"
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
NEWEST_PYTHON = (3, 13)
"""The newest Python that dbt-core below 1.12 supports."""
FOREIGN_PREFIXES = ("DBT_", "PG", "TAP_MEGA_", "TARGET_")
# This runs with dbt's own Python, which has a DuckDB.
QUERY_DUCKDB = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1])
results = []
for statement in json.load(sys.stdin):
    found = connection.execute(statement)
    names = [column[0] for column in found.description]
    results.append([dict(zip(names, row)) for row in found.fetchall()])
print(json.dumps(results, default=str))
"""


def query_duckdb(file: Path, statements: Sequence[str]) -> list[list[Json]]:
    """Run statements in DuckDB, and return the rows of each."""
    run = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", QUERY_DUCKDB, file],
        input=json.dumps(statements),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return t.cast("list[list[Json]]", json.loads(run.stdout))


@dataclasses.dataclass(frozen=True)
class Dbt:
    """Runs dbt."""

    folder: Path
    """The folder for what dbt writes."""
    variables: Mapping[str, str]
    """The variables of its environment."""
    project: Path = DBT

    def __post_init__(self) -> None:
        """Make the environment, unless it exists. Skip if no dbt supports Python."""
        if sys.version_info[:2] > NEWEST_PYTHON:
            pytest.skip("dbt-core does not support this Python")
        make_environment(ENVIRONMENT, GROUPS["dbt"], CONSTRAINTS)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command. Warnings are errors."""
        return subprocess.run(
            [
                ENVIRONMENT / "bin" / "dbt",
                "--no-use-colors",
                "--warn-error",
                *arguments,
            ],
            cwd=self.project,
            env={
                **environment_without(FOREIGN_PREFIXES),
                "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
                "DBT_TARGET_PATH": str(self.folder / "target"),
                "DBT_LOG_PATH": str(self.folder / "logs"),
                **self.variables,
            },
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def succeed(self, *arguments: str) -> None:
        """Run a command that has to succeed."""
        run = self(*arguments)
        assert run.returncode == 0, run.stdout

    def artifact(self, name: str) -> Json:
        """Return a file that dbt wrote."""
        text = (self.folder / "target" / f"{name}.json").read_text(encoding="utf-8")
        return t.cast("Json", json.loads(text))
