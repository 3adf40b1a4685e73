"""Tests of the demo: its output, its errors and how it ends."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import psycopg
import pytest

from demo import __main__ as demo
from demo import pipeline
from demo.postgres import postgres_server

if t.TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = (sys.executable, "-m", "demo")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for temporary files. Unlike `tmp_path`, it is open to `nobody`."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """The environment of a demo that keeps its temporary files in the folder."""
    return {**os.environ, "TMPDIR": str(folder), "COLUMNS": "80"}


@pytest.fixture(scope="module")
def output(environment: dict[str, str]) -> str:
    """The output of the demo."""
    run = subprocess.run(
        COMMAND,
        cwd=pipeline.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return run.stdout


def test_it_shows_the_counts_of_each_run(output: str) -> None:
    """The table has leads, requests and rows, for the first run and the next one."""
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()
    ]
    first, second = (row for row in cells if row and row[0] in {"1", "2"})
    assert first == ["1", "2,345", "24", "2,345"]
    assert second[2:] == ["2", "2,348"]
    assert 140 <= int(second[1]) < 200


def test_it_shows_the_bookmark(output: str) -> None:
    """The output has the bookmark from Meltano's state."""
    assert "The bookmark is now 20" in output


def test_it_shows_leads(output: str) -> None:
    """The output has some leads, and the number of leads in each stage."""
    assert "The latest leads" in output
    assert "Leads by stage" in output
    assert "Viewing booked" in output


def test_it_shows_the_next_steps(output: str) -> None:
    """The output has the commands for the real API."""
    assert "TAP_MEGA_AUTH_TOKEN=mega_" in output
    assert "meltano run tap-mega target-postgres" in output


@pytest.mark.usefixtures("output")
def test_it_cleans_up(folder: Path) -> None:
    """The demo leaves no temporary files and no processes."""
    assert leftovers(folder) == []


def test_it_cleans_up_after_sigterm(folder: Path, environment: dict[str, str]) -> None:
    """A SIGTERM during a run leaves no temporary files and no processes."""
    with subprocess.Popen(
        COMMAND,
        cwd=pipeline.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "meltano install" not in process.stdout.readline():
            pass
        process.terminate()
        assert "Traceback" not in process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert leftovers(folder) == []


@pytest.mark.slow
def test_it_keeps_the_database_until_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--keep`, it prints a command that shows leads, and how to stop."""
    shown = []

    def pause() -> t.NoReturn:
        printed = capsys.readouterr().out
        (command,) = (line for line in printed.splitlines() if "psql" in line)
        shown.append(subprocess.check_output(shlex.split(command), text=True))
        assert "until you press Ctrl-C" in printed
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "pause", pause)
    with (
        postgres_server() as url,
        pipeline.temporary_schema(url, demo.SCHEMA),
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute("CREATE SCHEMA mega_demo")
        connection.execute("CREATE TABLE mega_demo.leads AS SELECT 'Ada' AS name")
        demo.keep_running(url)
    assert "name | Ada" in shown[0]


def test_it_names_the_step_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a database, the demo exits with code 1 and prints step and reason."""
    monkeypatch.setenv("DEMO_DATABASE_URL", "postgresql://postgres@127.0.0.1:1/none")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert demo.main() == 1
    printed = capsys.readouterr().out
    assert "✗ Start the API and PostgreSQL" in printed
    assert "Connection refused" in printed


@pytest.mark.usefixtures("output")
def test_it_prints_the_output_of_a_failed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a command fails, the demo exits with code 1 and prints its output."""
    broken = tmp_path / "meltano"
    broken.write_text("#!/bin/sh\necho the disk is full >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(pipeline, "MELTANO", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert demo.main() == 1
    printed = capsys.readouterr().out
    assert "✗ meltano run tap-mega target-postgres" in printed
    assert "the disk is full" in printed
    assert "exit code 3" in printed


def leftovers(folder: Path) -> list[str]:
    """Return the files in a folder, and the processes that name it."""
    ps = shutil.which("ps") or "ps"
    processes = subprocess.check_output((ps, "-A", "-o", "args"), text=True)
    users = [it for it in processes.splitlines() if str(folder) in it]
    return [*map(str, folder.iterdir()), *users]
