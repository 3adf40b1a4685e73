"""The tested loaders: how to install and run them, and how they store a lead."""

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

CONSTRAINTS = ROOT / "constraints-loaders.txt"
HOME = ROOT / ".loaders"
PLUGINS = {plugin["name"]: plugin for plugin in read_project()["plugins"]["loaders"]}

TIMES = ("created_at", "updated_at", "last_interaction_at")
PARTS = {
    "current_stage": ("id", "slug", "name", "color"),
    "owner": ("id", "name", "role_name"),
}
# This runs with the loader's own Python, which has the DuckDB that wrote the file.
READ_DUCKDB = """
import duckdb, json, sys
table = duckdb.connect(sys.argv[1]).execute("SELECT * FROM mega.leads")
names = [column[0] for column in table.description]
rows = [dict(zip(names, row)) for row in table.fetchall()]
print(json.dumps(rows, default=str))
"""
# fakesnow answers in the place of Snowflake, in the process of the loader, from files.
READ_SNOWFLAKE = """
import json, sys
import fakesnow, snowflake.connector
settings = json.loads(sys.argv[2])
with fakesnow.patch(db_path=sys.argv[1]):
    cursor = snowflake.connector.connect(**settings).cursor()
    cursor.execute("SELECT * FROM leads")
    names = [column[0].lower() for column in cursor.description]
    rows = [dict(zip(names, row)) for row in cursor.fetchall()]
print(json.dumps(rows, default=str))
"""
SNOWFLAKE = {
    "account": "fake",
    "user": "fake",
    "password": "fake",
    "database": "WAREHOUSE",
    "schema": "MEGA",
}


@dataclasses.dataclass(frozen=True)
class Place:
    """The places that loaders write to."""

    folder: Path
    database_url: str
    table: Table
    """The table of leads in a schema of that database."""


