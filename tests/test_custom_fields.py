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
from sandbox import Fault
from tap_mega.config.schema import FIELD_TYPES
from tap_mega.records import custom_fields
from testing.harness import stream_of
from tests.loaders import LOADERS, Place

if t.TYPE_CHECKING:
    from pathlib import Path

    from sandbox import Sandbox
    from testing.clock import FakeClock
    from testing.harness import Command

    Json: t.TypeAlias = dict[str, t.Any]

DECIMAL = decimal.Decimal
CONVERSIONS: list[tuple[str, t.Any, t.Any]] = [
    ("string", "São Conrado", "São Conrado"),
    ("string", "", ""),
    ("string", 750000, "750000"),
    ("string", DECIMAL("1.250"), "1.250"),
    ("string", True, "true"),
    ("string", [1], None),
    ("string", {"a": 1}, None),
    ("integer", 3, 3),
    ("integer", "3", 3),
    ("integer", " -3 ", -3),
    ("integer", DECIMAL("3.0"), 3),
    ("integer", DECIMAL("3.5"), None),
    ("integer", 2**63 - 1, 2**63 - 1),
    ("integer", 2**63, None),
    ("integer", "1e999999999", None),
    ("integer", "three", None),
    ("integer", True, None),
    ("integer", [], None),
    ("number", 750000, 750000),
    ("number", "500000", 500000),
    ("number", DECIMAL("1.25"), 1.25),
    ("number", "-1.5e3", -1500),
    ("number", "1,2 Mio €", None),
    ("number", "500,000", None),
    ("number", "", None),
    ("number", "NaN", None),
    ("number", "-Infinity", None),
    ("number", "1e400", None),
    ("number", False, None),
    ("boolean", True, True),
    ("boolean", False, False),
    ("boolean", "Yes", True),
    ("boolean", "false", False),
    ("boolean", 0, False),
    ("boolean", 2, None),
    ("boolean", "maybe", None),
    ("date", "2026-01-31", "2026-01-31"),
    ("date", "2026-02-30", None),
    ("date", "31.01.2026", None),
    ("date", "2026-01-31T08:00:00Z", None),
    ("date", 20260131, None),
    ("date-time", "2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00Z"),
    ("date-time", "2026-01-31", "2026-01-31T00:00:00Z"),
    ("date-time", "tomorrow", None),
    ("date-time", 1767225600, None),
    *((kind, None, None) for kind in FIELD_TYPES),
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


def test_columns_are_added_to_schema_and_records(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The columns appear next to `custom_fields`, which does not change."""
    types = {"budget": "number", "pre_approved": "boolean", "unknown": "date"}
    config = {**sandbox.config(), "custom_field_types": types}
    run = tap(config=config, clock=clock)
    assert run.code == 0
    properties = run.schema["schema"]["properties"]
    assert properties["custom_field_budget"] == {"type": ["number", "null"]}
    assert properties["custom_field_pre_approved"] == {"type": ["boolean", "null"]}
    assert properties["custom_field_unknown"] == {
        "type": ["string", "null"],
        "format": "date",
    }
    columns = [f"custom_field_{slug}" for slug in types]
    for record, lead in zip(run.leads, sandbox.leads.all(), strict=True):
        read = {name: record.pop(name) for name in columns}
        assert record == lead
        written = lead["custom_fields"].get("budget")
        budget = None if written == "1,2 Mio €" else written
        assert read["custom_field_budget"] == (budget and float(budget))
        assert read["custom_field_pre_approved"] is lead["custom_fields"].get(
            "pre_approved"
        )
        assert read["custom_field_unknown"] is None


def test_unreadable_values_are_counted(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """One warning per field gives the number of unreadable values, but no value."""
    config = {
        **sandbox.config(),
        "custom_field_types": {"budget": "number", "bedrooms": "integer"},
    }
    run = tap(config=config, clock=clock)
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


def test_excluded_fields_never_leave(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """They are neither in `custom_fields` nor in a column, and no line names them."""
    config = {
        **sandbox.config(),
        "custom_field_types": {"bedrooms": "integer"},
        "exclude_custom_fields": ["budget", "area", "unknown"],
    }
    run = tap(config=config, clock=clock)
    leads = sandbox.leads.all()
    for record, lead in zip(run.leads, leads, strict=True):
        fields = lead["custom_fields"]
        assert record.pop("custom_field_bedrooms") == fields.get("bedrooms")
        kept = {k: v for k, v in fields.items() if k not in {"budget", "area"}}
        assert record == {**lead, "custom_fields": kept}


def test_fields_that_cannot_be_excluded_never_leave(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """If `custom_fields` is no object, all of it is left out."""
    lead = {**sandbox.leads.all()[0], "custom_fields": [{"slug": "budget"}]}
    page = {"leads": [lead], "next_cursor": None, "total": 1}
    sandbox.script(Fault("body", body=json.dumps(page)))
    config = {**sandbox.config(), "exclude_custom_fields": ["budget"]}
    run = tap(config=config, clock=clock)
    (record,) = run.records
    assert record == {**lead, "custom_fields": None, "rescued_data": None}


@pytest.mark.parametrize("given", [{}, {"custom_fields": None}], ids=["absent", "null"])
def test_missing_custom_fields_become_null(
    tap: Command, sandbox: Sandbox, clock: FakeClock, given: Json
) -> None:
    """The columns are null in leads whose `custom_fields` is absent or null."""
    lead = sandbox.leads.all()[0]
    del lead["custom_fields"]
    page = {"leads": [{**lead, **given}], "next_cursor": None, "total": 1}
    sandbox.script(Fault("body", body=json.dumps(page)))
    config = {**sandbox.config(), "custom_field_types": {"budget": "number"}}
    run = tap(config=config, clock=clock)
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
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A catalog that predates the setting omits the columns, and the log says so."""
    catalog = json.loads(tap("--discover").stdout)
    config = {**sandbox.config(), "custom_field_types": {"bedrooms": "integer"}}
    run = tap(config=config, catalog=catalog, clock=clock)
    assert "the schema does not have them: 'custom_field_bedrooms'" in run.log
    assert run.leads == sandbox.leads.all()


@pytest.mark.slow
def test_a_type_can_be_changed_as_the_page_says(
    tap: Command, sandbox: Sandbox, clock: FakeClock, database_url: str, tmp_path: Path
) -> None:
    """A changed type stops the loader; without the old column, all rows are filled."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    drop = page.split("```sql\n")[-1].split("```")[0].replace("mega.leads", "leads")
    (loader,) = (it for it in LOADERS if it.name == "target-postgres")
    loader.install()
    with temporary_schema(database_url, "mega_types") as table:
        place = Place(tmp_path, database_url, table)
        number, text = (
            tap(
                config={**sandbox.config(), "custom_field_types": {"budget": kind}},
                clock=clock,
            )
            for kind in ("number", "string")
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


def test_without_the_setting_no_column_is_filled(
    tap: Command, sandbox: Sandbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `custom_field_types`, the tap does not process custom fields."""
    monkeypatch.delattr(custom_fields, "read_as")
    assert tap(config=sandbox.config(), clock=clock).code == 0
