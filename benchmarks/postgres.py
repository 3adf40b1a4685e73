"""What a load takes: `python3 dev.py python -m benchmarks.postgres`.

`meltano run` into a PostgreSQL of its own, with tap-mega and with a plain SDK tap, each
with the loader as meltano.yml sets it and with the loader's defaults; in turn.
"""

from __future__ import annotations

import json
import resource
import shlex
import sys
import tempfile
import time
import typing as t
from pathlib import Path
from statistics import median

import yaml

from benchmarks.contenders import PEERS
from benchmarks.report import parser, publish, table
from benchmarks.runs import ROOT, say, served, stop_at_signals
from demo.pipeline import Pipeline, read_project, temporary_schema
from demo.postgres import postgres_server

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
    """What a load took, in seconds."""

    wall: float
    cpu: float
    """Of Meltano, tap and loader, without the database."""


class Mixed(Pipeline):
    """Any tap of a project, with settings of the loader that may be others."""

    def __init__(self, tap: str, loader: Mapping[str, str], **kwargs: t.Any) -> None:
        """Prepare it.

        Args:
            tap: The name of the tap in the project.
            loader: Variables that set the loader.
            **kwargs: As `Pipeline` has them.
        """
        super().__init__(**kwargs)
        self._tap = tap
        prefix = tap.upper().replace("-", "_")
        settings = kwargs["config"].items()
        self._environment |= {f"{prefix}_{name.upper()}": v for name, v in settings}
        self._environment |= loader

    def run(self) -> str:
        """Run `meltano run TAP target-postgres`, and return its log."""
        return self.meltano("run", self._tap, LOADER).stderr


def main() -> None:
    """Measure, and print the table."""
    given = parser(__doc__, leads=LEADS, rounds=ROUNDS).parse_args()
    stop_at_signals()
    with (
        served(given.leads) as server,
        postgres_server() as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        write_project(Path(folder))
        ours, plain = (ROOT, "tap-mega"), (Path(folder), "tap-plain")
        mixes = {
            ("tap-mega", "as in meltano.yml"): (*ours, SHIPPED),
            ("tap-mega", "defaults"): (*ours, DEFAULTS),
            ("plain SDK tap", "as in meltano.yml"): (*plain, SHIPPED),
            ("plain SDK tap", "defaults"): (*plain, DEFAULTS),
        }
        loads: dict[tuple[str, str], list[Load]] = {names: [] for names in mixes}
        for number in range(1, given.rounds + 1):
            for names, mix in mixes.items():
                say(f"round {number} of {given.rounds}: {', loader '.join(names)}")
                loads[names].append(load(server, url, *mix))
    text = f"{table(rows(loads))}\n{given.leads:,} leads, rounds: {given.rounds}.\n"
    publish("postgres", text, write=given.write)


def write_project(folder: Path) -> None:
    """Write a Meltano project with the plain tap, and with the loader as we ship it."""
    shipped = read_project()
    start = folder / "tap-plain"
    program = shlex.join([sys.executable, str(PEERS / "plain_tap.py")])
    start.write_text(f'#!/bin/sh\nexec {program} "$@"\n', encoding="utf-8")
    start.chmod(0o755)
    names = ("auth_token", "customer_id", "api_url")
    tap = {
        "name": "tap-plain",
        "namespace": "tap_plain",
        "executable": str(start),
        "capabilities": ["catalog", "discover", "state"],
        "settings": [{"name": name, "kind": "string"} for name in names],
    }
    shipped["plugins"]["extractors"] = [tap]
    del shipped["jobs"], shipped["schedules"]
    (folder / "meltano.yml").write_text(yaml.safe_dump(shipped), encoding="utf-8")


def load(
    server: Server, url: str, project: Path, tap: str, loader: Mapping[str, str]
) -> Load:
    """Load all leads into an empty schema, and return what it took.

    Raises:
        RuntimeError: If the table does not hold them all.
    """
    settings = json.loads(server.config.read_text(encoding="utf-8"))
    config = {name: str(value) for name, value in settings.items()}
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_schema(url, SCHEMA) as loaded,
    ):
        kept = {"folder": Path(folder), "database_url": url, "schema": SCHEMA}
        pipeline = Mixed(tap, loader, config=config, project=project, **kept)
        pipeline.install()
        wall, cpu = time.perf_counter(), cpu_of_children()
        pipeline.run()
        taken = Load(time.perf_counter() - wall, cpu_of_children() - cpu)
        count = loaded.select("SELECT count(*) AS rows FROM leads")[0]["rows"]
    if count != server.leads:
        msg = f"{count} rows of {server.leads}"
        raise RuntimeError(msg)
    return taken


def cpu_of_children() -> float:
    """Return the CPU seconds of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rows(loads: dict[tuple[str, str], list[Load]]) -> list[dict[str, str]]:
    """Return the medians, and how each compares to the first, round by round."""
    first = next(iter(loads.values()))
    return [
        {
            "tap": tap,
            "loader": loader,
            "wall": f"{median(it.wall for it in runs):.1f} s",
            "÷ the first": f"{compare(runs, first, 0):.2f}",
            "CPU": f"{median(it.cpu for it in runs):.1f} s",
            "÷ the first's": f"{compare(runs, first, 1):.2f}",
        }
        for (tap, loader), runs in loads.items()
    ]


def compare(these: list[Load], those: list[Load], part: int) -> float:
    """Return the median of what these took to what those of the same round took."""
    pairs = zip(these, those, strict=True)
    return median(one[part] / other[part] for one, other in pairs)


if __name__ == "__main__":
    main()
