"""Tests of the demo: its output, its errors and how it ends."""

from __future__ import annotations

import os
import re
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
from demo import pipeline, report
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
    """Each run has its leads, requests and rows."""
    found = re.findall(
        r"([\d,]+) leads read with (\d+) requests?; .* ([\d,]+) rows", output
    )
    (first, (read, requests, rows)) = found
    assert first == ("2,345", "25", "2,345")
    assert 2 <= int(requests) <= 4
    assert rows == "2,348"
    assert 140 <= int(read) < 200


def test_it_shows_leads_by_stage_as_bars(output: str) -> None:
    """The bar of the largest stage is the longest one, and each lead is counted."""
    bars = re.findall(r"(?m)^(.*?) +(\d+)  (█+)", output)
    lengths = [len(bar) for _, _, bar in bars]
    assert lengths[0] == report.BAR_CELLS
    assert lengths == sorted(lengths, reverse=True)
    assert sum(int(leads) for _, leads, _ in bars) == 2348
    assert "Viewing booked" in [name for name, _, _ in bars]


def test_the_picture_is_small() -> None:
    """The picture in the README is at most 450 pixels high, and its text is legible."""
    picture = (pipeline.ROOT / "docs" / "demo.svg").read_text(encoding="utf-8")
    found = re.search(r'height="(\d+)" .*viewBox="0 0 \S+ ([\d.]+)"', picture)
    assert found is not None
    shown, drawn = map(float, found.groups())
    assert shown <= 450
    assert 20 * shown / drawn > 11  # pixels of the font


def test_it_shows_a_lead_and_the_next_steps(output: str) -> None:
    """It has some columns of the last lead, and the commands for the real API."""
    assert "The lead that changed last" in output
    assert "contact_name" in output
    assert "meltano invoke tap-mega --test" in output
    assert "meltano run leads-to-postgres" in output


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
