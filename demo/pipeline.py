"""Meltano and a database, isolated from the developer's own settings and data."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import psycopg
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from demo.processes import environment_without, run_in_session

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
MELTANO = Path(sys.executable).parent / "meltano"
PLUGINS = ("tap-mega", "target-postgres")
STATE_ID = "dev:tap-mega-to-target-postgres"
FOREIGN_PREFIXES = ("MELTANO_", "PG", "TAP_MEGA_", "TARGET_")
"""Prefixes of the developer's own variables that would change a run."""
INSTALL_INPUTS = (
    "constraints.txt",
    "constraints-loaders.txt",
    "meltano.yml",
    "pyproject.toml",
)
"""The files that determine which packages the plugins get."""


def read_project() -> dict[str, t.Any]:
    """Return the content of `meltano.yml`. The caller may change it."""
    text = (ROOT / "meltano.yml").read_text(encoding="utf-8")
    return t.cast("dict[str, t.Any]", yaml.safe_load(text))


class CommandError(Exception):
    """A command failed. The message names it, and `output` is its output."""

    def __init__(self, message: str, output: str) -> None:
        """Keep the output apart from the message."""
        super().__init__(message)
        self.add_note(output)  # A traceback shows the note.
        self.output = output


class Pipeline:
    """Runs `tap-mega` into `target-postgres` with its own state and settings.

    It shares only the plugins' virtual environments with the project, in `.meltano`.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, str],
        database_url: str,
        schema: str,
        project: Path = ROOT,
    ) -> None:
        """Prepare a Meltano system folder without any state.

        Args:
            folder: An empty folder for Meltano's own files.
            config: The settings of the tap.
            database_url: The database to load into.
            schema: The schema to load into.
            project: The folder with the `meltano.yml` to use. It must have the
                same plugins as the project's own.
        """
        self._project = project
        for name in ("extractors", "loaders"):
            shared = ROOT / ".meltano" / name
            shared.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(shared)
        self._dotenv = folder / "no.env"
        self._environment = {
            **environment_without(FOREIGN_PREFIXES),
            **{f"TAP_MEGA_{name.upper()}": value for name, value in config.items()},
            "TARGET_POSTGRES_SQLALCHEMY_URL": with_scheme(
                "postgresql+psycopg", database_url
            ),
            "TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA": schema,
            "MELTANO_ENVIRONMENT": "dev",
            "MELTANO_PROJECT_ROOT": str(project),
            "MELTANO_SYS_DIR_ROOT": str(folder),
            "MELTANO_DATABASE_URI": f"sqlite:///{folder}/meltano.db",
            "MELTANO_STATE_BACKEND_URI": "systemdb",
            "XDG_STATE_HOME": str(folder),  # Meltano keeps its logs there.
            **{name: _no_proxy(name) for name in ("NO_PROXY", "no_proxy")},
            "NO_COLOR": "1",
        }

    def install(self) -> None:
        """Run `meltano install`, unless it has already run with the same files.

        Only one process does it at a time: tests run in several.

        Raises:
            CommandError: The command failed.
        """
        with (ROOT / ".meltano" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._install()

    def _install(self) -> None:
        stamp = ROOT / ".meltano" / "made-from"
        digest = hashlib.sha256(f"{sys.version}{ROOT}".encode())
        for name in INSTALL_INPUTS:
            digest.update((ROOT / name).read_bytes())
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        self.meltano("install", *PLUGINS)
        stamp.write_text(digest.hexdigest())

    def run(self) -> str:
        """Run `meltano run tap-mega target-postgres`, and return its log.

        Raises:
            CommandError: The command failed.
        """
        return self.meltano("run", *PLUGINS).stderr

    def part(self) -> dict[str, t.Any]:
        """Return the only customer's part of the state, from `meltano state get`.

        Raises:
            CommandError: The command failed.
        """
        state = json.loads(self.meltano("state", "get", STATE_ID).stdout)
        (part,) = state["singer_state"]["bookmarks"]["leads"]["partitions"]
        return t.cast("dict[str, t.Any]", part)

    def bookmark(self) -> str:
        """Return the bookmark of the leads, as `part` finds it."""
        return t.cast("str", self.part()["replication_key_value"])

    def meltano(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a Meltano command. If interrupted, kill it with its children.

        Raises:
            CommandError: Its exit code is not 0.
        """
        done = run_in_session(
            [str(MELTANO), f"--env-file={self._dotenv}", *arguments],
            cwd=self._project,
            env=self._environment,
            stderr=subprocess.PIPE,
        )
        if done.returncode:
            command = f"meltano {' '.join(arguments)}"
            msg = f"`{command}` failed with exit code {done.returncode}"
            raise CommandError(msg, done.stderr + done.stdout)
        return done


@contextlib.contextmanager
def temporary_schema(database_url: str, name: str) -> Iterator[Table]:
    """Make sure that no schema has this name, and drop it again at the end.

    Yields:
        The table of leads in the schema.

    Raises:
        psycopg.OperationalError: The database cannot be reached.
    """
    drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name))
    with _connect(database_url) as connection:
        connection.execute("SET client_min_messages TO warning")
        connection.execute(drop)
        try:
            yield Table(connection, name)
        finally:
            connection.execute(drop)


class Table:
    """The table of leads that a loader writes."""

    def __init__(
        self, connection: psycopg.Connection[dict[str, t.Any]], schema: str
    ) -> None:
        """Make the schema the default one of the connection."""
        self.schema = schema
        self._connection = connection
        connection.execute(
            sql.SQL("SET search_path TO {}").format(sql.Identifier(schema))
        )

    def select(self, query: t.LiteralString, *values: object) -> list[dict[str, t.Any]]:
        """Return the rows of a query, which calls the table `leads`."""
        return self._connection.execute(query, values).fetchall()


def _connect(database_url: str) -> psycopg.Connection[dict[str, t.Any]]:
    # libpq takes what the URL does not set from these variables.
    hidden = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith("PG")}
    try:
        url = with_scheme("postgresql", database_url)
        return psycopg.connect(url, autocommit=True, row_factory=dict_row)
    finally:
        os.environ.update(hidden)


def _no_proxy(name: str) -> str:
    """Return the value of the variable with this machine, the sandbox's, added."""
    return ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))


def with_scheme(scheme: str, url: str) -> str:
    """Return a URL with another scheme, for example one that names a driver."""
    return f"{scheme}://{url.partition('://')[2]}"


def postgres_variables(database_url: str, schema: str) -> dict[str, str]:
    """Return the variables of target-postgres for a schema of a database."""
    settings = {"host": "localhost", "port": 5432, **conninfo_to_dict(database_url)}
    settings |= {"database": settings["dbname"], "default_target_schema": schema}
    names = ("host", "port", "user", "password", "database", "default_target_schema")
    return {
        f"TARGET_POSTGRES_{name.upper()}": str(settings.get(name, "")) for name in names
    }
