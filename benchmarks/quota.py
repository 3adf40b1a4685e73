"""Measure how long syncs take at the default limits: `python -m benchmarks.quota`.

The real command reads over HTTP from a sandbox with the vendor's limits: 60 requests
per minute and 1,000 per hour, in sliding windows. The tap and the sandbox share a fake
clock, so no wait takes real time and the result is always the same.
"""

from __future__ import annotations

import math
import sys
import tempfile
import typing as t
from pathlib import Path

import leather

from benchmarks.report import DOCS, format_table, make_parser, publish
from benchmarks.runs import count_pages, print_progress
from demo.processes import exit_on_signals
from sandbox import Sandbox
from testing.clock import FakeClock
from testing.harness import Command
from testing.least_times import HOUR, MINUTE, least_moments_sliding

MAX_LEADS = 1_000_000
SIZES = (1_000, 10_000, 100_000, 250_000, 1_000_000)
PLOT = DOCS / "quota.svg"
WIDTH, HEIGHT = 640, 360
MAX_POINTS = 1000
BLUE, GRAY, ORANGE = "#3b82f6", "#808080", "#f97316"
"""These are readable on white and on black."""
THEME = {
    "axis_title_color": GRAY,
    "axis_title_font_family": "sans-serif",
    "background_color": "none",
    "label_color": GRAY,
    "legend_color": GRAY,
    "legend_font_family": "sans-serif",
    "tick_color": "rgba(128, 128, 128, 0.3)",
    "tick_font_family": "sans-serif",
    "tick_font_size": 12,
    "title_color": GRAY,
    "title_font_family": "sans-serif",
    "zero_color": GRAY,
}


class Load(t.NamedTuple):
    """A load in simulated time."""

    statuses: list[int]
    """The status of each response."""
    seconds: float


class Sync(t.NamedTuple):
    """The result of a sync."""

    leads: int
    requests: int
    refused: int
    """Responses with status 429."""
    seconds: float


def main() -> None:
    """Run the syncs, print the table, and draw the plot."""
    options = make_parser(__doc__, leads=MAX_LEADS).parse_args()
    exit_on_signals()
    sizes = [*(size for size in SIZES if size < options.leads), options.leads]
    syncs = [run_sync(leads) for leads in sizes]
    least = least_moments_sliding(count_pages(options.leads))
    table = format_table([format_sync(it, least) for it in syncs])
    publish("quota", table, write=options.write)
    if options.write:
        PLOT.write_text(plot(syncs, least), encoding="utf-8")


def run_sync(leads: int) -> Sync:
    """Read all leads of a sandbox with the default limits.

    Raises:
        SystemExit: The command failed.
    """
    print_progress(f"{leads:,} leads")
    clock = FakeClock()
    with Sandbox(leads=leads, clock=clock.time) as sandbox:
        statuses, seconds = load(sandbox, clock)
    return Sync(leads, len(statuses), statuses.count(429), seconds)


def load(sandbox: Sandbox, clock: FakeClock, **settings: object) -> Load:
    """Read all leads of a sandbox.

    Args:
        sandbox: The API, which goes by the clock.
        clock: What the tap waits by.
        **settings: Settings of the tap, beside those that name the sandbox.

    Raises:
        SystemExit: The command failed.
    """
    started_at = clock.now
    with tempfile.TemporaryDirectory() as folder:
        tap = Command(Path(folder), keeps_stdout=False)
        run = tap(config={**sandbox.config(), **settings}, clock=clock)
    if run.code != 0:
        sys.exit(f"tap-mega failed with exit code {run.code}: {run.errors}")
    statuses = [t.cast("int", request.status) for request in sandbox.requests]
    return Load(statuses, clock.now - started_at)


def format_sync(sync: Sync, least: list[float]) -> dict[str, str]:
    """Return the result of a sync, and the least time for as many requests."""
    least_seconds = least[sync.requests - 1]
    return {
        "leads": f"{sync.leads:,}",
        "requests": f"{sync.requests:,}",
        "429 responses": str(sync.refused),
        "time": format_duration(sync.seconds),
        "least possible": format_duration(least_seconds),
        "difference": f"{sync.seconds - least_seconds:.1f} s",
    }


def format_duration(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds: 2 h 08 min 00 s."""
    hours, rest = divmod(round(seconds), HOUR)
    minutes, rest = divmod(rest, MINUTE)
    return f"{hours} h {minutes:02} min {rest:02} s"


def plot(syncs: list[Sync], least: list[float]) -> str:
    """Return an SVG with the least time as a line and the syncs as dots."""
    leads_per_page = syncs[-1].leads / len(least)
    line = [(page * leads_per_page, it / HOUR) for page, it in enumerate(least, 1)]
    every = math.ceil(len(line) / MAX_POINTS)
    vars(leather.theme).update(THEME)
    chart = leather.Chart("Duration of a first sync at the default limits")
    chart.add_line(line[::-every], name="least possible", stroke_color=BLUE)
    dots = [(it.leads, it.seconds / HOUR) for it in syncs]
    chart.add_dots(dots, name="tap-mega", fill_color=ORANGE)
    chart.add_x_axis(name="leads", tick_formatter=lambda it, *_: f"{it:,}")
    hours = math.ceil(max(hours for _, hours in (*line, *dots)))
    chart.add_y_axis(name="hours", ticks=range(hours + 1))
    return f"{chart.to_svg(width=WIDTH, height=HEIGHT)}\n"


if __name__ == "__main__":
    main()
