"""Test that a change of the API stops nothing, and that nothing of it is lost."""

from __future__ import annotations

import copy
import json
import typing as t

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from singer_sdk.singerlib.json import serialize_json

from demo.pipeline import ROOT, temporary_schema
from sandbox import Sandbox
from tap_mega.api.page import Parser
from tap_mega.openapi import DOCUMENT
from tap_mega.records import conform
from tap_mega.records.rows import MAX_NAMES, Rows, row_schema
from tap_mega.shared.timestamps import parse_timestamp, to_utc
from testing.clock import FakeClock
from testing.harness import Sync, serve, stream_of
from tests.loaders import LOADERS, Place
from tests.test_equality import KEY, leads, text, values

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from testing.harness import Command, Run

    Json: t.TypeAlias = dict[str, t.Any]
    Runs: t.TypeAlias = Callable[..., Run]

LEAD: Json = {
    "id": "00000000-0000-4000-8000-000000000001",
    "customer_id": Sandbox.customer_id,
    "contact_name": "Zoë",
    "contact_phone": None,
    "contact_email": None,
    "source_platform": "google_ads",
    "source_type": "form",
    "status": "won",
    "score": 3,
    "qualified": True,
    "current_stage": {"id": "1", "slug": "new", "name": "New", "color": None},
    "owner": None,
    "last_interaction_at": None,
    "interaction_count": 0,
    "created_at": "2026-07-01T18:20:00.000Z",
    "updated_at": "2026-07-01T18:20:00.000Z",
    "custom_fields": {"budget": 1},
}
HUGE = 10**30

