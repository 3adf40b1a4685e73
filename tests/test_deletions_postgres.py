"""Test that target-postgres removes the rows of deleted leads, and no other row.

`Warehouse.load` reads the table all the time, and fails if a live lead is missing.
"""

from __future__ import annotations

import typing as t

import pytest

from sandbox import Fault, Sandbox
from testing.harness import cut
from tests.warehouse import DAY, Job, warehouse_of

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testing.clock import FakeClock
    from testing.harness import Command, Run

CRASH = 0.5
"""At this share, the loader crashes. At others, the tap is killed."""


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Sandbox]:
    """Provide an API with one customer, or with customers that have so many leads."""
    leads = getattr(request, "param", (600,))
    with Sandbox(customers=len(leads), leads=leads, clock=clock.time) as api:
        yield api


@pytest.fixture(params=["hard"])
def new_job(
    request: pytest.FixtureRequest,
    database_url: str,
    tmp_path: Path,
    sandbox: Sandbox,
    tap: Command,
    clock: FakeClock,
) -> Iterator[Job]:
    """Provide a new job, whose loader deletes rows or only marks them."""
    is_hard = request.param == "hard"
    with warehouse_of(sandbox, tmp_path, database_url, hard_delete=is_hard) as table:
        yield Job(tap, clock, table)


@pytest.fixture
def job(new_job: Job) -> Job:
    """Provide the job after its first run."""
    new_job.run()
    assert new_job.warehouse.live() == new_job.warehouse.listed()
    return new_job


hard_and_soft = pytest.mark.parametrize("new_job", ["hard", "soft"], indirect=True)
three = pytest.mark.parametrize("sandbox", [(250, 20, 120)], indirect=True)


def is_activated(run: Run) -> bool:
    """Return whether a run lets the loader remove rows."""
    return "ACTIVATE_VERSION" in run.stdout


@hard_and_soft
def test_deleted_leads_go_with_the_next_run_and_may_return(
    job: Job, sandbox: Sandbox
) -> None:
    """The next run removes or marks the rows. A lead that returns has its row again."""
    table = job.warehouse
    before = table.stored()
    gone = [*sandbox.leads.delete(20), *sandbox.leads.merge(10)]
    keys = {(sandbox.customer_id, it) for it in gone}
    job.clock.sleep(DAY)
    run = job.run()
    assert "Read all 570 leads" in run.log
    assert table.live() == table.listed()
    assert table.stored() == (before - keys if table.hard_delete else before)
    sandbox.leads.add(1, id=gone[0])
    assert not is_activated(job.run())
    assert table.live() == table.listed()


@hard_and_soft
def test_an_interrupted_refresh_ends_with_the_rows_of_the_source(
    job: Job, sandbox: Sandbox
) -> None:
    """Kills of the tap and a crash of the loader, with changes of all kinds, end well.

    The loader that crashes has stored rows, but its state is lost.
    """
    table = job.warehouse
    gone = set(sandbox.leads.delete(30))
    job.clock.sleep(DAY)
    for share in (0.3, CRASH, 0.7):
        saved, run = job.state, job.extract()
        assert is_activated(run)
        job.load(cut(run, share).stdout)
        assert {key for _, key in table.live()} >= gone
        if share == CRASH:
            job.state = saved
        sandbox.leads.change(60)
        sandbox.leads.add(4)
        sandbox.leads.delete(5)
        sandbox.leads.merge(5)
    assert is_activated(job.run())
    # It has read some leads that were deleted later: the check notices them.
    assert is_activated(job.run(full_refresh_min_age_days=0))
    assert table.live() == table.listed()


def test_a_kill_between_activation_and_state(job: Job, sandbox: Sandbox) -> None:
    """The next run activates the version once more, and keeps what is new."""
    table = job.warehouse
    sandbox.leads.delete(20)
    job.clock.sleep(DAY)
    run = job.extract()
    kinds = [it["type"] for it in run.messages]
    job.load("\n".join(run.lines[: kinds.index("ACTIVATE_VERSION") + 1]))
    assert table.live() == table.listed()
    sandbox.leads.change(50)
    sandbox.leads.add(5)
    sandbox.leads.delete(5)
    again = job.run()
    assert is_activated(again)
    assert len(again.records) < 200
    assert is_activated(job.run(full_refresh_min_age_days=0))
    assert table.live() == table.listed()


@three
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("error", 1, None, customer=2, status=403), id="at once"),
        pytest.param(Fault("error", 7, None, customer=2, status=403), id="later"),
    ],
)
def test_a_customer_that_fails_keeps_the_rows_of_all(
    job: Job, sandbox: Sandbox, fault: Fault
) -> None:
    """The others get fresh data. When it works again, the rows of all are removed."""
    table, (first, second, third) = job.warehouse, sandbox.customers
    (shared,) = first.leads.add(1)
    second.leads.add(1, id=shared)
    job.run()
    before = table.live()
    for customer in sandbox.customers:
        customer.leads.delete(it["id"] for it in customer.leads.all()[:3])
    first.leads.delete(shared)
    first.leads.change(9)
    job.clock.sleep(DAY)
    sandbox.script(fault)
    failed = job.run(code=1)
    assert third.customer_id in failed.errors[0]
    assert table.live().keys() == before.keys()
    sandbox.script()
    assert is_activated(job.run())
    assert table.live() == table.listed()
    assert (second.customer_id, shared) in table.live()


@three
def test_a_customer_taken_off_the_list_stops_removals(
    job: Job, sandbox: Sandbox
) -> None:
    """A warning says so, and the others get fresh data. Back on the list, rows go."""
    table, customers = job.warehouse, sandbox.config()["customers"]
    before = table.live()
    for customer in sandbox.customers:
        customer.leads.delete(1)
    sandbox.customers[0].leads.change(9)
    job.clock.sleep(DAY)
    run = job.run(customers=customers[:2])
    assert "the settings leave out 1 customer of the state" in run.log
    assert not is_activated(run)
    assert table.live().keys() == before.keys()
    assert table.live() != before
    assert is_activated(job.run())
    assert table.live() == table.listed()


def test_a_lost_state_removes_no_live_row(job: Job, sandbox: Sandbox) -> None:
    """Leads that were deleted while it was lost go with the next full refresh."""
    table = job.warehouse
    gone = set(sandbox.leads.delete(5))
    job.state = None
    assert not is_activated(job.run())
    assert {key for _, key in table.live()} >= gone
    job.clock.sleep(7 * DAY)
    assert is_activated(job.run())
    assert table.live() == table.listed()


@hard_and_soft
def test_the_setting_is_switched_on_later(new_job: Job, sandbox: Sandbox) -> None:
    """The first run with it refreshes rows that have no version, and removes others."""
    table = new_job.warehouse
    new_job.run(emit_activate_version_messages=False)
    sandbox.leads.delete(20)
    sandbox.leads.change(30)
    assert not is_activated(new_job.run(emit_activate_version_messages=False))
    assert is_activated(new_job.run())
    assert table.live() == table.listed()
