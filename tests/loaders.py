"""The loaders that are tried: how each is installed, and what it makes of a lead."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import json
import subprocess
import typing as t

from psycopg.conninfo import conninfo_to_dict

from demo.pipeline import ROOT, read_project, with_scheme
from testing.environments import make_environment

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.pipeline import Table
    from testing.harness import Json

CONSTRAINTS = ROOT / "constraints.txt"
HOME = ROOT / ".loaders"
PLUGINS = {plugin["name"]: plugin for plugin in read_project()["plugins"]["loaders"]}

TIMES = ("created_at", "updated_at", "last_interaction_at")
FLATTENING = {"flattening_enabled": True, "flattening_max_depth": 1}
PARTS = {
    "current_stage": ("id", "slug", "name", "color"),
    "owner": ("id", "name", "role_name"),
}
# Run by the loader's own Python, which has the DuckDB that wrote the file.
READ_DUCKDB = """
import duckdb, json, sys
table = duckdb.connect(sys.argv[1]).execute("SELECT * FROM mega.leads")
names = [column[0] for column in table.description]
rows = [dict(zip(names, row)) for row in table.fetchall()]
print(json.dumps(rows, default=str))
"""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where leads are to land."""

    folder: Path
    database_url: str
    table: Table
    """The leads in a schema of that database."""


