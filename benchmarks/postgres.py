"""Measure a load into PostgreSQL: `python3 dev.py python -m benchmarks.postgres`.

`meltano run` loads with tap-mega and with a plain SDK tap into a PostgreSQL server of
its own. Each tap runs with the loader settings of meltano.yml and with the loader's
defaults. The combinations take turns.
"""

from __future__ import annotations

import resource
import shlex
import sys
import tempfile
import time
import typing as t
from pathlib import Path
from statistics import median

import yaml
from typing_extensions import override

from benchmarks.contenders import PEERS
from benchmarks.report import format_table, make_parser, median_ratio, publish
from benchmarks.runs import ROOT, print_progress, serve_leads
from demo.pipeline import Pipeline, read_project, temporary_schema
from demo.postgres import postgres_server
from demo.processes import exit_on_signals

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.runs import Server

LEADS = 100_000
ROUNDS = 3
SCHEMA = "mega_benchmark"
LOADER = "target-postgres"
SHIPPED: dict[str, str] = {}
DEFAULTS = {
    "TARGET_POSTGRES_USE_COPY": "false",
    "TARGET_POSTGRES_VALIDATE_RECORDS": "true",
}


class Load(t.NamedTuple):
    """The seconds that a load took."""

    wall: float
    cpu: float
    """The CPU time of Meltano, tap and loader, without the database."""


class TapPipeline(Pipeline):
    """A pipeline with any tap of a project and with other settings for the loader."""

    def __init__(self, tap: str, loader: Mapping[str, str], **kwargs: t.Any) -> None:
        """Set the tap and the loader.

        Args:
            tap: The name of the tap in the project.
            loader: Environment variables that configure the loader.
            **kwargs: Arguments for `Pipeline`.
        """
        super().__init__(**kwargs)
        self._tap = tap
        prefix = tap.upper().replace("-", "_")
        settings = kwargs["config"].items()
        self._environment |= {f"{prefix}_{key.upper()}": it for key, it in settings}
        self._environment |= loader

    @override
    def run(self) -> str:
        """Run `meltano run TAP target-postgres`, and return its log."""
        return self.meltano("run", self._tap, LOADER).stderr


def main() -> None:
    """Measure, and print the table."""
    options = make_parser(__doc__, leads=LEADS, rounds=ROUNDS).parse_args()
    exit_on_signals()
    with (
        serve_leads(options.leads) as server,
        postgres_server() as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        write_project(Path(folder))
        ours, plain = (ROOT, "tap-mega"), (Path(folder), "tap-plain")
        combinations = {
            ("tap-mega", "as in meltano.yml"): (*ours, SHIPPED),
            ("tap-mega", "defaults"): (*ours, DEFAULTS),
            ("plain SDK tap", "as in meltano.yml"): (*plain, SHIPPED),
            ("plain SDK tap", "defaults"): (*plain, DEFAULTS),
        }
        loads: dict[tuple[str, str], list[Load]] = {it: [] for it in combinations}
        for number in range(1, options.rounds + 1):
            for (tap, loader), arguments in combinations.items():
                progress = f"round {number} of {options.rounds}"
                print_progress(f"{progress}: {tap}, loader {loader}")
                loads[tap, loader].append(run_load(server, url, *arguments))
    table = format_table(format_loads(loads))
    conditions = f"{options.leads:,} leads, medians of {options.rounds} rounds."
    publish("postgres", f"{table}\n{conditions}\n", write=options.write)


def write_project(folder: Path) -> None:
    """Write a Meltano project with the plain tap and the loaders of meltano.yml."""
    project = read_project()
    executable = folder / "tap-plain"
    command = shlex.join([sys.executable, str(PEERS / "plain_tap.py")])
    executable.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    executable.chmod(0o755)
    names = ("auth_token", "customer_id", "api_url")
    tap = {
        "name": "tap-plain",
        "namespace": "tap_plain",
        "executable": str(executable),
        "capabilities": ["catalog", "discover", "state"],
        "settings": [{"name": name, "kind": "string"} for name in names],
    }
    project["plugins"]["extractors"] = [tap]
    del project["jobs"], project["schedules"]
    (folder / "meltano.yml").write_text(yaml.safe_dump(project), encoding="utf-8")


def run_load(
    server: Server, url: str, project: Path, tap: str, loader: Mapping[str, str]
) -> Load:
    """Load all leads into an empty schema, and return the time.

    Raises:
        RuntimeError: The table does not contain all leads.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_schema(url, SCHEMA) as table,
    ):
        pipeline = TapPipeline(
            tap,
            loader,
            config={name: str(value) for name, value in server.settings.items()},
            database_url=url,
            folder=Path(folder),
            project=project,
            schema=SCHEMA,
        )
        pipeline.install()
        wall, cpu = time.perf_counter(), cpu_of_children()
        pipeline.run()
        load = Load(time.perf_counter() - wall, cpu_of_children() - cpu)
        rows = table.select("SELECT count(*) AS rows FROM leads")[0]["rows"]
    if rows != server.leads:
        msg = f"the table has {rows} rows for {server.leads} leads"
        raise RuntimeError(msg)
    return load


def cpu_of_children() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def format_loads(loads: dict[tuple[str, str], list[Load]]) -> list[dict[str, str]]:
    """Return the medians, and the ratios to the first load round by round."""
    first = next(iter(loads.values()))
    first_wall, first_cpu = [it.wall for it in first], [it.cpu for it in first]
    rows = []
    for (tap, loader), runs in loads.items():
        wall, cpu = [it.wall for it in runs], [it.cpu for it in runs]
        rows.append(
            {
                "tap": tap,
                "loader": loader,
                "wall": f"{median(wall):.1f} s",
                "wall ÷ first": f"{median_ratio(wall, first_wall):.2f}",
                "CPU": f"{median(cpu):.1f} s",
                "CPU ÷ first": f"{median_ratio(cpu, first_cpu):.2f}",
            }
        )
    return rows


if __name__ == "__main__":
    main()
