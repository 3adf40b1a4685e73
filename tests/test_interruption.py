"""A sync that is stopped: by a signal, by a kill, or by a reader that goes away."""

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

from sandbox import Fault, Sandbox
from testing.harness import Command, Run

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock

    Process: t.TypeAlias = subprocess.Popen[bytes]

pytestmark = pytest.mark.slow

TAP = Path(sys.executable).parent / "tap-mega"
SIGNALS = [signal.SIGTERM, signal.SIGINT]
MOMENT_SECONDS = 0.3
MUCH = 20_000
"""Bytes; no pipe is full with less, and the SCHEMA message alone is not as long."""
PATIENCE_SECONDS = 20


@pytest.fixture
def api() -> Iterator[Sandbox]:
    """An API by the real clock, which a process of its own goes by."""
    with Sandbox(leads=250) as sandbox:
        yield sandbox


@contextlib.contextmanager
def started(folder: Path, sandbox: Sandbox, **more: t.Any) -> Iterator[Process]:
    """Start the command as a process whose output nobody reads, and see it end."""
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
    """Reads what a process writes, line by line, as it comes."""

    def __init__(self, stream: t.IO[bytes] | None) -> None:
        """Read nothing yet."""
        super().__init__()
        self.stream = stream
        self.text = ""
        self._come = threading.Condition()

    def run(self) -> None:
        """Read to the end."""
        for line in self.stream or ():
            with self._come:
                self.text += line.decode()
                self._come.notify_all()

    def wait_for(self, words: str) -> None:
        """Return when the words are there."""
        with self._come:
            assert self._come.wait_for(lambda: words in self.text, PATIENCE_SECONDS)


def reading(stream: t.IO[bytes] | None) -> Reader:
    """Return a reader that has begun."""
    reader = Reader(stream)
    reader.start()
    return reader


def stop(process: Process, number: signal.Signals, out: Reader, log: Reader) -> Run:
    """Send a signal, read on or begin to, and return what the process left."""
    process.send_signal(number)
    if out.ident is None:
        out.start()
    process.wait(PATIENCE_SECONDS)
    for reader in (out, log):
        reader.join(PATIENCE_SECONDS)
    return Run(process.returncode, out.text, log.text)


def wait_until_blocked(process: Process) -> None:
    """Return when the pipe that nobody reads has been full for a moment."""
    assert process.stdout
    filled, since, begun = 0, time.monotonic(), time.monotonic()
    waiting = array.array("i", [0])
    while filled < MUCH or time.monotonic() < since + MOMENT_SECONDS:
        fcntl.ioctl(process.stdout, termios.FIONREAD, waiting)
        if waiting[0] != filled:
            filled, since = waiting[0], time.monotonic()
        assert time.monotonic() < begun + PATIENCE_SECONDS


def check_stopped(run: Run, number: signal.Signals) -> None:
    """See that a run ended by a signal as it should."""
    assert run.code == 128 + number
    assert run.stdout.endswith("\n")
    assert run.messages[-1]["type"] == "STATE"
    assert "Traceback" not in run.log
    assert f"Stopped by {number.name}" in run.log


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_api_is_silent(
    tmp_path: Path, api: Sandbox, number: signal.Signals
) -> None:
    """It ends at once with a last STATE, and the exit code says that it is not done."""
    asked = threading.Event()
    api.script(Fault("hang", at=3, before=asked.set))
    with started(tmp_path, api) as process:
        out, log = reading(process.stdout), reading(process.stderr)
        assert asked.wait(PATIENCE_SECONDS)
        run = stop(process, number, out, log)
    check_stopped(run, number)
    assert len(run.records) == 200
    assert run.bookmark == run.records[-1]["updated_at"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_waiting_for_quota(
    tmp_path: Path, api: Sandbox, number: signal.Signals
) -> None:
    """It ends at once, not after the wait."""
    api.script(Fault("error", 2, None, status=429, retry_after=3600))
    with started(tmp_path, api) as process:
        out, log = reading(process.stdout), reading(process.stderr)
        log.wait_for("Waiting 1 h 0 min")
        run = stop(process, number, out, log)
    check_stopped(run, number)
    assert run.bookmark == run.records[-1]["updated_at"]


BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "not"])


