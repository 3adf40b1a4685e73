"""Measure many customers in one run: `python3 dev.py python -m benchmarks.customers`.

The first table is for small incremental polls: one run for all customers beside a run
for each, one after another. The second one is for first loads at the default limits. It
uses a fake clock, so no wait takes real time and the result is always the same.
"""

from __future__ import annotations

import subprocess
import typing as t
from statistics import median

from benchmarks.contenders import tap_mega
from benchmarks.quota import format_duration, load
from benchmarks.report import format_table, make_parser, publish
from benchmarks.runs import (
    MIB,
    Cost,
    config_file,
    measure,
    print_progress,
    serve_leads,
)
from demo.processes import exit_on_signals
from sandbox import Fault, Sandbox
from testing.clock import FakeClock
from testing.harness import Run

if t.TYPE_CHECKING:
    from benchmarks.quota import Load
    from benchmarks.runs import Server

    Json: t.TypeAlias = dict[str, t.Any]

SIZES = (1, 5, 10, 50, 200)
ROUNDS = 3
POLLED_LEADS = 20
"""Leads of each customer in the polls."""
LOADED_PAGES = 300
"""Pages of each customer in the first loads in simulated time."""
LOADED_LEADS = 300
"""Leads of each customer, in full pages, in the first loads that measure memory."""
MAX_SECONDS_OF_OWN_RUNS = 60
"""If runs of their own would take longer, their cost is estimated."""
LATENCY_SECONDS = 0.1
MAX_CUSTOMERS_WITH_LATENCY = 50
"""More would not show anything new, and take long."""


class Poll(t.NamedTuple):
    """The costs of incremental polls of all customers."""

    together: list[Cost]
    """One run for all customers, once per round."""
    apart: list[Cost]
    """A run for each customer. Empty if these would take too long."""


def main() -> None:
    """Measure, and print both tables."""
    parser = make_parser(__doc__, customers=SIZES[-1], rounds=ROUNDS)
    options = parser.parse_args()
    exit_on_signals()
    sizes = [*(size for size in SIZES if size < options.customers), options.customers]
    polls: dict[int, Poll] = {}
    memory: dict[int, int] = {}
    for size in sizes:
        print_progress(f"polls of {size} customers")
        own_run = median(it.wall for it in _known_runs(polls)) if polls else 0
        polls[size] = measure_polls(
            size, options.rounds, apart=own_run * size < MAX_SECONDS_OF_OWN_RUNS
        )
        memory[size] = measure_memory(size, LOADED_LEADS)
    loads: dict[int, Load] = {}
    slow_loads: dict[int, Load] = {}
    for size in sizes:
        print_progress(f"first loads of {size} customers")
        loads[size] = run_load(size)
        if size <= MAX_CUSTOMERS_WITH_LATENCY:
            slow_loads[size] = run_load(size, LATENCY_SECONDS)
    first = format_table([format_polls(size, polls, memory) for size in sizes])
    second = format_table([format_loads(size, loads, slow_loads) for size in sizes])
    publish("customers", f"{first}\n{second}", write=options.write)


def measure_polls(customers: int, rounds: int, *, apart: bool) -> Poll:
    """Return the costs of polls that find the leads of the look-back only."""
    together = []
    with serve_leads(POLLED_LEADS, customers) as server:
        state = read_all(server)
        for _ in range(rounds):
            with server.expect_requests(customers):
                together.append(poll(server.settings, state))
        return Poll(together, poll_each(server, state) if apart else [])


def read_all(server: Server) -> Json:
    """Read all leads, and return the state for the next run."""
    command = tap_mega(server.config)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Run(done.returncode, done.stdout, done.stderr).state


def poll(settings: Json, state: Json) -> Cost:
    """Return the cost of a run that starts from a state."""
    with config_file(settings) as config, config_file(state) as path:
        return measure([*tap_mega(config), f"--state={path}"])


def poll_each(server: Server, state: Json) -> list[Cost]:
    """Return the costs of a run for each customer, with a state of its own."""
    shared = {name: it for name, it in server.settings.items() if name != "customers"}
    costs = []
    for part in state["bookmarks"]["leads"]["partitions"]:
        (pair,) = (
            it
            for it in server.settings.get("customers", [server.settings])
            if it["customer_id"] == part["context"]["customer_id"]
        )
        own_state = {"bookmarks": {"leads": {"partitions": [part]}}}
        with server.expect_requests(1):
            costs.append(poll({**shared, **pair}, own_state))
    return costs


def measure_memory(customers: int, leads: int) -> int:
    """Return the peak memory of a first load in bytes."""
    with serve_leads(leads, customers) as server:
        return server.measure(tap_mega).memory


def run_load(customers: int, latency: float = 0) -> Load:
    """Read the pages of all customers with the default limits.

    Raises:
        SystemExit: The command failed.
    """
    clock = FakeClock()
    answer = Fault(times=None, before=lambda: _pass(clock, latency))
    with Sandbox(leads=LOADED_PAGES, customers=customers, clock=clock.time) as sandbox:
        sandbox.script(answer)
        return load(sandbox, clock, page_size=1)


def _pass(clock: FakeClock, seconds: float) -> None:
    clock.now += seconds


def _known_runs(polls: dict[int, Poll]) -> list[Cost]:
    """Return the runs of their own of the largest size that was measured."""
    return next(it.apart for it in reversed(polls.values()) if it.apart)


def format_polls(
    size: int, polls: dict[int, Poll], memory: dict[int, int]
) -> dict[str, str]:
    """Return the costs of one run for all, and of a run for each."""
    together, apart = polls[size]
    wall, cpu = (median(it) for it in seconds_of(together))
    if apart:
        sign, (walls, cpus) = "", (sum(it) for it in seconds_of(apart))
    else:
        own_runs = seconds_of(_known_runs(polls))
        sign, (walls, cpus) = "≈ ", (size * median(it) for it in own_runs)
    return {
        "customers": str(size),
        "requests": str(size),
        "one run: wall": f"{wall:.1f} s",
        "CPU": f"{cpu:.2f} s",
        "peak memory": f"{median(it.memory for it in together) / MIB:.1f} MiB",
        "first load": f"{memory[size] / MIB:.1f} MiB",
        "own runs: wall": f"{sign}{walls:.1f} s",
        "their CPU": f"{sign}{cpus:.2f} s",
        "÷ one run": f"{sign}{cpus / cpu:.1f}",
    }


def seconds_of(costs: list[Cost]) -> tuple[list[float], list[float]]:
    """Return the wall seconds of all costs, and the CPU seconds."""
    return [it.wall for it in costs], [it.cpu for it in costs]


def format_loads(
    size: int, loads: dict[int, Load], slow_loads: dict[int, Load]
) -> dict[str, str]:
    """Return the time of a first load, and its ratio to that of one customer."""
    first, one = loads[size], next(iter(loads.values()))
    slow = slow_loads.get(size)
    return {
        "customers": str(size),
        "pages": f"{len(first.statuses):,}",
        "429 responses": str(first.statuses.count(429)),
        "time": format_duration(first.seconds),
        "÷ one customer": f"{first.seconds / one.seconds:.2f}",
        f"time, {LATENCY_SECONDS:.1f} s per response": format_duration(slow.seconds)
        if slow
        else "not measured",
    }


if __name__ == "__main__":
    main()
