"""Test the PostgreSQL that a `with` block starts and removes."""

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

TIMEOUT_SECONDS = 120
# In the background a process ignores SIGINT; this one must not.
HOLD = """
import signal
from demo.postgres import postgres_server
signal.signal(signal.SIGINT, signal.default_int_handler)
with postgres_server() as url:
    print(url, flush=True)
    signal.pause()
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide a folder that the user `nobody` can read, unlike `tmp_path`."""
    monkeypatch.delenv("DEMO_DATABASE_URL", raising=False)
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path)


def is_up(url: str) -> bool:
    """Return whether a server accepts connections."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true, and fail after a timeout."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("folder")
def test_it_requires_its_password() -> None:
    """The server listens on this machine only, and requires its password."""
    with postgres_server() as url:
        with psycopg.connect(url) as connection:
            row = connection.execute("SHOW listen_addresses").fetchone()
        assert row == ("127.0.0.1",)
        other = f"postgresql://postgres:guess@{url.partition('@')[2]}"
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(other)


def test_it_is_removed_afterwards(folder: Path) -> None:
    """The server and its files are removed when the block ends, by an error too."""
    with pytest.raises(ZeroDivisionError), postgres_server() as url:
        raise ZeroDivisionError
    assert not is_up(url)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_parent(folder: Path, number: signal.Signals) -> None:
    """The server ends with the process that started it, however that process ends."""
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


def test_demo_database_url_replaces_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If `DEMO_DATABASE_URL` is set, its database is used and no server starts."""
    set_to = "postgresql://me:word@db.example.com/mine?sslmode=require"
    monkeypatch.setenv("DEMO_DATABASE_URL", set_to)
    monkeypatch.delattr(subprocess, "Popen")
    with postgres_server() as url:
        assert url == set_to
    shown = capsys.readouterr().err
    assert shown == "PostgreSQL: db.example.com/mine, from DEMO_DATABASE_URL\n"


@pytest.mark.usefixtures("folder")
def test_other_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own database is not used: something could be dropped there."""
    other = "postgresql://db.example.com/mine"
    for name, value in {
        "DATABASE_URL": other,
        "PGSSLMODE": "verify-full",
        "PGDATA": "/none",
    }.items():
        monkeypatch.setenv(name, value)
    with postgres_server() as url, temporary_schema(url, "mega_test") as table:
        assert table.select("SELECT 1 AS one") == [{"one": 1}]
    assert os.environ["PGSSLMODE"] == "verify-full"


@pytest.mark.usefixtures("folder")
def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error contains the output of the program and suggests `DEMO_DATABASE_URL`."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with (
        pytest.raises(RuntimeError, match=r"(?s)DEMO_DATABASE_URL.*no space left"),
        postgres_server(),
    ):
        pass
