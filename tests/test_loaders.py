"""Test that real loaders, fed by the tap, produce rows that equal the source.

By default only the loaders of `meltano.yml` run; `-m loaders` runs the others.
"""

from __future__ import annotations

import sys
import typing as t

import pytest

from demo.pipeline import temporary_schema
from tests.loaders import LOADERS, Loader, Place

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox import Sandbox
    from testing.clock import FakeClock
    from testing.harness import Command, Json

    Config: t.TypeAlias = dict[str, t.Any]

SCHEMA = "mega_test_loaders"
BATCH = 50
CHANGED = 37
HOUR = 3600
DAY = 24 * HOUR
TEXTS = (
    "two\nlines",
    "two\r\nlines",
    "two\rlines",
    "\ta\x01\x1b\x7f\x85\u2028z",
    "\"quoted\" 'too'",
    "a,b;c|d",
    "back\\slash \\n \\N \\",
    "👩‍👩‍👧 🇦🇷 e\u0301",
    "  space  ",
    "",
    "NULL",
    "null",
    '"',
)
VALUES = (
    2**53 + 1,
    12345678901234567890,
    0.1 + 0.2,
    -1.5e-7,
    1.0,
    'x\ny\t"z"\\ \'\x01',
    "",
    None,
    False,
)
ZONED, IN_UTC = "2026-07-01T10:00:00.123456+02:00", "2026-07-01T08:00:00.123456Z"

FIELDS: tuple[Json, ...] = (
    {"custom_fields": {}},
    {"custom_fields": {'a\n"b" \\,': 1}},
    {"current_stage": {}, "owner": {}},
    {"current_stage": None, "owner": None},
    {"score": 2**63 - 1, "interaction_count": 0, "qualified": False},
    {"score": None, "qualified": None, "contact_email": None, "contact_phone": None},
    {"last_interaction_at": ZONED},
    {"last_interaction_at": "2026-07-01T10:00:00Z"},
    {"created_at": "1969-12-31T23:59:59.999Z"},
)


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Place]:
    """Provide an empty place to load into."""
    with temporary_schema(database_url, SCHEMA) as table:
        yield Place(tmp_path, database_url, table)


@pytest.fixture(
    params=[
        pytest.param(it, id=it.name, marks=() if it.in_meltano else pytest.mark.loaders)
        for it in LOADERS
    ]
)
def loader(request: pytest.FixtureRequest) -> Loader:
    """Provide an installed loader."""
    loader: Loader = request.param
    if sys.version_info[:2] > loader.newest_python:
        newest = ".".join(map(str, loader.newest_python))
        pytest.skip(f"{loader.name} has no wheels for Pythons above {newest}")
    loader.install()
    return loader


def add_difficult_leads(sandbox: Sandbox) -> None:
    """Add leads with values that loaders are likely to damage."""
    for text in TEXTS:
        sandbox.leads.add(1, contact_name=text)
    for value in VALUES:
        sandbox.leads.add(1, custom_fields={"value": value})
    for fields in FIELDS:
        sandbox.leads.add(1, **fields)


def test_the_rows_equal_the_source(
    loader: Loader, place: Place, tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Each lead has a row in its newest version, after several batches and two runs.

    The second run starts from the state that the loader wrote. A loader that only
    appends rows has a row for each time that a lead was read.
    """
    add_difficult_leads(sandbox)
    config: Config = sandbox.config()
    first = tap(config=config, clock=clock)
    state = loader.load(first.stdout, place, batch_size_rows=BATCH)
    clock.now += HOUR
    sandbox.leads.change(CHANGED)
    sandbox.leads.add(1, **FIELDS[0])
    second = tap(config=config, clock=clock, state=state)
    assert CHANGED < len(second.records) < len(first.records)
    loader.load(second.stdout, place, batch_size_rows=BATCH)

    rows, leads = loader.read(place), sandbox.leads.all()
    assert len(rows) == (
        len(first.records + second.records) if loader.appends else len(leads)
    )
    landed = {row["id"]: row for row in rows}
    assert set(landed) == {lead["id"] for lead in leads}
    for lead in leads:
        if lead["last_interaction_at"] == ZONED:
            lead["last_interaction_at"] = IN_UTC
        expected = loader.stored(lead)
        row = landed[expected["id"]]
        assert {name: row[name] for name in expected} == expected


def test_some_loaders_remove_deleted_leads(
    loader: Loader, place: Place, tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A loader acts on ACTIVATE_VERSION as the table of docs/loaders.md says."""
    config: Config = {**sandbox.config(), "emit_activate_version_messages": True}
    first = tap(config=config, clock=clock)
    state = loader.load(first.stdout, place)
    gone = set(sandbox.leads.delete(CHANGED))
    clock.now += DAY
    messages = tap(config=config, clock=clock, state=state).stdout
    assert "ACTIVATE_VERSION" in messages
    loader.load(messages, place, hard_delete=True)
    ids = {row["id"] for row in loader.read(place)}
    assert ids == {lead["id"] for lead in sandbox.leads.all()} | (
        set() if loader.removes else gone
    )
