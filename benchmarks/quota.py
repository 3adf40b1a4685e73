"""How long syncs take at the default limits: `python -m benchmarks.quota`.

Runs the real command over real HTTP against a sandbox that has the limits of the
vendor, 60 requests a minute and 1,000 an hour in sliding windows. Both go by a clock
that is handed in: where the tap waits, nobody does. The result is the same each time.
"""

from __future__ import annotations

import itertools
import math
import sys
import tempfile
import typing as t
from operator import itemgetter
from pathlib import Path

from benchmarks.report import DOCS, parser, publish, table
from benchmarks.runs import pages_of, say, stop_at_signals
from sandbox import Sandbox
from testing.clock import FakeClock
from testing.harness import Command
from testing.least_times import HOUR, MINUTE, least_moments_sliding

MOST = 1_000_000
SIZES = (1_000, 10_000, 100_000, 250_000, 1_000_000)
PLOT = DOCS / "quota.svg"


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


# The plot, in colours that show on white as well as on black.

WIDTH, HEIGHT = 640, 290
LEFT, RIGHT, TOP, BOTTOM = 40, 600, 20, 260
GREY, LINE, DOT = "#808080", "#3b82f6", "#f97316"
TICKS = 5
Point: t.TypeAlias = tuple[str, str]


def plot(syncs: list[Sync], least: list[float]) -> str:
    """Return an SVG: the least time as a line, the syncs as dots on it."""
    leads = syncs[-1].leads
    hours = math.ceil(max([HOUR, *(it.seconds for it in syncs)]) / HOUR)

    def at(count: float, seconds: float) -> Point:
        x = LEFT + (RIGHT - LEFT) * count / leads
        y = BOTTOM - (BOTTOM - TOP) * seconds / HOUR / hours
        return f"{x:.1f}", f"{y:.1f}"

    page = leads / len(least)
    line = corners([at(page * number, it) for number, it in enumerate(least, 1)])
    ticks = [leads * number // TICKS for number in range(TICKS + 1)]
    drawing = [
        *(label(LEFT - 8, at(0, it * HOUR)[1], "end", it) for it in range(hours + 1)),
        *(label(at(it, 0)[0], BOTTOM + 14, "middle", f"{it:,}") for it in ticks),
        label(LEFT + 15, TOP + 10, "start", "hours, by leads, at the default limits"),
        label(LEFT + 15, TOP + 30, "start", "line: the least possible", LINE),
        label(LEFT + 15, TOP + 50, "start", "dots: tap-mega", DOT),
        f'<path fill="none" stroke="{GREY}" d="M{LEFT},{TOP}V{BOTTOM}H{RIGHT}"/>',
        f'<polyline fill="none" stroke="{LINE}" stroke-width="2" points="{line}"/>',
        *(dot(*at(it.leads, it.seconds)) for it in syncs),
    ]
    font = 'font-family="sans-serif" font-size="12"'
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {font} {size}>'
    return "\n".join([head, *drawing, "</svg>\n"])


def corners(points: list[Point]) -> str:
    """Return where a staircase turns: the two ends of each step."""
    ends = []
    for _, step in itertools.groupby(points, itemgetter(1)):
        on_it = list(step)
        ends += [on_it[0], on_it[-1]]
    return " ".join(map(",".join, ends))


def label(x: object, y: object, anchor: str, text: object, colour: str = GREY) -> str:
    """Return a text; `dy` puts its middle at the height of y."""
    place = f'x="{x}" y="{y}" dy="4" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{text}</text>'


def dot(x: str, y: str) -> str:
    """Return a dot."""
    return f'<circle cx="{x}" cy="{y}" r="4" fill="{DOT}"/>'


if __name__ == "__main__":
    main()
