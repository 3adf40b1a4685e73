"""Tests of the benchmarks, and of results that do not depend on the machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import typing as t
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import contenders, customers, latency, limiters, quota, report
from benchmarks.runs import MIB, NO_PACING, Cost, config_file, measure
from demo.pipeline import Pipeline
from sandbox import NO_LIMITS, Sandbox
from testing.environments import make_environment
from testing.harness import as_record
from testing.least_times import least_moments_sliding
from testing.sections import replace_section

if t.TYPE_CHECKING:
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
    "latency": "benchmarks.latency",
    "limiters": "benchmarks.limiters",
    "memory": "benchmarks.memory",
    "postgres": "benchmarks.postgres",
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
    """All programs write the same RECORDs in the same order, but for `rescued_data`."""
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
    one, many = (customers.measure_memory(size, 300) for size in (1, MANY_CUSTOMERS))
    assert many - one <= (MANY_CUSTOMERS - 1) * MAX_MEMORY_PER_CUSTOMER


@pytest.mark.slow
def test_polls_of_many_customers_are_measured() -> None:
    """One run for all and a run for each send the same number of requests."""
    poll = customers.measure_polls(2, rounds=1, apart=True)
    assert (len(poll.together), len(poll.apart)) == (1, 2)
    row = customers.format_polls(2, {2: poll}, {2: 0})
    assert row["requests"] == "2"


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


@pytest.mark.slow
def test_a_load_of_customers_is_measured() -> None:
    """Two customers take the time of one. With slow responses, they take longer."""
    one, two = customers.run_load(1), customers.run_load(2)
    assert two.statuses == [200] * 2 * customers.LOADED_PAGES
    assert two.seconds <= 1.05 * one.seconds
    assert customers.run_load(1, latency=2).seconds >= 2 * customers.LOADED_PAGES


@pytest.mark.parametrize("window", limiters.WINDOWS)
def test_pacing_is_never_refused(window: limiters.Window) -> None:
    """The tap's limiter gets no 429, and takes at most a hundredth over the least."""
    result = limiters.pace(limiters.OurPacer(), window, limiters.REQUESTS)
    assert result.refused == 0
    assert result.seconds <= 1.01 * limiters.least_seconds(window, limiters.REQUESTS)


def test_a_refused_request_is_sent_again() -> None:
    """Without pacing, each full window costs a 429 and its `Retry-After`."""
    result = limiters.pace(limiters.Pacer(), "sliding", 61)
    assert result.refused == 1
    assert 60 <= result.seconds <= 62


def test_a_library_paces_on_a_virtual_clock() -> None:
    """The 61st request has to wait for a minute, and nobody waits for it."""
    pytest.importorskip("pyrate_limiter")
    with limiters.library("pyrate-limiter", Path(sys.executable)) as pacer:
        sent = [pacer.send_at(limiters.START) for _ in range(61)]
    assert sent[:60] == [limiters.START] * 60
    assert sent[60] == pytest.approx(limiters.START + 60, abs=0.2)


def test_stored_pages_are_measured(database_url: str, tmp_path: Path) -> None:
    """Each page has the time until its rows were visible and its state was stored."""
    Pipeline(tmp_path, {}, database_url, "").install()
    rows, states = latency.measure(database_url, 300, speed=20, batch=150, wait=0)
    assert len(rows) == len(states) == 3
    assert min(rows + states) > 0


def test_the_plot_shows_the_least_time_and_the_syncs() -> None:
    """Each sync is a dot on the line, and the same numbers give the same bytes."""
    syncs = [quota.Sync(6000, 60, 0, 0.0), quota.Sync(12_000, 120, 0, 60.0)]
    least = least_moments_sliding(120)
    svg = quota.plot(syncs, least)
    assert svg == quota.plot(syncs, least)
    drawing = ET.fromstring(svg)  # noqa: S314 - it is our own
    (line,) = drawing.findall(".//{*}g[@class='series lines']/{*}path")
    dots = drawing.findall(".//{*}g[@class='series dots']/{*}circle")
    assert len(dots) == len(syncs)
    for dot in dots:
        assert f"{dot.get('cx')} {dot.get('cy')}" in line.get("d", "")
