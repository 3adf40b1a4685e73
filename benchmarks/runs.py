"""A sandbox in a process of its own, and what a command costs that reads from it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import typing as t
import urllib.request
from pathlib import Path

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "launch.py")]
PAGE_SIZE = 100
NO_PACING = {"requests_per_minute": 0, "requests_per_hour": 0}
FOREIGN = ("TAP_MEGA_", "HTTP_", "HTTPS_", "ALL_", "NO_", "SINGER_SDK_", "LOGLEVEL")
"""How variables begin that would change what a command does, or whom it asks."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run of a command took."""

    wall: float
    """Seconds."""
    cpu: float
    """CPU seconds, of user and system."""
    memory: int
    """The most that was in memory at once, in bytes."""


class Server(t.NamedTuple):
    """A sandbox that listens, and where a command finds what it needs to read it."""

    leads: int
    url: str
    config: Path

    def requests(self) -> int:
        """Return how many requests came so far, but for this one."""
        url = f"{self.url}/sandbox/requests"
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - it is our own
            counts: dict[str, t.Any] = json.load(answer)
        if set(counts["by_status"]) - {"200"}:
            msg = f"the sandbox refused a request: {counts['by_status']}"
            raise RuntimeError(msg)
        return int(counts["requests"])

    def check_requests(self, before: int) -> int:
        """Return how many requests came since then; all leads take so many pages."""
        count, pages = self.requests() - before, pages_of(self.leads)
        if count != pages:
            msg = f"{count} requests for {self.leads} leads, which are {pages} pages"
            raise RuntimeError(msg)
        return count


def pages_of(leads: int) -> int:
    """Return how many pages so many leads are; none are one page, too."""
    return max(1, math.ceil(leads / PAGE_SIZE))


@contextlib.contextmanager
def served(leads: int) -> Iterator[Server]:
    """Let a sandbox without limits answer, for the time of `with`."""
    options = ["--port=0", f"--leads={leads}", "--requests-per-minute=0"]
    command = [sys.executable, "-m", "sandbox", *options, "--requests-per-hour=0"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us: we end it
    )
    with process:
        try:
            config = _read_config(process)
            with written(config | NO_PACING) as path:
                yield Server(leads, config["api_url"], path)
        finally:
            process.terminate()


@contextlib.contextmanager
def written(config: t.Mapping[str, t.Any]) -> Iterator[Path]:
    """Keep a configuration in a file, for the time of `with`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        yield path


def _read_config(process: subprocess.Popen[str]) -> dict[str, t.Any]:
    """Return the configuration that a sandbox prints as soon as it listens."""
    text = ""
    for line in process.stdout or ():
        text += line
        if line == "}\n":
            config: dict[str, t.Any] = json.loads(text[text.index("{") :])
            return config
    msg = f"the sandbox did not start: {text}"
    raise RuntimeError(msg)


def measure(command: Sequence[str]) -> Cost:
    """Run a command to its end, without its output, and return what it cost.

    Raises:
        RuntimeError: It failed; the message holds what it wrote to stderr.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*LAUNCH, *command],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                told = json.loads(process.communicate()[0] or "{}")
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if told.pop("code", None) != 0:
            log.seek(0)
            msg = f"{' '.join(command)} failed:\n{log.read()}"
            raise RuntimeError(msg)
    return Cost(**told)


def clean_environment() -> dict[str, str]:
    """Return the environment without what would change a run."""
    return {k: v for k, v in os.environ.items() if not k.upper().startswith(FOREIGN)}


def say(what: str) -> None:
    """Tell a person who waits what is being done."""
    print(f"{what} …", file=sys.stderr)


def stop_at_signals() -> None:
    """Let a signal end us by way of every `with`, so that nothing is left running."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, _frame: object) -> t.NoReturn:
    sys.exit(128 + number)
