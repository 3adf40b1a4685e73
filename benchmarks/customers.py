"""Measure many customers in one run: `python3 dev.py python -m benchmarks.customers`.

Each scenario runs for one customer and for many. The API takes a fixed time for each
response, so the ratio shows how far requests of several customers overlap.
"""

from __future__ import annotations

import subprocess
import typing as t
from statistics import median

from benchmarks.contenders import tap_mega
from benchmarks.report import format_table, make_parser, publish
from benchmarks.runs import (
    MIB,
    NO_PACING,
    Cost,
    config_file,
    count_pages,
    measure,
    print_progress,
)
from demo.processes import exit_on_signals
from sandbox import NO_LIMITS, Sandbox
from testing.harness import Run

ROUNDS = 3


class Scenario(t.NamedTuple):
    """What a run reads."""

    name: str
    customers: int
    leads: int
    """Leads of each customer."""
    delay: float
    """Seconds that the API takes for each response."""
    polls: bool = False
    """Whether an earlier run has read all leads."""


class Result(t.NamedTuple):
    """What a run took."""

    requests: int
    seconds: float
    """From the first request to the last response."""
    cost: Cost


SCENARIOS = (
    Scenario("first load of 10 pages each", 20, leads=1000, delay=0.1),
    Scenario("poll without new leads", 60, leads=20, delay=0.2, polls=True),
    Scenario("first load of 3 pages each", 200, leads=300, delay=0),
)


def main() -> None:
    """Measure, and print the table."""
    options = make_parser(__doc__, rounds=ROUNDS).parse_args()
    exit_on_signals()
    rows = []
    for scenario in SCENARIOS:
        one: list[Result] = []
        for customers in (1, scenario.customers):
            print_progress(f"{scenario.name}: {customers}")
            results = run(scenario._replace(customers=customers), options.rounds)
            one = one or results
            rows.append(format_results(scenario, customers, results, one))
    publish("customers", format_table(rows), write=options.write)


def run(scenario: Scenario, rounds: int) -> list[Result]:
    """Run the tap once per round, and return the results.

    Raises:
        RuntimeError: A run failed, or did not send one request per page.
    """
    results = []
    sandbox = Sandbox(
        leads=scenario.leads, customers=scenario.customers, limits=NO_LIMITS
    )
    with sandbox, config_file(sandbox.config() | NO_PACING) as config:
        state = read_all(tap_mega(config)) if scenario.polls else {}
        sandbox.delay = scenario.delay
        pages = 1 if scenario.polls else count_pages(scenario.leads)
        with config_file(state) as path:
            command = [*tap_mega(config), f"--state={path}"]
            for _ in range(rounds):
                sandbox.requests.clear()
                cost = measure(command)
                sent = [it.time for it in sandbox.requests]
                if len(sent) != pages * scenario.customers:
                    msg = f"{len(sent)} requests for {pages} pages of each customer"
                    raise RuntimeError(msg)
                seconds = sent[-1] + scenario.delay - sent[0]
                results.append(Result(len(sent), seconds, cost))
    return results


def read_all(command: list[str]) -> dict[str, t.Any]:
    """Read all leads, and return the state for the next run."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Run(done.returncode, done.stdout, done.stderr).state


def format_results(
    scenario: Scenario, customers: int, results: list[Result], one: list[Result]
) -> dict[str, str]:
    """Return the medians of a scenario, and the ratio to those of one customer."""
    seconds, of_one = (median(it.seconds for it in runs) for runs in (results, one))
    costs = [it.cost for it in results]
    return {
        "": scenario.name,
        "per response": f"{scenario.delay:.1f} s",
        "customers": str(customers),
        "requests": str(results[0].requests),
        "reading": f"{seconds:.1f} s",
        "÷ one customer": f"{seconds / of_one:.1f}" if scenario.delay else "",
        "wall": f"{median(it.wall for it in costs):.1f} s",
        "CPU": f"{median(it.cpu for it in costs):.1f} s",
        "peak memory": f"{median(it.memory for it in costs) / MIB:.0f} MiB",
    }


if __name__ == "__main__":
    main()
