"""Measure how long syncs take at the default limits: `python -m benchmarks.quota`.

The real command reads over HTTP from a sandbox with the vendor's limits: 60 requests
per minute and 1,000 per hour, in sliding windows. The tap and the sandbox share a fake
clock, so no wait takes real time and the result is always the same.
"""

from __future__ import annotations

import sys
import tempfile
import typing as t
from pathlib import Path

from benchmarks.report import format_table, make_parser, publish
from benchmarks.runs import print_progress
from demo.processes import exit_on_signals
from sandbox import Sandbox
from testing.clock import FakeClock
from testing.harness import Command
from testing.least_times import HOUR, MINUTE, least_seconds_sliding

MAX_LEADS = 1_000_000
SIZES = (1_000, 10_000, 100_000, 250_000, 1_000_000)


class Sync(t.NamedTuple):
    """The result of a sync."""

    leads: int
    requests: int
    refused: int
    """Responses with status 429."""
    seconds: float


def main() -> None:
    """Run the syncs, and print the table."""
    options = make_parser(__doc__, leads=MAX_LEADS).parse_args()
    exit_on_signals()
    sizes = [*(size for size in SIZES if size < options.leads), options.leads]
    table = format_table([format_sync(run_sync(leads)) for leads in sizes])
    publish("quota", table, write=options.write)


def run_sync(leads: int) -> Sync:
    """Read all leads of a sandbox with the default limits.

    Raises:
        SystemExit: The command failed.
    """
    print_progress(f"{leads:,} leads")
    clock = FakeClock()
    started_at = clock.now
    with (
        Sandbox(leads=leads, clock=clock.time) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        tap = Command(Path(folder), keeps_stdout=False)
        run = tap(config=sandbox.config(), clock=clock)
        if run.code != 0:
            sys.exit(f"tap-mega failed with exit code {run.code}: {run.errors}")
        statuses = [request.status for request in sandbox.requests]
    refused = statuses.count(429)
    return Sync(leads, len(statuses), refused, clock.now - started_at)


def format_sync(sync: Sync) -> dict[str, str]:
    """Return the result of a sync, and the least time for as many requests."""
    least = least_seconds_sliding(sync.requests)
    return {
        "leads": f"{sync.leads:,}",
        "requests": f"{sync.requests:,}",
        "429 responses": str(sync.refused),
        "time": format_duration(sync.seconds),
        "least possible": format_duration(least),
        "difference": f"{sync.seconds - least:.1f} s",
    }


def format_duration(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds: 2 h 08 min 00 s."""
    hours, rest = divmod(round(seconds), HOUR)
    minutes, rest = divmod(rest, MINUTE)
    return f"{hours} h {minutes:02} min {rest:02} s"


if __name__ == "__main__":
    main()