@dataclasses.dataclass(frozen=True)
class Loader:
    """A loader, and what is expected of it."""

    name: str
    """As in `meltano.yml`, if it is there."""
    settings: Callable[[Place], Json]
    """What is set beside the configuration in `meltano.yml`."""
    read: Callable[[Place], list[Json]]
    """The rows that have landed, in their order."""
    stored: Callable[[Json], Json]
    """What the row of a lead should hold."""
    tap: Json = dataclasses.field(default_factory=dict)
    """Settings of the tap that it needs."""
    appends: bool = False
    """Whether a lead that comes twice is there twice."""
    removes: bool = False
    """Whether leads that a full table does not bring any more are removed."""
    pip_url: str = ""
    """For one that is not in `meltano.yml`."""
    constrained: bool = True
    """Whether it works with the versions in `constraints.txt`."""
    newest_python: tuple[int, int] = (3, 99)
    """The last one that it needs no compiler on."""

    @property
    def requirement(self) -> str:
        """What is installed."""
        return str(PLUGINS[self.name]["pip_url"] if self.in_meltano else self.pip_url)

    @property
    def in_meltano(self) -> bool:
        """Whether `meltano.yml` has it."""
        return self.name in PLUGINS

    @property
    def environment(self) -> Path:
        """Its virtual environment, which outlives the tests."""
        return HOME / self.name

    def install(self) -> None:
        """Make its environment, unless it is there already."""
        constraints = CONSTRAINTS if self.constrained else None
        make_environment(self.environment, self.requirement.split(), constraints)

    def load(self, messages: str, place: Place, **settings: object) -> Json:
        """Load messages, and return the last state that it wrote."""
        plugin = PLUGINS.get(self.name, {})
        config = {**plugin.get("config", {}), **self.settings(place), **settings}
        file = place.folder / "target.json"
        file.write_text(json.dumps(config))
        program = plugin.get("executable", "target-postgres")
        run = subprocess.run(
            [self.environment / "bin" / program, "--config", file],
            input=messages,
            cwd=place.folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return t.cast("Json", json.loads(run.stdout.splitlines()[-1]))


def as_written(text: str) -> dt.datetime:
    """Return the time that a clock showed, whatever its zone."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=None)


def in_utc(text: str) -> dt.datetime:
    """Return the time in UTC, without a zone."""
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC).replace(tzinfo=None)


def with_times(lead: Json, read: Callable[[str], object]) -> Json:
    """Return a lead with its times as something else than text."""
    return {**lead, **{name: lead[name] and read(lead[name]) for name in TIMES}}


def in_postgres(lead: Json) -> Json:
    """Return the row in target-postgres: times without their zone, else the same."""
    return with_times(lead, as_written)


def read_postgres(place: Place) -> list[Json]:
    """Return the rows of the table."""
    return place.table.select("SELECT * FROM leads")


def in_duckdb(lead: Json) -> Json:
    """Return the row in target-duckdb: times in UTC; an empty text is NULL."""
    row = with_times(lead, lambda text: str(in_utc(text)))
    return {name: None if value == "" else value for name, value in row.items()}


def read_duckdb(place: Place) -> list[Json]:
    """Return the rows of the table, with the JSON columns parsed."""
    python = HOME / "target-duckdb" / "bin" / "python"
    run = subprocess.run(
        [python, "-c", READ_DUCKDB, place.folder / "leads.duckdb"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    rows: list[Json] = json.loads(run.stdout)
    return [with_objects(row, (*PARTS, "custom_fields")) for row in rows]


def with_objects(row: Json, names: tuple[str, ...]) -> Json:
    """Return a row with these columns parsed as JSON."""
    return {**row, **{name: row[name] and json.loads(row[name]) for name in names}}


def read_jsonl(place: Place) -> list[Json]:
    """Return the lines of all runs."""
    text = (place.folder / "leads.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def in_csv(lead: Json) -> Json:
    """Return the row in a CSV file: flattened, all text, what is null empty."""
    row = with_times(lead, dt.datetime.fromisoformat)
    for name, parts in PARTS.items():
        found = row.pop(name) or {}
        row |= {f"{name}__{part}": found.get(part) for part in parts}
    custom = row.pop("custom_fields")
    texts = {name: "" if it is None else str(it) for name, it in row.items()}
    return {**texts, "custom_fields": custom}


def read_csv(place: Place) -> list[Json]:
    """Return the rows of the files of all runs, with `custom_fields` parsed."""
    rows: list[Json] = []
    for path in sorted(place.folder.glob("leads-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return [with_objects(row, ("custom_fields",)) for row in rows]


def in_pipelinewise(lead: Json) -> Json:
    """Return the row in the other target-postgres.

    A text's control characters are JSON's escapes, and an empty one is NULL.
    """
    row = {
        name: escaped(value) if isinstance(value, str) else value
        for name, value in lead.items()
    }
    return with_times(row, as_written)


def escaped(text: str) -> str | None:
    """Return a text with its control characters as JSON writes them."""
    letters = (json.dumps(it)[1:-1] if it < " " else it for it in text)
    return "".join(letters) or None


def pipelinewise(place: Place) -> Json:
    """Return the settings of the other target-postgres."""
    url = conninfo_to_dict(place.database_url)
    names = ("host", "port", "user", "password", "dbname")
    return {
        **{name: url[name] for name in names},
        "default_target_schema": place.table.schema,
    }


LOADERS = (
    Loader(
        "target-postgres",
        settings=lambda place: {
            "sqlalchemy_url": with_scheme("postgresql+psycopg", place.database_url),
            "default_target_schema": place.table.schema,
        },
        read=read_postgres,
        stored=in_postgres,
        removes=True,
    ),
    Loader(
        "target-duckdb",
        settings=lambda place: {"path": str(place.folder / "leads.duckdb")},
        read=read_duckdb,
        stored=in_duckdb,
        newest_python=(3, 13),
    ),
    Loader(
        "target-jsonl",
        settings=lambda place: {
            "destination_path": str(place.folder),
            "do_timestamp_file": False,
        },
        read=read_jsonl,
        stored=lambda lead: lead,
        appends=True,
        constrained=False,
    ),
    Loader(
        "target-csv",
        settings=lambda place: {"output_path": str(place.folder)},
        read=read_csv,
        stored=in_csv,
        tap=FLATTENING,
        appends=True,
    ),
    Loader(
        "pipelinewise-target-postgres",
        settings=pipelinewise,
        read=read_postgres,
        stored=in_pipelinewise,
        pip_url="pipelinewise-target-postgres==2.1.2",
        constrained=False,
        newest_python=(3, 11),
    ),
)
