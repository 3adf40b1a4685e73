"""How long syncs take at the default limits: `python -m benchmarks.quota`.

Runs the real command over real HTTP against a sandbox that has the limits of the
vendor, 60 requests a minute and 1,000 an hour in sliding windows. Both go by a clock
that is handed in: where the tap waits, nobody does. The result is the same each time.
"""

from __future__ import annotations

import math
import sys
import tempfile
import typing as t
from pathlib import Path

import leather

from benchmarks.report import DOCS, parser, publish, table
from benchmarks.runs import pages_of, say, stop_at_signals
from sandbox import Sandbox
from testing.clock import FakeClock
from testing.harness import Command
from testing.least_times import HOUR, MINUTE, least_moments_sliding

MOST = 1_000_000
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


class Sync(t.NamedTuple):
    """How a sync went."""

    leads: int
    requests: int
    refused: int
    """Requests that were answered with 429."""
    seconds: float


def main() -> None:
    """Run the syncs, print the table, and draw the plot."""
    given = parser(__doc__, leads=MOST).parse_args()
    stop_at_signals()
    sizes = [*(size for size in SIZES if size < given.leads), given.leads]
    syncs = [sync(leads) for leads in sizes]
    least = least_moments_sliding(pages_of(given.leads))
    publish("quota", table([row(it, least) for it in syncs]), write=given.write)
    if given.write:
        PLOT.write_text(plot(syncs, least), encoding="utf-8")


def sync(leads: int) -> Sync:
    """Read all leads of a sandbox with the default limits.

    Raises:
        SystemExit: The command failed.
    """
    say(f"{leads:,} leads")
    clock = FakeClock()
    started_at = clock.now
    with (
        Sandbox(leads=leads, clock=clock.time) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        tap = Command(Path(folder), keeps_stdout=False)
        run = tap(config=sandbox.config(), clock=clock)
        statuses = [request.status for request in sandbox.requests]
    if run.code != 0:
        sys.exit(f"tap-mega failed with exit code {run.code}: {run.errors}")
    return Sync(leads, len(statuses), statuses.count(429), clock.now - started_at)


def row(it: Sync, least: list[float]) -> dict[str, str]:
    """Return a sync beside the least time that its requests could have taken."""
    fastest = least[it.requests - 1]
    return {
        "leads": f"{it.leads:,}",
        "requests": f"{it.requests:,}",
        "refused (429)": str(it.refused),
        "time": duration(it.seconds),
        "least possible": duration(fastest),
        "more": f"{it.seconds - fastest:.1f} s",
    }


def duration(seconds: float) -> str:
    """Return a time as people say it: 2 h 08 min 00 s."""
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
