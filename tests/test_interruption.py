"""Test how a sync stops: by a signal, by a kill, or by a closed pipe."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import termios
import threading
import time
import typing as t
from pathlib import Path

import pytest
from typing_extensions import override

from sandbox import Fault, Sandbox
from testing.harness import Command, Run

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock

    Process: t.TypeAlias = subprocess.Popen[bytes]

pytestmark = pytest.mark.slow

TAP = Path(sys.executable).parent / "tap-mega"
SIGNALS = [signal.SIGTERM, signal.SIGINT]
BLOCKED_BYTES = 20_000
"""The SCHEMA message is shorter than this, and a page is longer than a full pipe."""
TIMEOUT_SECONDS = 120


@pytest.fixture
def api() -> Iterator[Sandbox]:
    """Provide an API on the real clock, because the tap is another process."""
    with Sandbox(leads=250) as sandbox:
        yield sandbox


@contextlib.contextmanager
def started(folder: Path, sandbox: Sandbox, **more: t.Any) -> Iterator[Process]:
    """Start the command, leave its output unread, and kill it afterwards."""
    config = folder / "config.json"
    config.write_text(json.dumps({**sandbox.config(), **more}))
    with subprocess.Popen(
        [TAP, f"--config={config}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Reader(threading.Thread):
    """Read the output of a process, line by line."""

    def __init__(self, stream: t.IO[bytes] | None) -> None:
        """Start without text."""
        super().__init__()
        self.stream = stream
        self._lines: list[str] = []
        self._changed = threading.Condition()

    @property
    def text(self) -> str:
        """What was read so far."""
        return "".join(self._lines)

    @override
    def run(self) -> None:
        """Read to the end."""
        for line in self.stream or ():
            with self._changed:
                self._lines.append(line.decode())
                self._changed.notify_all()

    def wait_for(self, words: str) -> None:
        """Wait until a line contains these words."""

        def is_there() -> bool:
            return any(words in line for line in self._lines)

        with self._changed:
            assert self._changed.wait_for(is_there, TIMEOUT_SECONDS)


def start_reader(stream: t.IO[bytes] | None) -> Reader:
    """Return a reader that has started."""
    reader = Reader(stream)
    reader.start()
    return reader


def stop(process: Process, number: signal.Signals, out: Reader, log: Reader) -> Run:
    """Send a signal, read to the end, and return the run."""
    process.send_signal(number)
    if out.ident is None:
        out.start()
    process.wait(TIMEOUT_SECONDS)
    for reader in (out, log):
        reader.join(TIMEOUT_SECONDS)
    return Run(process.returncode, out.text, log.text)


def wait_until_blocked(process: Process) -> None:
    """Wait until a page is in the unread pipe, which cannot hold all of it."""
    assert process.stdout
    deadline = time.monotonic() + TIMEOUT_SECONDS
    waiting = array.array("i", [0])
    while waiting[0] < BLOCKED_BYTES:
        assert time.monotonic() < deadline
        fcntl.ioctl(process.stdout, termios.FIONREAD, waiting)


def check_stopped(run: Run, number: signal.Signals) -> None:
    """Check that the run stopped cleanly after a signal."""
    assert run.code == 128 + number
    assert run.stdout.endswith("\n")
    assert run.messages[-1]["type"] == "STATE"
    assert "Traceback" not in run.log
    assert f"Stopped by {number.name}" in run.log


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_api_is_silent(
    tmp_path: Path, api: Sandbox, number: signal.Signals
) -> None:
    """The tap stops at once, writes a last STATE, and exits with the signal's code."""
    requested = threading.Event()
    api.script(Fault("hang", at=3, before=requested.set))
    with started(tmp_path, api) as process:
        out, log = start_reader(process.stdout), start_reader(process.stderr)
        assert requested.wait(TIMEOUT_SECONDS)
        run = stop(process, number, out, log)
    check_stopped(run, number)
    assert len(run.records) == 200
    assert run.bookmark == run.records[-1]["updated_at"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_waiting_for_quota(
    tmp_path: Path, api: Sandbox, number: signal.Signals
) -> None:
    """The tap stops at once and skips the rest of the wait."""
    api.script(Fault("error", 2, None, status=429, retry_after=3600))
    with started(tmp_path, api) as process:
        out, log = start_reader(process.stdout), start_reader(process.stderr)
        log.wait_for("Waiting 1 h 0 min")
        run = stop(process, number, out, log)
    check_stopped(run, number)
    assert run.bookmark == run.records[-1]["updated_at"]


BUFFERING = pytest.mark.parametrize(
    "unbuffered", ["", "1"], ids=["buffered", "unbuffered"]
)


@BUFFERING
@pytest.mark.parametrize("size", [10, 100_000], ids=["short", "long"])
def test_a_signal_while_the_reader_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, unbuffered: str
) -> None:
    """The tap finishes writing the current page, and then writes the last STATE."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Sandbox(leads=0) as api:
        # Older than the second of the `Date` header, which the bookmark does not pass.
        dates = dict.fromkeys(("created_at", "updated_at"), "2026-01-31T08:00:00.000Z")
        api.leads.add(900, custom_fields={"notes": size * "x"}, **dates)
        with started(tmp_path, api) as process:
            log = start_reader(process.stderr)
            wait_until_blocked(process)
            run = stop(process, signal.SIGTERM, Reader(process.stdout), log)
    check_stopped(run, signal.SIGTERM)
    assert len(run.records) in range(100, 900, 100)
    assert run.bookmark == run.records[-1]["updated_at"]


def test_a_signal_before_the_first_lead(tmp_path: Path, api: Sandbox) -> None:
    """A tap that has read no lead has no state to write."""
    requested = threading.Event()
    api.script(Fault("hang", at=1, before=requested.set))
    with started(tmp_path, api) as process:
        out, log = start_reader(process.stdout), start_reader(process.stderr)
        assert requested.wait(TIMEOUT_SECONDS)
        run = stop(process, signal.SIGTERM, out, log)
    assert run.code == 128 + signal.SIGTERM
    assert [it["type"] for it in run.messages] == ["SCHEMA"]
    assert "Stopped by SIGTERM" in run.log


def test_a_closed_pipe_ends_the_run_quietly(tmp_path: Path, api: Sandbox) -> None:
    """If the reader closes the pipe, the tap exits quietly with code 141."""
    with started(tmp_path, api) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr
        log = process.stderr.read().decode()
        process.wait(TIMEOUT_SECONDS)
    assert process.returncode == 141
    assert "ERROR" not in log
    assert "Traceback" not in log
    assert "BrokenPipe" not in log


def test_a_closed_stdout_is_one_line(tmp_path: Path, api: Sandbox) -> None:
    """A closed stdout is reported in one line, with exit code 1."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(api.config()))
    command = ["/bin/sh", "-c", f"'{TAP}' --config '{config}' >&-"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    errors = Run(done.returncode, "", done.stderr).errors
    assert (done.returncode, len(errors)) == (1, 1)
    assert "Cannot write to stdout: it is closed" in errors[0]


@BUFFERING
def test_a_full_disk_is_one_line(
    tmp_path: Path, api: Sandbox, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    """A full disk is reported in one line, with exit code 1."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(api.config()))
    with open("/dev/full", "w") as full:  # noqa: PTH123  # a device
        run = subprocess.run(
            [TAP, f"--config={config}"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    log = Run(run.returncode, "", run.stderr.decode())
    assert log.code == 1
    assert log.errors == ["Cannot write to stdout: No space left on device"]
    assert "Traceback" not in log.log


def test_a_kill_at_any_time_loses_nothing(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """After a kill, the rest is read, and at most a page and the look-back repeat."""
    page_size = 20
    config = {**sandbox.config(), "page_size": page_size}
    whole = tap(config=config, clock=clock)
    every = {lead["id"]: lead for lead in sandbox.leads.all()}
    lookback = len(tap(config=config, state=whole.state, clock=clock).records)
    for length in range(0, len(whole.stdout), len(whole.stdout) // 40):
        lines = whole.stdout[:length].splitlines(keepends=True)
        killed = Run(-9, "".join(it for it in lines if it.endswith("\n")), "")
        state = killed.states[-1] if killed.states else None
        rest = tap(config=config, state=state, clock=clock)
        read = {lead["id"]: lead for lead in killed.leads + rest.leads}
        assert read == every
        repeated = len(killed.records) + len(rest.records) - len(every)
        assert repeated <= page_size + max(lookback, 5)
