"""A PostgreSQL for the time of a `with`, and nothing of it afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import psycopg
import pytest

from demo import postgres
from demo.pipeline import temporary_schema
from demo.postgres import postgres_server

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 20
# Where the tests run in the background, Ctrl-C is ignored: not so here.
HOLD = """
import signal, time
from demo.postgres import postgres_server
signal.signal(signal.SIGINT, signal.default_int_handler)
with postgres_server() as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files; unlike `tmp_path` not closed to `nobody`."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path)


def is_up(url: str) -> bool:
    """Tell whether a server answers."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait, and fail when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("folder")
def test_it_answers() -> None:
    """It is a PostgreSQL that does what it is asked to."""
    with postgres_server() as url, psycopg.connect(url) as connection:
        row = connection.execute("SELECT version(), 6 * 7").fetchone()
    assert row is not None
    assert row[0].startswith("PostgreSQL")
    assert row[1] == 42


@pytest.mark.usefixtures("folder")
def test_nobody_else_gets_in() -> None:
    """It listens on this machine alone, and asks for the password."""
    with postgres_server() as url:
        with psycopg.connect(url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == (
                "127.0.0.1",
            )
        other = f"postgresql://postgres:guess@{url.partition('@')[2]}"
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(other)


def test_it_is_gone_afterwards(folder: Path) -> None:
    """Server and files are gone as soon as the block is left."""
    with postgres_server() as url:
        assert list(folder.iterdir())
    assert not is_up(url)
    assert not list(folder.iterdir())


def test_it_is_gone_after_an_exception(folder: Path) -> None:
    """An exception in the block comes out of it, and leaves nothing either."""
    with pytest.raises(ZeroDivisionError), postgres_server() as url:
        raise ZeroDivisionError
    assert not is_up(url)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_dies_with_its_user(folder: Path, number: signal.Signals) -> None:
    """It goes when the process that asked for it is ended, in whatever way."""
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(
        command,
        cwd=postgres.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as user:
        assert user.stdout is not None
        url = user.stdout.readline().strip()
        assert is_up(url)
        user.send_signal(number)
    wait_until(lambda: not list(folder.iterdir()))
    assert not is_up(url)


def test_database_url_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `DATABASE_URL`, that is the database, and nothing is started."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example.com/mine")
    monkeypatch.delattr(subprocess, "Popen")
    with postgres_server() as url:
        assert url == "postgresql://db.example.com/mine"


@pytest.mark.usefixtures("folder")
def test_variables_of_libpq_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own PG* variables change neither the server nor our access."""
    for name, value in {"PGSSLMODE": "verify-full", "PGDATA": "/none"}.items():
        monkeypatch.setenv(name, value)
    with postgres_server() as url, temporary_schema(url, "mega_test") as table:
        assert table.select("SELECT 1 AS one") == [{"one": 1}]
    assert os.environ["PGSSLMODE"] == "verify-full"


@pytest.mark.usefixtures("folder")
def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error holds what the program wrote, and names a way out."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with (
        pytest.raises(RuntimeError, match=r"(?s)DATABASE_URL.*no space left"),
        postgres_server(),
    ):
        pass
