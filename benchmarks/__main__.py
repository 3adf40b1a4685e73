"""Measure the cost of a lead: `python3 dev.py python -m benchmarks`.

tap-mega, a plain SDK tap and a minimal program take turns to read all leads of a
sandbox. The table shows the medians of all rounds.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import typing as t
from statistics import median

from benchmarks.contenders import CONTENDERS
from benchmarks.report import format_table, make_parser, median_ratio, publish
from benchmarks.runs import (
    MIB,
    PAGE_SIZE,
    Cost,
    Server,
    measure,
    print_progress,
    serve_leads,
)
from demo.processes import exit_on_signals

LEADS = 50_000
ROUNDS = 5
START_UP_LEADS = 1
"""The number of leads in the runs that measure the start-up."""
TAP, FLOOR = "tap-mega", "the floor"
IMPORT = "import singer_sdk"
MICROSECONDS = 1_000_000


class Costs(t.NamedTuple):
    """The costs of a contender, one of each kind per round."""

    start_ups: list[Cost]
    runs: list[Cost]

    def cpu_per_lead(self, leads: int) -> list[float]:
        """Return the CPU seconds per lead of each round, without the start-up."""
        pairs = zip(self.runs, self.start_ups, strict=True)
        return [
            (run.cpu - start_up.cpu) / (leads - START_UP_LEADS)
            for run, start_up in pairs
        ]


def main() -> None:
    """Measure, and print the table."""
    parser = make_parser(__doc__, leads=LEADS, rounds=ROUNDS)
    options = parser.parse_args()
    if options.leads <= START_UP_LEADS:
        parser.error(f"--leads must be more than {START_UP_LEADS}")
    exit_on_signals()
    with serve_leads(START_UP_LEADS) as small, serve_leads(options.leads) as big:
        costs, imports = run_rounds(small, big, options.rounds)
    rows = [
        {"": name, **format_costs(name, costs, imports, options.leads)}
        for name in CONTENDERS
    ]
    conditions = format_conditions(options.leads, options.rounds)
    publish("cost", f"{format_table(rows)}\n{conditions}\n", write=options.write)


def run_rounds(
    small: Server, big: Server, rounds: int
) -> tuple[dict[str, Costs], list[float]]:
    """Return the costs of each contender, and the CPU seconds of importing the SDK."""
    costs = {name: Costs([], []) for name in CONTENDERS}
    imports = []
    for number in range(1, rounds + 1):
        print_progress(f"round {number} of {rounds}")
        imports.append(measure([sys.executable, "-c", IMPORT]).cpu)
        for name, contender in CONTENDERS.items():
            costs[name].start_ups.append(small.measure(contender))
            costs[name].runs.append(big.measure(contender))
    return costs, imports


def format_costs(
    name: str, costs: dict[str, Costs], imports: list[float], leads: int
) -> dict[str, str]:
    """Return the medians of a contender, and its ratios to others round by round."""
    runs, start_ups = costs[name].runs, [it.cpu for it in costs[name].start_ups]
    cpu, tap, floor = (costs[it].cpu_per_lead(leads) for it in (name, TAP, FLOOR))
    return {
        "CPU per lead": f"{median(cpu) * MICROSECONDS:.0f} µs",
        "÷ floor": f"{median_ratio(cpu, floor):.1f}",
        "÷ tap-mega": f"{median_ratio(cpu, tap):.1f}",
        "wall": f"{median(it.wall for it in runs):.1f} s",
        "peak memory": f"{median(it.memory for it in runs) / MIB:.0f} MiB",
        "start-up CPU": f"{median(start_ups):.2f} s",
        "÷ `import singer_sdk`": f"{median_ratio(start_ups, imports):.2f}",
    }


def format_conditions(leads: int, rounds: int) -> str:
    """Return a line with the sizes, the versions and the machine."""
    python = f"Python {platform.python_version()}"
    sdk = f"singer-sdk {importlib.metadata.version('singer-sdk')}"
    return (
        f"{leads:,} leads, pages of {PAGE_SIZE}, medians of {rounds} rounds. {python}, "
        f"{sdk}, {platform.system()} on {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