Drift: t.TypeAlias = tuple[str, t.Any, t.Any, t.Any]
RESCUED: dict[str, list[t.Any]] = {
    "score": ["high", 1.5, True, []],
    "interaction_count": [{"value": 3}],
    "qualified": ["yes", 1],
    "contact_phone": [14155550100],
    "contact_email": [{"work": "a"}],
    "status": [["won"]],
    "owner": ["Ana", [{"id": "1"}]],
    "created_at": [
        *("tomorrow", "", 1767225600, "2026-02-30T10:00:00Z"),
        "0001-01-01T00:00:00+10:00",
    ],
    "custom_fields": ["budget=1", [1]],
}
"""What the API sends as a property whose column is then null."""
ADDED: dict[str, list[t.Any]] = {
    "new_thing": [1, None, {"a": [1.5, {"b": None}]}],
    "rescued_data": [{"a": 1}, None],
    "": ["nameless"],
    "Zoë's 'name'; \"x\"": [1],
}
"""What the API sends as a property that has no column."""
DRIFTS: list[Drift] = [
    # A property, what the API sends, what is in the column, and what is rescued.
    *((name, it, None, it) for name, found in RESCUED.items() for it in found),
    *((name, it, ..., it) for name, found in ADDED.items() for it in found),
    *(("customer_id", it, Sandbox.customer_id, it) for it in (5, False)),
    *(("score", it, None, str(it)) for it in (2**63, -HUGE)),
    ("new_thing", HUGE, ..., str(HUGE)),
    ("new_thing", [{"a": HUGE}], ..., [{"a": str(HUGE)}]),
    ("owner", {"id": "1", "new": 2}, {"id": "1"}, {"new": 2}),
    ("owner", {"id": 7}, {"id": None}, {"id": 7}),
    ("current_stage", {"name": {"en": "New"}}, {"name": None}, {"name": {"en": "New"}}),
]
FITTING: list[tuple[str, t.Any, t.Any]] = [
    # A property, what the API sends, and what is in the column.
    ("score", 3.0, 3),
    ("score", -(2**63), -(2**63)),
    ("score", None, None),
    ("qualified", False, False),
    ("status", None, None),
    ("status", "a new one", "a new one"),
    ("owner", {}, {}),
    ("custom_fields", {"a": [1, {"b": HUGE}]}, {"a": [1, {"b": HUGE}]}),
    *(
        (name, sent, column)
        for name in ("created_at", "updated_at")
        for sent, column in (
            ("2026-07-01T10:00:00Z", "2026-07-01T10:00:00Z"),
            ("2026-07-01T10:00:00.1234567Z", "2026-07-01T10:00:00.1234567Z"),
            ("2026-07-01T10:00:00.000+02:00", "2026-07-01T08:00:00.000Z"),
            ("2026-06-30T22:00:00-05:00", "2026-07-01T03:00:00Z"),
            ("2026-07-01 10:00:00.123456+02:00", "2026-07-01T08:00:00.123456Z"),
            ("2026-07-01 10:00:00Z", "2026-07-01T10:00:00Z"),
            ("2026-07-01T10:00:00", "2026-07-01T10:00:00Z"),
            ("2026-07-01t08:00:02.000z", "2026-07-01T08:00:02.000Z"),
            ("2026-07-01T10:00:00+16:00", "2026-06-30T18:00:00Z"),
            ("2026-07-01T10:00:00-1530", "2026-07-02T01:30:00Z"),
            ("2026-07-01", "2026-07-01T00:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
            ("2017-01-01t00:59:60.5+01:00", "2016-12-31T23:59:59.999999Z"),
        )
    ),
]


def expected(change: Drift) -> Json:
    """Return the record of a lead with a drift."""
    name, _, column, rescued = change
    kept = {} if column is ... else {name: column}
    return {**LEAD, **kept, "rescued_data": {name: rescued}}


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    """Provide an API that returns scripted bodies."""
    with Sandbox(leads=0, clock=FakeClock().time) as sandbox:
        yield sandbox


@pytest.fixture
def run(api: Sandbox, tap: Command) -> Runs:
    """Provide a function that runs the tap on some leads."""

    def run_on(*sent: Json, catalog: Json | None = None, **config: t.Any) -> Run:
        serve(api, *sent)
        return Sync(tap, api, FakeClock())(catalog=catalog, **config)

    return run_on


@pytest.mark.parametrize("change", DRIFTS, ids=lambda it: f"{it[0]}={it[1]!r:.30}")
def test_what_the_document_does_not_describe_is_rescued(
    run: Runs, change: Drift
) -> None:
    """It is in `rescued_data`, in its place, and the column is null or usable."""
    done = run({**LEAD, change[0]: change[1]})
    assert done.code == 0
    assert done.records == [expected(change)]
    Draft7Validator(done.schema["schema"]).validate(done.records[0])


@pytest.mark.parametrize(("name", "value", "column"), FITTING, ids=repr)
def test_what_the_document_describes_is_not_rescued(
    run: Runs, name: str, value: object, column: object
) -> None:
    """A value of the documented type stays where it is; a notation may change.

    A timestamp is the same instant in UTC, with the digits of its fraction.
    """
    done = run({**LEAD, name: value})
    assert done.records == [{**LEAD, name: column, "rescued_data": None}]
    assert type(done.records[0][name]) is type(column)
    assert "WARNING" not in done.log


def test_one_warning_counts_what_was_rescued(run: Runs) -> None:
    """One line at the end counts the leads by name, and says what to do. No value."""
    odd = {**LEAD, "new": "secret", "score": "secret", "owner": {"x": "secret"}}
    done = run(odd, {**LEAD, "score": "secret"}, {**LEAD, "a@example.com": 1})
    (line,) = [it for it in done.log.splitlines() if "WARNING" in it]
    assert "'score' in 2 leads, " in line
    assert "'new' in 1 lead" in line
    assert "'owner.x' in 1 lead" in line
    assert "'…' in 1 lead" in line
    assert "It is in 'rescued_data'" in line
    assert line.endswith("The API has changed: update tap-mega")
    assert "secret" not in done.log
    assert "example.com" not in done.log


def test_a_thousand_names_are_one_short_line(run: Runs) -> None:
    """Only the most frequent names are in the log, and only a hundred are counted."""
    done = run({**LEAD, **{f"new_{number}": 1 for number in range(1000)}})
    (line,) = [it for it in done.log.splitlines() if "WARNING" in it]
    assert line.count(" in 1 lead,") == 20
    assert ", and more. It is in 'rescued_data'" in line
    assert len(done.records[0]["rescued_data"]) == 1000


def test_few_names_are_counted() -> None:
    """The memory does not grow with the number of names that the API makes up."""
    rows = new_rows()
    for number in range(300):
        names = range(number * 1000, (number + 1) * 1000)
        rows.row({**LEAD, **dict.fromkeys(map("new_{}".format, names))}, "customer")
    assert rows.rescued == 300
    assert len(rows._names) == MAX_NAMES  # noqa: SLF001


def test_a_value_that_is_nested_deeply_is_rescued_as_text(run: Runs) -> None:
    """Parsers of loaders have a limit, so the deep part is JSON in a text."""
    deep: t.Any = [1.50]
    for _ in range(400):
        deep = [deep]
    (record,) = run({**LEAD, "new": deep}).records
    value, levels = record["rescued_data"]["new"], 0
    while isinstance(value, list):
        (value,) = value
        levels += 1
    assert levels == conform.MAX_DEPTH
    assert value == "[" * (401 - levels) + "1.5" + "]" * (401 - levels)


def test_a_property_that_the_api_no_longer_sends_is_null(run: Runs) -> None:
    """A loader that validates does not stop because a required property is absent."""
    done = run({name: LEAD[name] for name in ("id", "updated_at")})
    (record,) = done.records
    Draft7Validator(done.schema["schema"]).validate(record)
    assert record["customer_id"] == Sandbox.customer_id
    assert {record[it] for it in ("status", "created_at", "rescued_data")} == {None}


def test_a_key_is_as_long_as_a_database_allows(run: Runs) -> None:
    """An `id` may be longer than a UUID. One that is no key is left out, and named."""
    good, bad = ({**LEAD, "id": "x" * length} for length in (255, 256))
    done = run(good, bad)
    assert done.leads == [good]
    assert done.code == 1
    assert "(no usable 'id': lead 2 of page 1)" in done.errors[0]
    Draft7Validator(done.schema["schema"]).validate(done.records[0])


def deselected(catalog: Json, *names: str) -> Json:
    """Return a catalog without some columns, or parts of them."""
    catalog = copy.deepcopy(catalog)
    for entry in stream_of(catalog)["metadata"]:
        if ".".join(entry["breadcrumb"][1::2]) in names:
            entry["metadata"]["selected"] = False
    return catalog


ODD: Json = {**LEAD, "score": "high", "owner": {"id": 1, "name": 2, "new": 3}, "new": 4}


def test_nothing_is_rescued_from_a_deselected_column(run: Runs, catalog: Json) -> None:
    """A value that nobody wants does not reach the warehouse by another way."""
    done = run(ODD, catalog=deselected(catalog, "score", "owner.id"))
    assert done.records[0]["rescued_data"] == {"owner": {"name": 2, "new": 3}, "new": 4}
    done = run(ODD, catalog=deselected(catalog, "score", "owner"))
    assert done.records[0]["rescued_data"] == {"new": 4}
    assert not {"score", "owner"} & done.records[0].keys()
    assert "score" not in done.log


def test_an_old_catalog_selects_less(run: Runs, catalog: Json) -> None:
    """What only the catalog lacks is not selected: it is neither sent nor rescued."""
    properties = stream_of(catalog)["schema"]["properties"]
    del properties["score"], properties["owner"]["properties"]["id"]
    done = run(ODD, catalog=catalog)
    (record,) = done.records
    assert record["rescued_data"] == {"owner": {"name": 2, "new": 3}, "new": 4}
    assert "score" not in record
    assert record["owner"] == {"name": None}
    plain = run(LEAD, catalog=catalog)
    assert plain.records[0]["rescued_data"] is None
    assert "WARNING" not in plain.log


@pytest.mark.parametrize("old", [False, True], ids=["deselected", "old"])
def test_without_the_column_no_loader_stops_either(
    run: Runs, catalog: Json, *, old: bool
) -> None:
    """The columns are null, and the warning says that the values were left out."""
    if old:
        del stream_of(catalog)["schema"]["properties"]["rescued_data"]
    else:
        catalog = deselected(catalog, "rescued_data")
    done = run(ODD, catalog=catalog)
    (record,) = done.records
    assert record == {**LEAD, "score": None, "owner": {"id": None, "name": None}}
    assert "'rescued_data' is not selected: make the catalog again" in done.log
    assert "'score' in 1 lead" in done.log


def test_a_type_of_the_catalog_counts(run: Runs, catalog: Json) -> None:
    """Who gives a column another type in the catalog gets such values."""
    properties = stream_of(catalog)["schema"]["properties"]
    properties["score"] = {"type": ["number", "string", "null"]}
    properties["new"] = {"type": ["integer", "null"]}
    properties["status"] = {}
    sent = {**LEAD, "score": 1.5, "new": 4, "status": [1]}
    assert run(sent, catalog=catalog).leads == [sent]
    done = run({**LEAD, "score": [], "new": "x"}, catalog=catalog)
    assert done.records[0]["rescued_data"] == {"score": [], "new": "x"}


def test_a_column_of_a_custom_field_is_ours(run: Runs) -> None:
    """A property of the API with the name of such a column is rescued."""
    sent = {**LEAD, "custom_field_budget": 5}
    (record,) = run(sent, custom_field_types={"budget": "number"}).records
    assert record["custom_field_budget"] == 1
    assert record["rescued_data"] == {"custom_field_budget": 5}


@pytest.mark.parametrize("depth", [1, 5])
def test_the_column_is_flattened_like_custom_fields(run: Runs, depth: int) -> None:
    """It has no fixed parts, so it is one column with JSON, or null."""
    done = run(ODD, LEAD, flattening_enabled=True, flattening_max_depth=depth)
    odd, plain = done.records
    rescued = {"score": "high", "owner": {"id": 1, "name": 2, "new": 3}, "new": 4}
    assert json.loads(odd["rescued_data"]) == rescued
    assert plain["rescued_data"] is None
    assert odd.keys() == plain.keys() == done.schema["schema"]["properties"].keys()


def test_stream_maps_see_the_column(run: Runs) -> None:
    """A map can use it, drop it or rename it, also when it is null."""
    mapping = {
        "new": "str(rescued_data.get('new')) if rescued_data else None",
        "rescued_data": "__NULL__",
    }
    done = run(ODD, LEAD, stream_maps={"leads": mapping})
    assert [it["new"] for it in done.records] == ["4", None]
    assert not any("rescued_data" in it for it in done.records)


@pytest.mark.parametrize("wrong", [5, "x" * 256])
def test_the_customer_of_a_lead_is_always_known(tap: Command, wrong: object) -> None:
    """With `customers` it is in the key: a wrong one is rescued, and replaced."""
    with Sandbox(leads=0, customers=2) as api:
        serve(api, {**LEAD, "customer_id": wrong})
        done = tap(config=api.config(), clock=FakeClock())
    ids = {it.customer_id for it in api.customers}
    assert {it["customer_id"] for it in done.records} == ids
    rescued = [it["rescued_data"] for it in done.records]
    assert rescued == 2 * [{"customer_id": wrong}]


SCHEMA = row_schema(DOCUMENT.get_schema("Lead", key_properties=("id",)), {})
del SCHEMA["properties"]["custom_fields"]["additionalProperties"]
VALIDATOR = Draft7Validator(SCHEMA)


class All(dict[tuple[str, ...], bool]):
    """Select everything."""

    def __missing__(self, _: tuple[str, ...]) -> bool:
        """Select a property."""
        return True


def new_rows() -> Rows:
    """Return rows with all columns."""
    document = DOCUMENT.get_schema("Lead")
    return Rows(schema=SCHEMA, document=document, mask=All(), types={})


QUICK, SLOW = new_rows(), new_rows()
# Nothing fits a whole lead, so that each of its values is checked.
SLOW._lead.fitting = msgspec.defstruct("Nothing", [("none", None)])  # noqa: SLF001


def parsed(lead: Json) -> Json:
    """Return a lead as the tap parses it."""
    parser = Parser()
    found: Json = parser.repair(parser.parse(serialize_json(lead).encode()))
    return found


def restored(record: Json, rescued: Json, sent: Json) -> Json:
    """Put what was rescued back into its place."""
    whole = {name: it for name, it in record.items() if name in sent}
    for name, value in rescued.items():
        part = whole.get(name)
        if isinstance(part, dict) and isinstance(value, dict):
            value = restored(part, value, sent[name])  # noqa: PLW2901
        whole[name] = value
    return whole


json_values = values | st.sampled_from([it[1] for it in DRIFTS])
names = st.sampled_from(sorted(SCHEMA["properties"])) | text


@settings(max_examples=60, deadline=None)
@example(lead=LEAD, name="score", value=3.0)
@given(lead=leads, name=names, value=json_values)
def test_nothing_is_lost_and_every_record_fits(
    lead: Json, name: str, value: object
) -> None:
    """Any JSON in any place: the record fits the schema, and has all that was sent.

    The check of a whole lead and those of its values agree.
    """
    sent = parsed({**lead, name: value, **KEY})
    record, slow = (it.row(copy.deepcopy(sent), "customer") for it in (QUICK, SLOW))
    assert record == slow
    VALIDATOR.validate(record)
    for column in ("created_at", "last_interaction_at"):
        assert record.get(column) is None or to_utc(record[column]) == record[column]
    rescued = record.pop("rescued_data") or {}
    assert record["customer_id"]
    whole = restored(record, rescued, sent)
    for key, it in sent.items():
        if key == "customer_id" and it in (None, ""):
            continue
        assert conform.storable(whole[key]) == conform.storable(it)


SCHEMA_NAME = "mega_drift"


@pytest.mark.slow
def test_every_drift_loads(
    run: Runs, catalog: Json, database_url: str, tmp_path: Path
) -> None:
    """Each row of the table above is in PostgreSQL, next to leads that fit.

    The loader validates here, unlike in `meltano.yml`. In a second run the API is as
    before, and `rescued_data` is NULL again. The table is older than the column.
    """
    changes = [
        *DRIFTS,
        *((name, value, column, ...) for name, value, column in FITTING),
    ]
    sent = [
        {**LEAD, "id": str(number), name: value}
        for number, (name, value, *_) in enumerate(changes)
    ]
    sent.sort(key=lambda it: parse_timestamp(it["updated_at"]))
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    query: t.Any = page.split("```sql\n")[1].split("```")[0]
    query = query.replace("mega.leads", "leads")
    (loader,) = (it for it in LOADERS if it.name == "target-postgres")
    loader.install()
    with temporary_schema(database_url, SCHEMA_NAME) as table:
        place = Place(tmp_path, database_url, table)
        del stream_of(catalog)["schema"]["properties"]["rescued_data"]
        loader.load(run(LEAD, catalog=catalog).stdout, place)
        odd = run(*sent)
        loader.load(odd.stdout, place, validate_records=True)
        rows = {row["id"]: row for row in loader.read(place)}
        assert len(table.select(query)) == len(DRIFTS)
        for record in odd.records:
            row = rows[record["id"]]
            assert {name: row[name] for name in record} == loader.stored(record)
        loader.load(run(*({**LEAD, "id": it["id"]} for it in sent)).stdout, place)
        assert {row["rescued_data"] for row in loader.read(place)} == {None}
