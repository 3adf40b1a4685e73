"""Test many customers in one PostgreSQL table: shared ids, changes, full refreshes."""

from __future__ import annotations

import re
import typing as t

import psycopg
import pytest

from demo.pipeline import ROOT, Pipeline, temporary_schema, with_scheme
from sandbox import Fault, Sandbox
from testing.harness import full_table
from tests.test_full_refresh import Warehouse

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testing.harness import Command, Json, Run

    Key: t.TypeAlias = tuple[str, str]

LEADS = (250, 5, 120)
SCHEMA = "mega_many"
ROWS = """
SELECT customer_id, id, interaction_count, _sdc_deleted_at IS NULL AS live FROM leads
"""


@pytest.fixture
def three() -> Iterator[Sandbox]:
    """Provide an API with three customers."""
    with Sandbox(customers=3, leads=LEADS) as sandbox:
        yield sandbox


@pytest.fixture(params=["hard", "soft"])
def warehouse(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> Iterator[Warehouse]:
    """Provide an empty warehouse whose loader deletes rows or marks them."""
    Pipeline(tmp_path, {}, database_url, SCHEMA).install()
    with temporary_schema(database_url, SCHEMA) as table:
        yield Warehouse(table, tmp_path, database_url, request.param == "hard")


def listed(sandbox: Sandbox) -> dict[Key, int]:
    """Return the interaction count of each lead, which grows with every change."""
    return {
        (customer.customer_id, lead["id"]): lead["interaction_count"]
        for customer in sandbox.customers
        for lead in customer.leads.all()
    }


def live(warehouse: Warehouse) -> dict[Key, int]:
    """Return the rows that are not marked as deleted, in the form of `listed`."""
    return {
        (row["customer_id"], row["id"]): row["interaction_count"]
        for row in warehouse.table.select(ROWS)
        if row["live"]
    }


def refresh(tap: Command, sandbox: Sandbox, state: Json) -> Run:
    """Run a full-table sync with the settings of `tap-mega-full`."""
    config = {**sandbox.config(), "emit_activate_version_messages": True}
    return tap(config=config, catalog=full_table(tap, config=config), state=state)


def alter_key(warehouse: Warehouse) -> None:
    """Run the SQL of docs/customers.md that gives a table the key of many."""
    page = (ROOT / "docs" / "customers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    statement = block.replace("mega.leads", f"{SCHEMA}.leads").encode()
    url = with_scheme("postgresql", warehouse.url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def test_customers_share_a_table(
    warehouse: Warehouse, three: Sandbox, tap: Command
) -> None:
    """Changes reach the right rows, also if two customers share an id.

    A full refresh with a customer that fails changes no row of a deleted lead. One in
    which all succeed deletes or marks these rows for every customer.
    """
    first = tap(config=three.config())
    warehouse.load(first.stdout)
    assert live(warehouse) == listed(three)
    (shared,) = three.customers[0].leads.add(1, interaction_count=1)
    three.customers[1].leads.add(1, id=shared, interaction_count=2)
    for customer in three.customers:
        customer.leads.change(4)
    second = tap(config=three.config(), state=first.state)
    warehouse.load(second.stdout)
    assert live(warehouse) == listed(three)
    assert [key[1] for key in live(warehouse)].count(shared) == 2
    three.customers[0].leads.change(9)
    before = live(warehouse)
    gone = {
        (customer.customer_id, id_)
        for customer in three.customers
        for id_ in customer.leads.delete(3)
    }
    three.script(Fault("error", 2, None, customer=2, status=403))
    failed = refresh(tap, three, second.state)
    assert failed.code == 1
    warehouse.load(failed.stdout)
    assert set(live(warehouse)) == set(before)
    three.script()
    complete = refresh(tap, three, second.state)
    assert complete.code == 0
    warehouse.load(complete.stdout)
    assert live(warehouse) == listed(three)
    kept = {(row["customer_id"], row["id"]) for row in warehouse.table.select(ROWS)}
    assert set(before) - kept == (gone if warehouse.hard_delete else set())


@pytest.mark.parametrize("warehouse", ["soft"], indirect=True)
def test_a_table_of_one_customer_gets_the_key_of_many(
    warehouse: Warehouse, three: Sandbox, tap: Command
) -> None:
    """The SQL of docs/customers.md keeps all rows; without it, a shared id fails."""
    one = {**three.config()["customers"][0], "api_url": three.url}
    first = tap(config=one)
    warehouse.load(first.stdout)
    (shared,) = three.customers[0].leads.add(1)
    three.customers[1].leads.add(1, id=shared)
    many = tap(config=three.config(), state=first.state)
    with warehouse.target() as target:
        target.communicate(many.stdout.encode())
    assert target.returncode != 0
    assert len(live(warehouse)) < len(listed(three))
    alter_key(warehouse)
    warehouse.load(many.stdout)
    assert live(warehouse) == listed(three)