@dataclasses.dataclass(frozen=True)
class Loader:
    """A loader and its expected behaviour."""

    name: str
    """The name. It is the one in `meltano.yml`, if the loader is there."""
    settings: Callable[[Place], Json]
    """Returns the settings besides the configuration in `meltano.yml`."""
    read: Callable[[Place], list[Json]]
    """Returns the stored rows in order."""
    stored: Callable[[Json], Json]
    """Returns the expected row of a lead."""
    appends: bool = False
    """Whether a lead that is loaded twice is stored twice."""
    removes: bool = False
    """Whether a full-table load removes leads that it does not contain."""
    pip_url: str = ""
    """The requirement of a loader that is not in `meltano.yml`."""
    command: tuple[str, ...] = ()
    """The program and its arguments, if the loader is not in `meltano.yml`."""
    constrained: bool = True
    """Whether it works with the versions in `constraints-loaders.txt`."""
    newest_python: tuple[int, int] = (3, 99)
    """The newest Python that has wheels of all its dependencies."""

    @property
    def requirement(self) -> str:
        """The requirement to install, without the constraints."""
        pip_url = str(
            PLUGINS[self.name]["pip_url"] if self.in_meltano else self.pip_url
        )
        return pip_url.partition(" --constraint ")[0]

    @property
    def in_meltano(self) -> bool:
        """Whether `meltano.yml` has it."""
        return self.name in PLUGINS

    @property
    def environment(self) -> Path:
        """The virtual environment, which is kept after the tests."""
        return HOME / self.name

    def install(self) -> None:
        """Make the environment, unless it already exists."""
        constraints = CONSTRAINTS if self.constrained else None
        make_environment(self.environment, self.requirement.split(), constraints)

    def load(self, messages: str, place: Place, **settings: object) -> Json:
        """Load messages, and return the last state that the loader writes."""
        plugin = PLUGINS.get(self.name, {})
        config = {**plugin.get("config", {}), **self.settings(place), **settings}
        file = place.folder / "target.json"
        file.write_text(json.dumps(config))
        command = self.command or (plugin["executable"],)
        program = self.environment / "bin" / command[0]
        run = subprocess.run(
            [program, *command[1:], "--config", file],
            input=messages,
            cwd=place.folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return t.cast("Json", json.loads(run.stdout.splitlines()[-1]))


def as_written(text: str) -> dt.datetime:
    """Return a timestamp without its zone, and do not convert it."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=None)


def in_utc(text: str) -> dt.datetime:
    """Return a timestamp in UTC, without a zone."""
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC).replace(tzinfo=None)


def with_times(lead: Json, read: Callable[[str], object]) -> Json:
    """Return a lead with its timestamps converted from text."""
    return {**lead, **{name: lead[name] and read(lead[name]) for name in TIMES}}


def in_postgres(lead: Json) -> Json:
    """Return the row of target-postgres, which drops the zones of timestamps."""
    return with_times(lead, as_written)


def read_postgres(place: Place) -> list[Json]:
    """Return the rows of the table."""
    return place.table.select("SELECT * FROM leads")


def in_duckdb(lead: Json) -> Json:
    """Return the row of target-duckdb: timestamps in UTC, and NULL for empty text."""
    row = with_times(lead, lambda text: str(in_utc(text)))
    return {name: None if value == "" else value for name, value in row.items()}


def read_duckdb(place: Place) -> list[Json]:
    """Return the rows of the table with parsed JSON columns."""
    return read_with("target-duckdb", READ_DUCKDB, place.folder / "leads.duckdb")


def read_with(name: str, code: str, *arguments: Path | str) -> list[Json]:
    """Return the rows that code prints in the environment of a loader."""
    python = HOME / name / "bin" / "python"
    text = subprocess.check_output([python, "-c", code, *arguments], encoding="utf-8")
    return [with_objects(row, (*PARTS, "custom_fields")) for row in json.loads(text)]


def with_objects(row: Json, names: tuple[str, ...]) -> Json:
    """Return a row with some columns parsed as JSON."""
    return {**row, **{name: row[name] and json.loads(row[name]) for name in names}}


def in_snowflake(lead: Json) -> Json:
    """Return the row of target-snowflake, which drops the zones of timestamps."""
    return with_times(lead, lambda text: str(as_written(text)))


def read_snowflake(place: Place) -> list[Json]:
    """Return the rows of the table with parsed VARIANT columns."""
    settings = json.dumps(SNOWFLAKE)
    return read_with("target-snowflake", READ_SNOWFLAKE, place.folder, settings)


def read_jsonl(place: Place) -> list[Json]:
    """Return the parsed lines of all runs."""
    text = (place.folder / "leads.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def in_csv(lead: Json) -> Json:
    """Return the row of a CSV file: flattened text, in which nulls are empty."""
    row = with_times(lead, dt.datetime.fromisoformat)
    for name, parts in PARTS.items():
        found = row.pop(name) or {}
        row |= {f"{name}__{part}": found.get(part) for part in parts}
    custom = row.pop("custom_fields")
    texts = {name: "" if it is None else str(it) for name, it in row.items()}
    return {**texts, "custom_fields": custom}


def read_csv(place: Place) -> list[Json]:
    """Return the rows of all runs with parsed `custom_fields`."""
    rows: list[Json] = []
    for path in sorted(place.folder.glob("leads-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return [with_objects(row, ("custom_fields",)) for row in rows]


def in_pipelinewise(lead: Json) -> Json:
    """Return the row of PipelineWise's target-postgres.

    In text, control characters are JSON escapes. Empty text is NULL.
    """
    row = {
        name: escaped(value) if isinstance(value, str) else value
        for name, value in lead.items()
    }
    return with_times(row, as_written)


def escaped(text: str) -> str | None:
    """Return text with control characters as JSON escapes, or None if it is empty."""
    letters = (json.dumps(it)[1:-1] if it < " " else it for it in text)
    return "".join(letters) or None


def pipelinewise(place: Place) -> Json:
    """Return the settings of PipelineWise's target-postgres."""
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
        appends=True,
    ),
    Loader(
        "pipelinewise-target-postgres",
        settings=pipelinewise,
        read=read_postgres,
        stored=in_pipelinewise,
        pip_url="pipelinewise-target-postgres==2.1.2",
        command=("target-postgres",),
        constrained=False,
        newest_python=(3, 11),
    ),
    Loader(
        "target-snowflake",
        settings=lambda _: SNOWFLAKE,
        read=read_snowflake,
        stored=in_snowflake,
        removes=True,
        pip_url="meltanolabs-target-snowflake==0.20.4 fakesnow==0.12.1",
        command=("python", str(ROOT / "tests" / "fake_snowflake.py")),
        constrained=False,
    ),
)
