"""Compare rate limiters at the vendor's limits: `python -m benchmarks.limiters`.

Each one paces 2,300 requests against a server that allows 60 per minute and 1,000 per
hour, in sliding and in fixed windows. All time is virtual, and the response times are
the same for each of them. The first run installs the libraries into `.peers-limiters`.
"""

from __future__ import annotations

import contextlib
import functools
import random
import subprocess
import typing as t

from typing_extensions import override

from benchmarks.contenders import PEERS
from benchmarks.quota import format_duration
from benchmarks.report import format_table, make_parser, publish
from benchmarks.runs import ROOT, print_progress
from demo.processes import exit_on_signals
from sandbox import Limits
from sandbox.rate_limits import RateLimit
from tap_mega.api.rate_limit import RateLimiter
from testing.environments import make_environment
from testing.least_times import (
    LIMITS,
    MINUTE,
    PER_HOUR,
    PER_MINUTE,
    least_seconds_fixed,
    least_seconds_sliding,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Window: t.TypeAlias = t.Literal["sliding", "fixed"]
    Contender: t.TypeAlias = Callable[[], contextlib.AbstractContextManager["Pacer"]]

REQUESTS = 2_300
WINDOWS: tuple[Window, ...] = ("sliding", "fixed")
START = 1_800_000_000 + 40 * MINUTE
"""In seconds since the epoch: 20 minutes before a full hour."""

MIN_LATENCY, MAX_LATENCY = 0.02, 0.3
"""Seconds of each way, to the server and back."""

ENVIRONMENT = ROOT / ".peers-limiters"
PYTHON = ENVIRONMENT / "bin" / "python"
LIBRARIES = {
    "pyrate-limiter": "4.5.1",
    "limits": "5.8.0",
    "aiolimiter": "1.3.0",
}
"""The libraries and their versions. The project does not depend on them."""


class Pacer:
    """Decides when a request is sent. This one sends it at once."""

    def send_at(self, now: float) -> float:
        """Return when a request that is ready now may be sent."""
        return now

    def answered(self, now: float, headers: dict[str, str]) -> None:
        """Take note of a response and its headers."""


class OurPacer(Pacer):
    """The rate limiter of the tap."""

    def __init__(self) -> None:
        """Start with nothing used."""
        self._limiter = RateLimiter(PER_MINUTE, PER_HOUR)

    @override
    def send_at(self, now: float) -> float:
        return now + self._limiter.delay(now)

    @override
    def answered(self, now: float, headers: dict[str, str]) -> None:
        self._limiter.record(now)
        self._limiter.update(headers, now)


class EvenPacer(Pacer):
    """Requests at the same distance, which both limits allow."""

    _next = 0.0

    @override
    def send_at(self, now: float) -> float:
        sent = max(now, self._next)
        self._next = sent + max(seconds / limit for limit, seconds in LIMITS)
        return sent


class LibraryPacer(Pacer):
    """A library, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Keep the process."""
        self._process = process

    @override
    def send_at(self, now: float) -> float:
        print(now, file=self._process.stdin, flush=True)
        return float(t.cast("t.TextIO", self._process.stdout).readline())


class Result(t.NamedTuple):
    """What came of the requests."""

    refused: int
    """Responses with status 429."""
    seconds: float


def main() -> None:
    """Pace the requests, and print the table."""
    options = make_parser(__doc__, requests=REQUESTS).parse_args()
    exit_on_signals()
    packages = [f"{name}=={version}" for name, version in LIBRARIES.items()]
    make_environment(ENVIRONMENT, [*packages, "typing-extensions"])
    contenders: dict[str, Contender] = {
        "tap-mega": lambda: contextlib.nullcontext(OurPacer()),
        **{
            f"{name} {version}": functools.partial(library, name)
            for name, version in LIBRARIES.items()
        },
        "even spacing": lambda: contextlib.nullcontext(EvenPacer()),
        "`Retry-After` alone": lambda: contextlib.nullcontext(Pacer()),
    }
    rows = []
    for name, contender in contenders.items():
        print_progress(name)
        rows.append(format_row(name, contender, options.requests))
    publish("limiters", format_table(rows), write=options.write)


@contextlib.contextmanager
def library(name: str, python: Path = PYTHON) -> Iterator[Pacer]:
    """Run a library, in a Python that has it."""
    command = [str(python), str(PEERS / "limiters.py"), name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield LibraryPacer(process)
        process.communicate()


def format_row(name: str, contender: Contender, requests: int) -> dict[str, str]:
    """Return the results of a contender with both kinds of windows."""
    row = {"": name}
    for window in WINDOWS:
        least = least_seconds(window, requests)
        with contender() as pacer:
            result = pace(pacer, window, requests)
        row[f"{window}: 429 responses"] = f"{result.refused:,}"
        row[f"{window}: time"] = format_duration(result.seconds)
        row[f"{window}: over the least"] = f"{result.seconds / least - 1:+.1%}"
    return row


def least_seconds(window: Window, requests: int) -> float:
    """Return the least time, for responses that take none."""
    if window == "sliding":
        return least_seconds_sliding(requests)
    return least_seconds_fixed(requests, START)


def pace(pacer: Pacer, window: Window, requests: int) -> Result:
    """Send so many requests that are accepted, one after another.

    One that is refused is sent again after its `Retry-After`.
    """
    limits, server = Limits(window=window), RateLimit()
    latency = random.Random(0)  # noqa: S311 - the same for all
    now, refused, accepted = float(START), 0, 0
    while accepted < requests:
        now = pacer.send_at(now) + latency.uniform(MIN_LATENCY, MAX_LATENCY)
        is_accepted, headers = server.count_request(limits, now)
        now += latency.uniform(MIN_LATENCY, MAX_LATENCY)
        pacer.answered(now, headers)
        accepted += is_accepted
        refused += not is_accepted
        now += float(headers.get("Retry-After", 0))
    return Result(refused, now - START)


if __name__ == "__main__":
    main()
