"""Test stop signals that repeat, or that arrive before or after the sync."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from sandbox import NO_LIMITS, Sandbox
from testing.harness import Run
from tests.test_interruption import (
    BUFFERING,
    SIGNALS,
    TIMEOUT_SECONDS,
    Reader,
    check_stopped,
    start_reader,
    started,
    wait_until_blocked,
)

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    Process: t.TypeAlias = subprocess.Popen[bytes]

pytestmark = pytest.mark.slow

TAP = Path(sys.executable).parent / "tap-mega"
COMMANDS: dict[str, list[str | Path]] = {
    "script": [TAP],
    "-m": [sys.executable, "-m", "tap_mega"],
}
SEEDS = range(2)
"""Each seed is a process that is stopped at other instants. 500 were tried once."""
MANY_LEADS = 10_000
NO_PACING = {"requests_per_minute": 0, "requests_per_hour": 0}
MAX_GAP_SECONDS = 0.01
MAX_SYNC_SECONDS = 0.5
MIN_IMPORT_SECONDS = 0.15
POLL_SECONDS = 0.001


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    """Provide an API on the real clock, with more leads than a test reads."""
    with Sandbox(leads=MANY_LEADS, limits=NO_LIMITS) as sandbox:
        yield sandbox


def send_storm(process: Process, rng: random.Random) -> None:
    """Send signals of both kinds up to 10 ms apart."""
    for _ in range(6):
        process.send_signal(rng.choice(SIGNALS))
        time.sleep(rng.uniform(0, MAX_GAP_SECONDS))


def which_stopped(code: int) -> signal.Signals:
    """Return the signal of an exit code: of two at once, Python picks the order."""
    assert code - 128 in SIGNALS
    return signal.Signals(code - 128)


def ended(process: Process, out: Reader, log: Reader) -> Run:
    """Return what a process left."""
    process.wait(TIMEOUT_SECONDS)
    for reader in (out, log):
        reader.join(TIMEOUT_SECONDS)
    return Run(process.returncode, out.text, log.text)


def wait_for_handler(process: Process) -> None:
    """Wait until the process handles SIGTERM, as it does before it imports much."""
    bit = 1 << (signal.SIGTERM - 1)
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not int(status.read_text().partition("SigCgt:")[2].split()[0], 16) & bit:
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


@BUFFERING
@pytest.mark.parametrize("seed", SEEDS)
def test_a_repeated_signal_stops_like_one(
    tmp_path: Path,
    api: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    unbuffered: str,
) -> None:
    """Only the first signal counts: whole lines, a last STATE and its exit code."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    rng = random.Random(seed)  # noqa: S311 - reproducible
    with started(tmp_path, api, **NO_PACING) as process:
        out, log = start_reader(process.stdout), start_reader(process.stderr)
        out.wait_for('"STATE"')  # Before the first page, there is none.
        time.sleep(rng.uniform(0, MAX_SYNC_SECONDS))
        send_storm(process, rng)
        run = ended(process, out, log)
    if "a line may be cut" in run.log:
        pytest.skip("this machine took more than a second to handle the signals")
    check_stopped(run, which_stopped(run.code))
    assert run.log.count("Stopped by") == 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_during_the_imports_is_one_line(command: str, seed: int) -> None:
    """A signal before the sync ends the run with one line and its exit code."""
    rng = random.Random(seed)  # noqa: S311 - reproducible
    with subprocess.Popen(
        COMMANDS[command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for_handler(process)
        time.sleep(rng.uniform(0, MIN_IMPORT_SECONDS))
        send_storm(process, rng)
        out, log = process.communicate(timeout=TIMEOUT_SECONDS)
    number = which_stopped(process.returncode)
    assert log.decode() == f"Stopped by {number.name} before the sync began\n"
    assert out == b""


def test_the_entry_point_imports_little() -> None:
    """Handlers are set before the imports that take most of a second."""
    code = "import sys, tap_mega.__main__; print('singer_sdk' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE
    )
    assert run.stdout == b"False\n"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_signal_at_the_end_leaves_no_traceback(tmp_path: Path, seed: int) -> None:
    """A signal in the last milliseconds either stops the run or is too late."""
    rng = random.Random(seed)  # noqa: S311 - reproducible
    with Sandbox(leads=1) as api, started(tmp_path, api) as process:
        out, log = start_reader(process.stdout), start_reader(process.stderr)
        log.wait_for("Read 1 of 1")
        time.sleep(rng.uniform(0, MAX_GAP_SECONDS))
        send_storm(process, rng)
        run = ended(process, out, log)
    assert run.code == 0 or which_stopped(run.code)
    assert run.messages[-1]["type"] == "STATE"
    assert "Traceback" not in run.log
    assert "Exception ignored" not in run.log


@pytest.mark.parametrize("number", SIGNALS)
def test_a_late_signal_breaks_off_a_blocked_write(
    tmp_path: Path, api: Sandbox, number: signal.Signals
) -> None:
    """If the loader reads nothing, the first signal waits and a second one ends it."""
    with started(tmp_path, api) as process:
        log = start_reader(process.stderr)
        wait_until_blocked(process)
        process.send_signal(number)
        started_at = time.monotonic()
        while process.poll() is None:  # One within a second of the first is ignored.
            assert time.monotonic() < started_at + TIMEOUT_SECONDS
            time.sleep(POLL_SECONDS)
            process.send_signal(number)
        assert time.monotonic() > started_at + 1
        log.join(TIMEOUT_SECONDS)
    assert process.returncode == 128 + number
    assert f"Stopped by {number.name} while it waited for the loader" in log.text
    assert "Traceback" not in log.text


def test_a_signal_that_also_ends_the_loader(tmp_path: Path, api: Sandbox) -> None:
    """Ctrl-C ends the loader, too: the exit code is that of the signal."""
    with started(tmp_path, api) as process:
        log = start_reader(process.stderr)
        wait_until_blocked(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout
        process.stdout.close()
        process.wait(TIMEOUT_SECONDS)
        log.join(TIMEOUT_SECONDS)
    assert process.returncode == 128 + signal.SIGINT
    assert log.text.count("Stopped by SIGINT") == 1
    assert "Traceback" not in log.text


def test_a_signal_during_discovery_writes_no_state() -> None:
    """A run that is not a sync leaves no STATE beside its output."""
    with subprocess.Popen(
        [TAP, "--discover"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for_handler(process)
        assert process.stderr
        for line in process.stderr:
            if b"Skipping parse" in line:
                break
        process.send_signal(signal.SIGTERM)
        out, _log = process.communicate(timeout=TIMEOUT_SECONDS)
    assert b"STATE" not in out
