"""Test many customers in one PostgreSQL table: shared ids, and the key of the table."""

from __future__ import annotations

import re
import typing as t

import psycopg
import pytest

from demo.pipeline import ROOT, with_scheme
from sandbox import Sandbox
from tests.warehouse import SCHEMA, Job, Warehouse, warehouse_of

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testing.clock import FakeClock
    from testing.harness import Command

LEADS = (250, 5, 120)


@pytest.fixture
def three(clock: FakeClock) -> Iterator[Sandbox]:
    """Provide an API with three customers."""
    with Sandbox(customers=3, leads=LEADS, clock=clock.time) as sandbox:
        yield sandbox


@pytest.fixture
def job(
    database_url: str, tmp_path: Path, three: Sandbox, tap: Command, clock: FakeClock
) -> Iterator[Job]:
    """Provide a job with an empty table."""
    with warehouse_of(three, tmp_path, database_url, hard_delete=False) as warehouse:
        yield Job(tap, clock, warehouse)


def alter_key(warehouse: Warehouse) -> None:
    """Run the SQL of docs/customers.md that gives a table the key of many."""
    page = (ROOT / "docs" / "customers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    statement = block.replace("mega.leads", f"{SCHEMA}.leads").encode()
    url = with_scheme("postgresql", warehouse.url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def test_customers_share_a_table(job: Job, three: Sandbox) -> None:
    """Changes reach the right rows, also if two customers share an id."""
    job.run()
    assert job.warehouse.live() == job.warehouse.listed()
    (shared,) = three.customers[0].leads.add(1, interaction_count=1)
    three.customers[1].leads.add(1, id=shared, interaction_count=2)
    for customer in three.customers:
        customer.leads.change(4)
    job.run()
    assert job.warehouse.live() == job.warehouse.listed()
    assert [id_ for _, id_ in job.warehouse.live()].count(shared) == 2


def test_a_table_of_one_customer_gets_the_key_of_many(job: Job, three: Sandbox) -> None:
    """The SQL of docs/customers.md keeps all rows; without it, a shared id fails."""
    config = three.config()
    one = {**config["customers"][0], "api_url": three.url}
    job.load(job.tap(config=one, clock=job.clock).stdout)
    (shared,) = three.customers[0].leads.add(1)
    three.customers[1].leads.add(1, id=shared)
    many = job.extract()
    with job.warehouse.start(many.stdout) as target:
        assert target.wait() != 0
    assert len(job.warehouse.live()) < len(job.warehouse.listed())
    alter_key(job.warehouse)
    job.load(many.stdout)
    assert job.warehouse.live() == job.warehouse.listed()
