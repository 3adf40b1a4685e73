"""Tests of the benchmarks, and of results that do not depend on the machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import typing as t

import pytest

from benchmarks import contenders, customers, quota, report
from benchmarks.runs import MIB, NO_PACING, Cost, config_file, measure
from sandbox import NO_LIMITS, Sandbox
from testing.environments import make_environment
from testing.harness import as_record
from testing.sections import replace_section

if t.TYPE_CHECKING:
    from pathlib import Path

    from testing.clock import FakeClock
    from testing.harness import Command

    Costs: t.TypeAlias = dict[tuple[str, int], list[Cost]]

MAX_CPU_RATIO = 4
"""The highest ratio of tap-mega's CPU time per lead to the floor's.

The start-up does not count. docs/benchmarks.md has the measured ratio.
"""
MAX_MEMORY_INCREASE = 8 * MIB
MAX_MEMORY_PER_CUSTOMER = 1 * MIB
MANY_CUSTOMERS = 40
NAMES = ("tap-mega", "the floor")
ONE, FEW, MANY = 1, 2_000, 20_000
ROUNDS = 2
SECTIONS = {
    "cost": "benchmarks",
    "customers": "benchmarks.customers",
    "quota": "benchmarks.quota",
}


@pytest.mark.parametrize(
    ("leads", "pages"), [(0, 1), (1, 1), (100, 1), (101, 2), (1000, 10), (1001, 11)]
)
def test_each_page_is_one_request(
    tap: Command, clock: FakeClock, leads: int, pages: int
) -> None:
    """A sync sends one request per page, and one request if there are no leads."""
    with Sandbox(leads=leads, clock=clock.time) as sandbox:
        run = tap(config=sandbox.config(), clock=clock)
        assert run.leads == sandbox.leads.all()
        assert len(sandbox.requests) == pages


def records_of(command: list[str]) -> list[t.Any]:
    """Run a command, and return its RECORD messages without their timestamps."""
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    messages = [json.loads(line) for line in run.stdout.splitlines()]
    records = [it for it in messages if it["type"] == "RECORD"]
    return [{**it, "time_extracted": None} for it in records]


def test_the_records_are_those_of_a_plain_tap() -> None:
    """All programs write the same records in the same order, but for `rescued_data`."""
    with Sandbox(limits=NO_LIMITS) as sandbox, config_file(sandbox.config()) as config:
        ours = records_of(contenders.tap_mega(config))
        plain = records_of(contenders.plain_tap(config))
        floor = records_of(contenders.floor(config))
        assert plain == floor
        assert ours == [{**it, "record": as_record(it["record"])} for it in plain]
        assert [it["record"] for it in plain] == sandbox.leads.all()


@pytest.fixture(scope="module")
def costs() -> Costs:
    """The costs of tap-mega and the floor, by number of leads, measured in turns."""
    costs: Costs = {}
    with contextlib.ExitStack() as stack:
        configs: dict[int, Path] = {}
        for leads in (ONE, FEW, MANY):
            sandbox = stack.enter_context(Sandbox(leads=leads, limits=NO_LIMITS))
            config = {**sandbox.config(), **NO_PACING}
            configs[leads] = stack.enter_context(config_file(config))
        order = itertools.product(range(ROUNDS), configs, NAMES)
        for _, leads, name in order:
            cost = measure(contenders.CONTENDERS[name](configs[leads]))
            costs.setdefault((name, leads), []).append(cost)
    return costs


def cpu_seconds(costs: Costs, name: str) -> float:
    """Return the CPU seconds of many leads, without the start-up."""
    many, one = (min(it.cpu for it in costs[name, leads]) for leads in (MANY, ONE))
    return many - one


def test_the_cpu_of_a_lead_is_near_the_floor(costs: Costs) -> None:
    """A lead costs at most four times the CPU that minimal Python code needs."""
    tap, floor = (cpu_seconds(costs, name) for name in NAMES)
    assert tap <= floor * MAX_CPU_RATIO


def test_more_leads_take_no_more_memory(costs: Costs) -> None:
    """Ten times the leads need the same memory."""
    few, many = (
        min(it.memory for it in costs["tap-mega", leads]) for leads in (FEW, MANY)
    )
    assert many - few <= MAX_MEMORY_INCREASE


@pytest.mark.slow
def test_a_customer_takes_little_memory() -> None:
    """A first load of more customers needs at most about 1 MiB for each of them."""
    load = customers.SCENARIOS[-1]
    one, many = (
        min(
            it.cost.memory
            for it in customers.run(load._replace(customers=size), ROUNDS)
        )
        for size in (1, MANY_CUSTOMERS)
    )
    assert many - one <= (MANY_CUSTOMERS - 1) * MAX_MEMORY_PER_CUSTOMER


@pytest.mark.slow
def test_polls_of_customers_are_measured() -> None:
    """A poll of two customers sends two requests, and takes at least one response."""
    polls = customers.Scenario("", 2, leads=3, delay=0.1, polls=True)
    (result,) = customers.run(polls, rounds=1)
    assert result.requests == 2
    assert result.cost.wall > result.seconds >= polls.delay
    row = customers.format_results(polls, 2, [result], [result])
    assert row["÷ one customer"] == "1.0"


def test_a_failed_command_has_no_cost(tmp_path: Path) -> None:
    """The error contains the command's stderr."""
    config = tmp_path / "config.json"
    config.write_text("{}")
    with pytest.raises(RuntimeError, match="'auth_token' is missing"):
        measure(contenders.tap_mega(config))


def test_an_environment_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peers are installed again only when their versions change."""
    commands: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda it, **_: commands.append(it))
    for version in ("1", "1", "2", "2"):
        make_environment(tmp_path, [f"peer=={version}"])
    steps_per_environment = 2
    assert len(commands) == 2 * steps_per_environment


def test_a_new_result_replaces_the_old_one() -> None:
    """Only the text between the marks of the section changes."""
    page = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n"
    once = replace_section(page, "one", report.format_table([{"x": "1", "y": "2"}]))
    assert once.startswith("a\n<!-- one -->\n\n| x")
    assert once.endswith("|\n\n<!-- /one -->\nb\n")
    assert "old" not in once
    assert replace_section(page, "one", "text") == replace_section(once, "one", "text")
    with pytest.raises(ValueError, match="two"):
        replace_section(page, "two", "")


def test_the_page_has_a_section_for_each_benchmark() -> None:
    """docs/benchmarks.md has a section and the command for each benchmark."""
    page = report.PAGE.read_text(encoding="utf-8")
    for section, module in SECTIONS.items():
        assert f"python3 dev.py python -m {module}" in page
        assert replace_section(page, section, "") != page


def test_a_sync_on_a_fake_clock_is_measured() -> None:
    """The result counts the leads, the requests and the 429 responses."""
    assert quota.run_sync(101)[:3] == (101, 2, 0)