@BUFFERING
@pytest.mark.parametrize("size", [10, 100_000], ids=["short", "long"])
def test_a_signal_while_the_reader_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, unbuffered: str
) -> None:
    """The page that waits for the reader is finished, then comes the last STATE."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Sandbox(leads=0) as api:
        api.leads.add(900, custom_fields={"notes": size * "x"})
        with started(tmp_path, api) as process:
            log = reading(process.stderr)
            wait_until_blocked(process)
            run = stop(process, signal.SIGTERM, Reader(process.stdout), log)
    check_stopped(run, signal.SIGTERM)
    assert len(run.records) in range(100, 900, 100)
    assert run.bookmark == run.records[-1]["updated_at"]


def test_a_signal_before_the_first_lead(tmp_path: Path, api: Sandbox) -> None:
    """Stopped before it has read anything, it leaves a state without a bookmark."""
    asked = threading.Event()
    api.script(Fault("hang", at=1, before=asked.set))
    with started(tmp_path, api) as process:
        out, log = reading(process.stdout), reading(process.stderr)
        assert asked.wait(PATIENCE_SECONDS)
        run = stop(process, signal.SIGTERM, out, log)
    check_stopped(run, signal.SIGTERM)
    assert run.bookmark is None


def test_a_signal_before_a_batch_is_written(tmp_path: Path, api: Sandbox) -> None:
    """No STATE says that leads are out which are in no file yet."""
    asked = threading.Event()
    api.script(Fault("hang", at=3, before=asked.set))
    batch = {
        "encoding": {"format": "jsonl", "compression": "none"},
        "storage": {"root": (tmp_path / "batches").as_uri()},
    }
    with started(tmp_path, api, batch_config=batch) as process:
        out, log = reading(process.stdout), reading(process.stderr)
        assert asked.wait(PATIENCE_SECONDS)
        run = stop(process, signal.SIGTERM, out, log)
    assert run.code == 128 + signal.SIGTERM
    assert [message["type"] for message in run.messages] == ["SCHEMA"]


def test_a_reader_that_goes_away(tmp_path: Path, api: Sandbox) -> None:
    """The tap ends quietly, and its exit code is that of a broken pipe."""
    with started(tmp_path, api) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr
        log = process.stderr.read().decode()
        process.wait(PATIENCE_SECONDS)
    assert process.returncode == 141
    assert "ERROR" not in log
    assert "Traceback" not in log
    assert "BrokenPipe" not in log


def test_a_stdout_that_is_closed(tmp_path: Path, api: Sandbox) -> None:
    """It is said in one line, with exit code 1."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(api.config()))
    command = ["/bin/sh", "-c", f"'{TAP}' --config '{config}' >&-"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    errors = Run(done.returncode, "", done.stderr).errors
    assert (done.returncode, len(errors)) == (1, 1)
    assert "Cannot write to stdout: it is closed" in errors[0]


@BUFFERING
def test_a_disk_that_is_full(
    tmp_path: Path, api: Sandbox, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    """What cannot be written is one line, with exit code 1."""
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


def test_a_kill_at_any_instant_loses_nothing(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """From the last whole STATE line the rest comes, and at most a page comes twice."""
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
        read = {lead["id"]: lead for lead in killed.records + rest.records}
        assert read == every
        repeated = len(killed.records) + len(rest.records) - len(every)
        assert repeated <= page_size + max(lookback, 5)


def test_a_killed_process_is_resumed(
    tmp_path: Path, api: Sandbox, tap: Command
) -> None:
    """SIGKILL in the middle of a page: what was read and what comes next is all."""
    with started(tmp_path, api) as process:
        wait_until_blocked(process)
        process.kill()
        assert process.stdout
        text = process.stdout.read().decode()
    whole_lines = text[: text.rfind("\n") + 1]
    killed = Run(-9, whole_lines, "")
    rest = tap(config=api.config(), state=killed.states[-1] if killed.states else None)
    read = {lead["id"] for lead in killed.records + rest.records}
    assert 0 < len(killed.records) < 250
    assert read == {lead["id"] for lead in api.leads.all()}
