"""What a lead costs, beside others: `python3 dev.py python -m benchmarks`.

Reads all leads of a sandbox with tap-mega, a plain SDK tap, the Airbyte CDK, dlt and
the least that Python can do, in turn, so many rounds. A table tells the medians.
The first call installs the peers into `.peers`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import typing as t
from statistics import median

from benchmarks.contenders import CONTENDERS, ENVIRONMENT, PACKAGES
from benchmarks.report import parser, publish, table
from benchmarks.runs import (
    PAGE_SIZE,
    Cost,
    Server,
    measure,
    pages_of,
    say,
    served,
    stop_at_signals,
    written,
)
from sandbox import NO_LIMITS, Sandbox
from testing.environments import make_environment

if t.TYPE_CHECKING:
    from benchmarks.contenders import Command

LEADS = 50_000
ROUNDS = 5
START = 1
"""Leads that are read to see what a start-up costs."""
TAP, FLOOR = "tap-mega", "the floor"
IMPORT = "import singer_sdk"
MIB = 2**20
MICROSECONDS = 1_000_000


class Measured(t.NamedTuple):
    """The runs of a contender, one of each kind a round."""

    starts: list[Cost]
    """With one lead."""
    runs: list[Cost]
    """With all leads."""

    def cpu_a_lead(self, leads: int) -> list[float]:
        """Return the CPU seconds of a lead, net of the start-up, for each round."""
        pairs = zip(self.runs, self.starts, strict=True)
        return [(run.cpu - start.cpu) / (leads - START) for run, start in pairs]


def main() -> None:
    """Measure, and print the table."""
    options = parser(__doc__, leads=LEADS, rounds=ROUNDS)
    given = options.parse_args()
    if given.leads <= START:
        options.error(f"--leads must be more than {START}")
    stop_at_signals()
    make_environment(ENVIRONMENT, PACKAGES)
    encodings = {name: encoding_of(command) for name, command in CONTENDERS.items()}
    with served(START) as small, served(given.leads) as big:
        measured, imports = run_rounds(small, big, given.rounds)
    rows = [
        {"": name, **row(name, measured, imports, given.leads), "answers": encoding}
        for name, encoding in encodings.items()
    ]
    text = f"{table(rows)}\n{conditions(given.leads, given.rounds)}\n"
    publish("cost", text, write=given.write)


def encoding_of(command: Command) -> str:
    """Return how the API sends its answers to a contender; and see that it runs.

    So each has run once before anything is measured, and its modules are compiled.
    """
    with Sandbox(leads=1, limits=NO_LIMITS) as sandbox:
        with written(sandbox.config()) as config:
            measure(command(config))
        accepted = sandbox.requests[0].headers.get("accept-encoding", "")
    return "gzip" if "gzip" in accepted else "plain"


def run_rounds(
    small: Server, big: Server, rounds: int
) -> tuple[dict[str, Measured], list[float]]:
    """Return the runs of each contender, and the CPU seconds of importing the SDK."""
    measured = {name: Measured([], []) for name in CONTENDERS}
    imports = []
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}")
        imports.append(measure([sys.executable, "-c", IMPORT]).cpu)
        for name, command in CONTENDERS.items():
            measured[name].starts.append(run(command, small))
            measured[name].runs.append(run(command, big))
    return measured, imports


def run(command: Command, server: Server) -> Cost:
    """Return what a contender costs that reads all leads, in as many pages."""
    before = server.requests()
    cost = measure(command(server.config))
    server.check_requests(before)
    return cost


def row(
    name: str, measured: dict[str, Measured], imports: list[float], leads: int
) -> dict[str, str]:
    """Return the medians of a contender, and how they compare, round by round."""
    runs, starts = measured[name].runs, [it.cpu for it in measured[name].starts]
    cpu, ours, least = (measured[each].cpu_a_lead(leads) for each in (name, TAP, FLOOR))
    return {
        "CPU a lead": f"{median(cpu) * MICROSECONDS:.0f} µs",
        "÷ floor": f"{ratio(cpu, least):.1f}",
        "÷ tap-mega": f"{ratio(cpu, ours):.1f}",
        "wall": f"{median(it.wall for it in runs):.1f} s",
        "peak memory": f"{median(it.memory for it in runs) / MIB:.0f} MiB",
        "requests": f"{pages_of(leads):,}",
        "start-up, CPU": f"{median(starts):.2f} s",
        "÷ `import singer_sdk`": f"{ratio(starts, imports):.2f}",
    }


def ratio(these: list[float], those: list[float]) -> float:
    """Return the median of what these are to those of the same round."""
    return median(one / other for one, other in zip(these, those, strict=True))


def conditions(leads: int, rounds: int) -> str:
    """Return a line on what was measured, and where."""
    python = f"Python {platform.python_version()}"
    sdk = f"singer-sdk {importlib.metadata.version('singer-sdk')}"
    return (
        f"{leads:,} leads, pages of {PAGE_SIZE}, medians of {rounds} rounds. {python}, "
        f"{sdk}, {platform.system()} on {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
