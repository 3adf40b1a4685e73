"""A sandbox in its own process, and the cost of a command that reads from it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import subprocess
import sys
import tempfile
import typing as t
import urllib.request
from pathlib import Path

from demo.processes import environment_without, run_in_session

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Contender: t.TypeAlias = Callable[[Path], list[str]]
    """Returns the command that reads all leads with a configuration file."""

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "launch.py")]
PAGE_SIZE = 100
MIB = 2**20
NO_PACING = {"requests_per_minute": 0, "requests_per_hour": 0}
FOREIGN_PREFIXES = (
    "ALL_",
    "HTTPS_",
    "HTTP_",
    "LOGLEVEL",
    "NO_",
    "SINGER_SDK_",
    "TAP_MEGA_",
)
"""Prefixes of variables that would change a command or its proxy."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one run of a command."""

    wall: float
    """Seconds."""
    cpu: float
    """User and system CPU time in seconds."""
    memory: int
    """Peak resident set size in bytes."""


class Server(t.NamedTuple):
    """A sandbox that listens, and the configuration to read from it."""

    leads: int
    settings: dict[str, t.Any]
    config: Path
    """The file with the settings."""

    def measure(self, contender: Contender) -> Cost:
        """Return the cost of a command that reads all leads.

        Raises:
            RuntimeError: The command failed, or did not send one request per page.
        """
        before, pages = self._count_requests(), count_pages(self.leads)
        cost = measure(contender(self.config))
        requests = self._count_requests() - before
        if requests != pages:
            msg = f"{requests} requests instead of {pages}"
            raise RuntimeError(msg)
        return cost

    def _count_requests(self) -> int:
        """Return the number of requests so far, without this one.

        Raises:
            RuntimeError: The status of one of them was not 200.
        """
        url = f"{self.settings['api_url']}/sandbox/requests"
        with urllib.request.urlopen(url) as response:  # noqa: S310 - it is our own
            counts: dict[str, t.Any] = json.load(response)
        if set(counts["by_status"]) - {"200"}:
            msg = f"the sandbox rejected a request: {counts['by_status']}"
            raise RuntimeError(msg)
        return int(counts["requests"])


def count_pages(leads: int) -> int:
    """Return the number of pages that hold the leads. No leads are one empty page."""
    return max(1, math.ceil(leads / PAGE_SIZE))


@contextlib.contextmanager
def serve_leads(leads: int) -> Iterator[Server]:
    """Run a sandbox without limits in its own process."""
    limits = ["--requests-per-minute=0", "--requests-per-hour=0"]
    command = [sys.executable, "-m", "sandbox", "--port=0", f"--leads={leads}", *limits]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process, which ends the sandbox.
    )
    with process:
        try:
            settings = _read_settings(process) | NO_PACING
            with config_file(settings) as path:
                yield Server(leads, settings, path)
        finally:
            process.terminate()


@contextlib.contextmanager
def config_file(settings: Mapping[str, t.Any]) -> Iterator[Path]:
    """Write settings to a temporary configuration file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        yield path


def _read_settings(process: subprocess.Popen[str]) -> dict[str, t.Any]:
    """Return the settings that a sandbox prints when it starts to listen.

    Raises:
        RuntimeError: The sandbox did not start. The message contains its output.
    """
    text = ""
    for line in process.stdout or ():
        text += line
        if line == "}\n":
            settings: dict[str, t.Any] = json.loads(text[text.index("{") :])
            return settings
    msg = f"the sandbox did not start: {text}"
    raise RuntimeError(msg)


def measure(command: Sequence[str]) -> Cost:
    """Run a command, discard its output, and return its cost.

    Raises:
        RuntimeError: The command failed. The message contains its stderr.
    """
    with tempfile.TemporaryFile("w+") as log:
        done = run_in_session(
            [*LAUNCH, *command],
            cwd=ROOT,
            env=environment_without(FOREIGN_PREFIXES),
            stderr=log,
        )
        result = json.loads(done.stdout or "{}")
        if result.pop("code", None) != 0:
            log.seek(0)
            msg = f"{' '.join(command)} failed:\n{log.read()}"
            raise RuntimeError(msg)
    return Cost(**result)


def print_progress(text: str) -> None:
    """Print a progress message to stderr."""
    print(f"{text} …", file=sys.stderr)
