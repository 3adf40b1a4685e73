"""Test the typed columns of custom fields, whatever the fields contain."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
import typing as t

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from singer_sdk.singerlib.json import serialize_json

from demo.pipeline import ROOT, temporary_schema, with_scheme
from tap_mega.config.schema import FIELD_TYPES
from tap_mega.records import custom_fields
from testing.harness import serve, stream_of
from tests.loaders import LOADERS, Place

if t.TYPE_CHECKING:
    from pathlib import Path

    from sandbox import Sandbox
    from testing.clock import FakeClock
    from testing.harness import Command, Sync

    Json: t.TypeAlias = dict[str, t.Any]

DECIMAL = decimal.Decimal
READ: dict[str, list[tuple[t.Any, t.Any]]] = {
    "string": [
        *((it, it) for it in ("São Conrado", "")),
        *((750000, "750000"), (DECIMAL("1.250"), "1.250"), (True, "true")),
    ],
    "integer": [
        *((it, 3) for it in (3, "3", DECIMAL("3.0"))),
        *((" -3 ", -3), (2**63 - 1, 2**63 - 1)),
    ],
    "number": [
        *((750000, 750000), ("500000", 500000)),
        *((DECIMAL("1.25"), 1.25), ("-1.5e3", -1500)),
    ],
    "boolean": [
        *((it, True) for it in (True, "Yes")),
        *((it, False) for it in (False, "false", 0)),
    ],
    "date": [("2026-01-31", "2026-01-31")],
    "date-time": [
        ("2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00Z"),
        ("2026-01-31", "2026-01-31T00:00:00Z"),
    ],
}
UNREADABLE: dict[str, tuple[t.Any, ...]] = {
    "string": ([1], {"a": 1}),
    "integer": (DECIMAL("3.5"), 2**63, "1e999999999", "three", True, []),
    "number": ("1,2 Mio €", "500,000", "", "NaN", "-Infinity", "1e400", False),
    "boolean": (2, "maybe"),
    "date": ("2026-02-30", "31.01.2026", "2026-01-31T08:00:00Z", 20260131),
    "date-time": ("tomorrow", 1767225600),
}
CONVERSIONS: list[tuple[str, t.Any, t.Any]] = [
    *((kind, *pair) for kind, pairs in READ.items() for pair in pairs),
    *((kind, it, None) for kind in FIELD_TYPES for it in (None, *UNREADABLE[kind])),
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(),
    st.text(),
    st.floats().map(str),
    st.datetimes().map(dt.datetime.isoformat),
    st.dates().map(dt.date.isoformat),
    st.lists(st.integers(), max_size=2),
)


@pytest.mark.parametrize(("kind", "value", "expected"), CONVERSIONS, ids=repr)
def test_a_value_is_converted_to_its_type(
    kind: str, value: object, expected: object
) -> None:
    """A value that converts to the type without loss is kept; any other is null."""
    read = custom_fields.read_as(kind, value)
    assert read == expected
    assert isinstance(read, bool) == isinstance(expected, bool)


@given(kind=st.sampled_from(FIELD_TYPES), value=scalars)
def test_a_column_contains_only_its_type(kind: str, value: object) -> None:
    """Every value in a column fits the schema and a database."""
    schema: Json = {"properties": {}}
    fields = custom_fields.CustomFields({"x": kind}, ())
    custom_fields.add_columns(schema, {"x": kind})
    lead: Json = {"custom_fields": {"x": value}}
    lead |= fields.read(lead)
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    written = serialize_json({"custom_field_x": lead["custom_field_x"]})
    assert validator.is_valid(json.loads(written))
    unreadable = value is not None and lead["custom_field_x"] is None
    assert bool(list(fields.warnings())) == unreadable
    assert lead["custom_fields"] == {"x": value} or value != value  # noqa: PLR0124


@given(value=st.integers(-(2**63), 2**63 - 1) | st.floats(-1e300, 1e300))
def test_a_number_keeps_its_value(value: float) -> None:
    """A number has the same value whether the API sends a number or a text."""
    kind = "integer" if isinstance(value, int) else "number"
    for written in (value, repr(value), DECIMAL(repr(value))):
        read = custom_fields.read_as(kind, written)
        assert type(value)(read) == value  # type: ignore[arg-type]


def test_columns_are_added_to_schema_and_records(sync: Sync, sandbox: Sandbox) -> None:
    """The columns appear next to `custom_fields`, which does not change."""
    types = {"budget": "number", "pre_approved": "boolean", "unknown": "date"}
    run = sync(custom_field_types=types)
    assert run.code == 0
    properties = run.schema["schema"]["properties"]
    assert [properties[f"custom_field_{slug}"] for slug in types] == [
        *({"type": [it, "null"]} for it in ("number", "boolean")),
        {"type": ["string", "null"], "format": "date"},
    ]
    for record, lead in zip(run.leads, sandbox.leads.all(), strict=True):
        fields = lead["custom_fields"]
        written = fields.get("budget")
        budget = None if written == "1,2 Mio €" else written
        assert record == {
            **lead,
            "custom_field_budget": budget and float(budget),
            "custom_field_pre_approved": fields.get("pre_approved"),
            "custom_field_unknown": None,
        }


def test_unreadable_values_are_counted(sync: Sync, sandbox: Sandbox) -> None:
    """One warning per field gives the number of unreadable values, but no value."""
    run = sync(custom_field_types={"budget": "number", "bedrooms": "integer"})
    budgets = [lead["custom_fields"].get("budget") for lead in sandbox.leads.all()]
    count = budgets.count("1,2 Mio €")
    assert count > 1
    assert run.log.count("The custom field") == 1
    assert f"'budget' is not a valid 'number' in {count} leads" in run.log
    assert "Mio" not in run.log


LONG = "how_many_bedrooms_do_you_need_in_your_next_new_home"
NAMES = [
    ("budget", "custom_field_budget"),
    ("2_budgets", "custom_field_2_budgets"),
    (LONG[:50], f"custom_field_{LONG[:50]}"),
    (LONG, f"custom_field_{LONG[:43]}_9a4fab"),
    ("Budget", "custom_field_budget_1c6225"),
    ("budget!", "custom_field_budget__cdcbfc"),
    ('"; DROP TABLE x', "custom_field__drop_table_x_36a8f2"),
    ("Größe", "custom_field_gr_e_aedc3f"),
    ("\ud83d", "custom_field___7586f7"),
]


@pytest.mark.parametrize(("slug", "name"), NAMES, ids=ascii)
def test_the_name_of_a_column_is_stable(slug: str, name: str) -> None:
    """It is the slug if each database takes that; otherwise a hash makes it unique."""
    assert custom_fields.column(slug) == name


slugs = st.text(st.characters(exclude_categories=())) | st.text("aB_", max_size=60)


@given(found=st.sets(slugs, max_size=5))
def test_each_slug_has_a_column_that_databases_take(found: set[str]) -> None:
    """No two slugs share a column, and each name is short and plain."""
    columns = {custom_fields.column(slug) for slug in found}
    assert len(columns) == len(found)
    assert all(re.fullmatch(r"custom_field_[a-z0-9_]{0,50}", it) for it in columns)


def test_excluded_fields_never_leave(sync: Sync, sandbox: Sandbox) -> None:
    """They are neither in `custom_fields` nor in a column, and no line names them."""
    run = sync(
        custom_field_types={"bedrooms": "integer"},
        exclude_custom_fields=["budget", "area", "unknown"],
    )
    leads = sandbox.leads.all()
    for record, lead in zip(run.leads, leads, strict=True):
        fields = lead["custom_fields"]
        assert record.pop("custom_field_bedrooms") == fields.get("bedrooms")
        kept = {k: v for k, v in fields.items() if k not in {"budget", "area"}}
        assert record == {**lead, "custom_fields": kept}


def test_fields_that_cannot_be_excluded_never_leave(
    sync: Sync, sandbox: Sandbox
) -> None:
    """If `custom_fields` is no object, all of it is left out."""
    lead = {**sandbox.leads.all()[0], "custom_fields": [{"slug": "budget"}]}
    serve(sandbox, lead)
    run = sync(exclude_custom_fields=["budget"])
    assert run.records == [{**lead, "custom_fields": None, "rescued_data": None}]


@pytest.mark.parametrize("given", [{}, {"custom_fields": None}], ids=["absent", "null"])
def test_missing_custom_fields_become_null(
    sync: Sync, sandbox: Sandbox, given: Json
) -> None:
    """The columns are null in leads whose `custom_fields` is absent or null."""
    lead = sandbox.leads.all()[0]
    del lead["custom_fields"]
    serve(sandbox, {**lead, **given})
    run = sync(custom_field_types={"budget": "number"})
    assert run.leads == [{**lead, **given, "custom_field_budget": None}]
    assert "The custom field" not in run.log


def test_columns_are_filled_without_custom_fields(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The columns are filled even if `custom_fields` is deselected."""
    config = {**sandbox.config(), "custom_field_types": {"bedrooms": "integer"}}
    catalog = json.loads(tap("--discover", config=config).stdout)
    for entry in stream_of(catalog)["metadata"]:
        selected = entry["breadcrumb"] != ["properties", "custom_fields"]
        entry["metadata"]["selected"] = selected
    run = tap(config=config, catalog=catalog, clock=clock)
    assert "custom_fields" not in run.schema["schema"]["properties"]
    assert not any("custom_fields" in record for record in run.records)
    expected = [lead["custom_fields"].get("bedrooms") for lead in sandbox.leads.all()]
    assert [it["custom_field_bedrooms"] for it in run.records] == expected


