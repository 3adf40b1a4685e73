"""The real Meltano and a real database, apart from what the developer has there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import psycopg
import yaml
from psycopg import sql
from psycopg.rows import dict_row

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
MELTANO = Path(sys.executable).parent / "meltano"
PLUGINS = ("tap-mega", "target-postgres")
STATE_ID = "dev:tap-mega-to-target-postgres"
# Variables of the developer that would change a run.
NOT_OURS = ("MELTANO_", "PG", "TAP_MEGA_", "TARGET_")
# What decides which packages the plugins are made of.
MADE_FROM = ("constraints.txt", "meltano.yml", "pyproject.toml")


def read_project() -> dict[str, t.Any]:
    """Return what `meltano.yml` holds, for the caller to change."""
    text = (ROOT / "meltano.yml").read_text(encoding="utf-8")
    return t.cast("dict[str, t.Any]", yaml.safe_load(text))


class CommandError(Exception):
    """A command failed; the message says which, `output` is what it wrote."""

    def __init__(self, message: str, output: str) -> None:
        """Keep the output beside the message."""
        super().__init__(message)
        self.add_note(output)  # so that a traceback shows it
        self.output = output


class Pipeline:
    """`tap-mega` into `target-postgres`, with a state and settings of its own.

    Only the plugins' virtual environments are the project's: in `.meltano`.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, str],
        database_url: str,
        schema: str,
        project: Path = ROOT,
    ) -> None:
        """Prepare a Meltano that knows nothing yet.

        Args:
            folder: An empty folder, for what Meltano keeps.
            config: Settings of the tap.
            database_url: The database to load into.
            schema: The schema there.
            project: The folder of another `meltano.yml` with these plugins.
        """
        self._project = project
        for name in ("extractors", "loaders"):
            shared = ROOT / ".meltano" / name
            shared.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(shared)
        self._dotenv = folder / "no.env"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(NOT_OURS)},
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
            "XDG_STATE_HOME": str(folder),  # where Meltano keeps its logs
            **{name: _without_proxy(name) for name in ("NO_PROXY", "no_proxy")},
            "NO_COLOR": "1",
            # Relative to the project: uv takes a space for the end of a path.
            "UV_CONSTRAINT": "constraints.txt",
        }

    def install(self) -> None:
        """Run `meltano install`, unless that was done from the same files before.

        Raises:
            CommandError: The command failed.
        """
        stamp = ROOT / ".meltano" / "made-from"
        wanted = hashlib.sha256(f"{sys.version}{ROOT}".encode())
        for name in MADE_FROM:
            wanted.update((ROOT / name).read_bytes())
        if stamp.exists() and stamp.read_text() == wanted.hexdigest():
            return
        self.meltano("install", *PLUGINS)
        stamp.write_text(wanted.hexdigest())

    def run(self) -> str:
        """Run `meltano run tap-mega target-postgres`, and return its log.

        Raises:
            CommandError: The command failed.
        """
        return self.meltano("run", *PLUGINS).stderr

    def bookmark(self) -> str:
        """Return the bookmark of the leads, as `meltano state get` tells it.

        Raises:
            CommandError: The command failed.
        """
        state = json.loads(self.meltano("state", "get", STATE_ID).stdout)
        (bookmark,) = state["singer_state"]["bookmarks"]["leads"]["partitions"]
        return t.cast("str", bookmark["replication_key_value"])

    def meltano(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Meltano, and end it with its children when interrupted.

        Raises:
            CommandError: It ended with another exit code than 0.
        """
        command = [str(MELTANO), f"--env-file={self._dotenv}", *arguments]
        process = subprocess.Popen(
            command,
            cwd=self._project,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                output, log = process.communicate()
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            told = f"meltano {' '.join(arguments)}"
            msg = f"`{told}` ended with exit code {process.returncode}"
            raise CommandError(msg, log + output)
        return subprocess.CompletedProcess(command, 0, output, log)


@contextlib.contextmanager
def temporary_schema(database_url: str, name: str) -> Iterator[Table]:
    """Keep a schema of this name free for the time of `with`, and drop it then.

    Yields:
        The leads in it.

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
    """The leads as the loader has stored them."""

    def __init__(
        self, connection: psycopg.Connection[dict[str, t.Any]], schema: str
    ) -> None:
        """Read `leads` of this schema."""
        self.schema = schema
        self._connection = connection
        connection.execute(
            sql.SQL("SET search_path TO {}").format(sql.Identifier(schema))
        )

    def select(self, query: t.LiteralString, *values: object) -> list[dict[str, t.Any]]:
        """Return the rows of a query; `leads` in it is the table."""
        return self._connection.execute(query, values).fetchall()


def _connect(database_url: str) -> psycopg.Connection[dict[str, t.Any]]:
    # libpq would fill in from these what the URL does not say.
    hidden = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith("PG")}
    try:
        url = with_scheme("postgresql", database_url)
        return psycopg.connect(url, autocommit=True, row_factory=dict_row)
    finally:
        os.environ.update(hidden)


def _without_proxy(name: str) -> str:
    """Return what the variable holds, and this machine: the sandbox is here."""
    return ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))


def with_scheme(scheme: str, url: str) -> str:
    """Return a URL with another scheme, such as one that names a driver."""
    return f"{scheme}://{url.partition('://')[2]}"
