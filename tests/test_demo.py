"""The demo: what it shows, and how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest

from demo import __main__ as demo
from demo import pipeline

if t.TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = (sys.executable, "-m", "demo")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The folder for temporary files; unlike `tmp_path` not closed to `nobody`."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """The environment of a demo whose temporary files are in the folder."""
    return {**os.environ, "TMPDIR": str(folder), "COLUMNS": "80"}


@pytest.fixture(scope="module")
def shown(environment: dict[str, str]) -> str:
    """What the demo prints."""
    done = subprocess.run(
        COMMAND,
        cwd=pipeline.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def test_it_shows_what_each_run_did(shown: str) -> None:
    """Leads read, requests spent, and rows, for the full run and the next one."""
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()
    ]
    first, second = (row for row in cells if row and row[0] in {"1", "2"})
    assert first == ["1", "2,345", "24", "2,345"]
    assert second[2:] == ["2", "2,348"]
    assert 140 <= int(second[1]) < 200


def test_it_shows_the_bookmark(shown: str) -> None:
    """The bookmark is there, as Meltano's state has it."""
    assert "The bookmark is now 20" in shown


def test_it_shows_leads(shown: str) -> None:
    """Some leads are there, and how many are in each stage."""
    assert "The latest leads" in shown
    assert "Leads by stage" in shown
    assert "Viewing booked" in shown


def test_it_tells_how_to_go_on(shown: str) -> None:
    """The commands for the real API are there."""
    assert "TAP_MEGA_AUTH_TOKEN=mega_" in shown
    assert "meltano run tap-mega target-postgres" in shown


@pytest.mark.usefixtures("shown")
def test_it_leaves_nothing(folder: Path) -> None:
    """No temporary file and no process of it is left."""
    assert leftovers(folder) == []


def test_sigterm_ends_it_all(folder: Path, environment: dict[str, str]) -> None:
    """A SIGTERM in the middle of a run leaves nothing either."""
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


def test_a_step_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database that is not there: exit code 1, the step, and the reason."""
    monkeypatch.setenv("DEMO_DATABASE_URL", "postgresql://postgres@127.0.0.1:1/none")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert demo.main() == 1
    told = capsys.readouterr().out
    assert "✗ Start the API and PostgreSQL" in told
    assert "Connection refused" in told


@pytest.mark.usefixtures("shown")
def test_a_command_that_fails_shows_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that fails: exit code 1, the step, and what the command wrote."""
    broken = tmp_path / "meltano"
    broken.write_text("#!/bin/sh\necho the disk is full >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(pipeline, "MELTANO", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert demo.main() == 1
    told = capsys.readouterr().out
    assert "✗ meltano run tap-mega target-postgres" in told
    assert "the disk is full" in told
    assert "exit code 3" in told


def leftovers(folder: Path) -> list[str]:
    """Return the files in a folder, and the commands that name it."""
    ps = shutil.which("ps") or "ps"
    processes = subprocess.check_output((ps, "-A", "-o", "args"), text=True)
    commands = [it for it in processes.splitlines() if str(folder) in it]
    return [*map(str, folder.iterdir()), *commands]