def test_a_catalog_without_the_columns_logs_a_warning(
    sync: Sync, tap: Command, sandbox: Sandbox
) -> None:
    """A catalog that predates the setting omits the columns, and the log says so."""
    catalog = json.loads(tap("--discover").stdout)
    run = sync(catalog=catalog, custom_field_types={"bedrooms": "integer"})
    assert "the schema does not have them: 'custom_field_bedrooms'" in run.log
    assert run.leads == sandbox.leads.all()


@pytest.mark.slow
def test_a_type_can_be_changed_as_the_page_says(
    sync: Sync, database_url: str, tmp_path: Path
) -> None:
    """A changed type stops the loader; without the old column, all rows are filled."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    (drop,) = re.findall(r"`(ALTER TABLE mega.leads DROP COLUMN) …`", page)
    drop = f"{drop.replace('mega.leads', 'leads')} custom_field_budget"
    (loader,) = (it for it in LOADERS if it.name == "target-postgres")
    loader.install()
    with temporary_schema(database_url, "mega_types") as table:
        place = Place(tmp_path, database_url, table)
        number, text = (
            sync(custom_field_types={"budget": kind}) for kind in ("number", "string")
        )
        loader.load(number.stdout, place)
        with pytest.raises(AssertionError, match="Altering columns is not supported"):
            loader.load(text.stdout, place)
        with psycopg.connect(with_scheme("postgresql", database_url)) as connection:
            connection.execute("SET search_path TO mega_types")
            connection.execute(drop.encode())
        loader.load(text.stdout, place)
        rows = {row["id"]: row["custom_field_budget"] for row in loader.read(place)}
    assert rows == {it["id"]: it["custom_field_budget"] for it in text.records}
    assert any(rows.values())
