"""Test the stream `lead_changes`: a row for each version of a lead that was read."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
import typing as t
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import NO_LIMITS, Fault, Sandbox
from testing.clock import FakeClock
from testing.harness import (
    Command,
    as_record,
    selecting,
    stream_of,
)
from tests.tables import VENDOR

if t.TYPE_CHECKING:
    from testing.harness import Json, Run, Sync

    Version: t.TypeAlias = tuple[str, str]

CHANGES = "lead_changes"
BOTH = ("leads", CHANGES)
COLUMNS = (
    *("id", "customer_id", "updated_at", "status", "stage_id", "stage_slug"),
    *("owner_id", "score", "qualified"),
)
HOUR = 3600
WANTED: Json = {"include_lead_changes": True}
EMIT: Json = {"emit_activate_version_messages": True}
WARNINGS = (" | WARNING ", " | ERROR ")


def version_of(lead: Json) -> Json:
    """Return the record that a version of a lead should have."""
    stage, owner = lead.get("current_stage") or {}, lead.get("owner") or {}
    parts = {
        "stage_id": stage.get("id"),
        "stage_slug": stage.get("slug"),
        "owner_id": owner.get("id"),
    }
    return {name: parts[name] if name in parts else lead[name] for name in COLUMNS}


def key_of(record: Json) -> Version:
    """Return the key of a version."""
    return record["id"], record["updated_at"]


def streams_of(run: Run) -> set[str]:
    """Return the streams that messages name."""
    return {it["stream"] for it in run.messages if "stream" in it}


def schema_of(run: Run) -> Json:
    """Return the SCHEMA message of the stream."""
    found = (it for it in run.messages if it["type"] == "SCHEMA")
    return next(it for it in found if it["stream"] == CHANGES)


def warnings_of(run: Run) -> list[str]:
    """Return the lines that a person should look at."""
    return [it for it in run.log.splitlines() if any(word in it for word in WARNINGS)]


@pytest.fixture
def sync(sync: Sync) -> Sync:
    """Provide a run that writes the stream."""
    return t.cast("Sync", functools.partial(sync, **WANTED))


@pytest.fixture
def catalog(tap: Command) -> Json:
    """Provide a catalog that selects both streams."""
    return selecting(tap, *BOTH, config=WANTED)


# Selection


@pytest.mark.parametrize("is_wanted", [True, False], ids=str)
def test_the_stream_exists_only_if_the_settings_want_it(
    tap: Command, sync: Sync, *, is_wanted: bool
) -> None:
    """Then it needs no catalog, and its records change no STATE."""
    wanted: Json = {"include_lead_changes": is_wanted}
    discovered = json.loads(tap("--discover", config=wanted).stdout)
    names = {it["tap_stream_id"] for it in discovered["streams"]}
    run = sync(**wanted)
    assert names == streams_of(run) == ({*BOTH} if is_wanted else {"leads"})
    plain = sync(include_lead_changes=False)
    assert [it for it in run.states if it] == plain.states


def test_it_is_not_written_without_the_leads(
    tap: Command, sandbox: Sandbox, sync: Sync
) -> None:
    """A catalog that selects it alone is an error, before any request."""
    catalog = selecting(tap, CHANGES, config=WANTED)
    run = sync(catalog=catalog)
    assert (run.code, run.stdout, sandbox.requests) == (1, "", [])
    (line,) = run.errors
    assert "select both, or turn off the setting 'include_lead_changes'" in line


def test_a_catalog_without_it_deselects_it(sync: Sync, catalog: Json) -> None:
    """A catalog may be older than the setting."""
    catalog["streams"] = [stream_of(catalog)]
    run = sync(catalog=catalog)
    assert (run.code, streams_of(run), warnings_of(run)) == (0, {"leads"}, [])


def test_each_version_is_written(sandbox: Sandbox, sync: Sync) -> None:
    """A run writes each lead as `leads` has it, at no additional request."""
    run = sync()
    assert run.code == 0
    assert len(sandbox.requests) == 3
    assert run.records_of("leads") == [as_record(it) for it in sandbox.leads.all()]
    assert run.records_of(CHANGES) == [version_of(it) for it in sandbox.leads.all()]


def test_history_grows_by_what_changed(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """After a change the lead has two versions. A look-back repeats the same key."""
    first = sync()
    clock.now += HOUR
    changed = sandbox.leads.change(7)
    second = sync(state=first.state)
    records = first.records_of(CHANGES) + second.records_of(CHANGES)
    table = {key_of(it): it for it in records}
    assert len(records) > len(table) == 257
    assert len({key[0] for key in table}) == 250
    for id_ in changed:
        assert len([key for key in table if key[0] == id_]) == 2


# Messages


def test_the_schema_comes_first_and_without_leads_too(
    tap: Command, clock: FakeClock
) -> None:
    """SCHEMA precedes the records, and is sent if there are none."""
    for leads in (0, 5):
        with Sandbox(leads=leads, clock=clock.time) as api:
            run = tap(config={**api.config(), **WANTED}, clock=clock)
        found = [it["type"] for it in run.messages if it.get("stream") == CHANGES]
        assert found == ["SCHEMA", *leads * ["RECORD"]]


def test_the_schema_is_that_of_the_vendors_document(sync: Sync) -> None:
    """Each column has the type and format that the vendor's document gives it."""
    schema = schema_of(sync())
    properties = schema["schema"]["properties"]
    assert tuple(properties) == COLUMNS
    assert schema["key_properties"] == ["id", "updated_at"]
    for name, found in properties.items():
        model, _, part = name.partition("_")
        kind = {"stage": "Stage", "owner": "Owner"}.get(model, "Lead")
        written = VENDOR[kind]["properties"][name if kind == "Lead" else part]
        types = written["type"]
        types = {types} if isinstance(types, str) else set(types)
        is_key = name in schema["key_properties"]
        found_types = found["type"]
        found_types = {found_types} if isinstance(found_types, str) else {*found_types}
        assert found_types == types | (set() if is_key else {"null"})
        assert found.get("format") == written.get("format")


def test_a_page_is_one_write(sync: Sync) -> None:
    """The records of both streams leave with the STATE of their page."""
    plain = sync(include_lead_changes=False)
    both = sync()
    assert both.writes == plain.writes + 1  # its SCHEMA


@settings(max_examples=15, deadline=None)
@given(
    script=st.lists(
        st.builds(
            Fault,
            st.sampled_from(
                ("html", "reset", "empty_page", "refuse_cursor", "repeat_leads")
            ),
            at=st.integers(1, 6),
        ),
        max_size=3,
    ),
    page_size=st.integers(5, 40),
    changes=st.lists(st.integers(0, 30), max_size=3),
)
def test_each_state_follows_the_versions_of_its_leads(
    script: list[Fault], page_size: int, changes: list[int]
) -> None:
    """Whatever happens, wherever it stops: at each STATE both streams are complete.

    So a run that is stopped or killed there has stored as much of the one as of the
    other, and the next one resumes both.
    """
    clock, state = FakeClock(), None
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(leads=40, clock=clock.time, limits=NO_LIMITS) as api,
    ):
        tap = Command(Path(folder))
        config = {**api.config(), **WANTED, "page_size": page_size}
        for count in (0, *changes):
            clock.now += HOUR
            api.leads.change(count)
            api.script(*script)
            run = tap(config=config, clock=clock, state=state)
            state = run.states[-1] if run.states else state
            check_states(run)


def check_states(run: Run) -> None:
    """Check that the parts of a run between two states have each version twice."""
    for is_state, part in itertools.groupby(
        run.messages, lambda it: it["type"] == "STATE"
    ):
        records: dict[str, list[Json]] = {"leads": [], CHANGES: []}
        for it in part:
            if it["type"] == "RECORD":
                records[it["stream"]].append(it["record"])
        assert not (is_state and records["leads"])
        assert records[CHANGES] == [version_of(it) for it in records["leads"]]


# Full tables


@pytest.mark.parametrize(
    "maps", [{}, {"copy": {"__source__": CHANGES, "__key_properties__": ["id"]}}]
)
def test_it_is_never_activated(sync: Sync, catalog: Json, maps: Json) -> None:
    """A full refresh has a version for `leads` only, and removes no other rows.

    Nor those of a stream that a map makes of it, whatever its key.
    """
    for stream in catalog["streams"]:
        stream["replication_method"] = "FULL_TABLE"
    run = sync(catalog=catalog, stream_maps=maps, **EMIT)
    assert streams_of(run) == {*BOTH, *maps}
    assert len(run.records_of(CHANGES)) == 250
    activated = [it["stream"] for it in run.messages if "ACTIVATE" in it["type"]]
    assert activated == ["leads"]
    assert {it["stream"] for it in run.messages if it.get("version")} == {"leads"}


# Customers


def test_many_customers_have_their_id_in_the_key(
    tap: Command, clock: FakeClock
) -> None:
    """With `customers`, versions of equal ids of two customers are different rows."""
    with Sandbox(leads=130, customers=3, clock=clock.time) as api:
        run = tap(config={**api.config(), **WANTED}, clock=clock)
        leads = [lead for it in api.customers for lead in it.leads.all()]
    key = ["customer_id", "id", "updated_at"]
    assert (run.code, schema_of(run)["key_properties"]) == (0, key)
    found = {tuple(it[name] for name in key): it for it in run.records_of(CHANGES)}
    assert list(found.values()) == run.records_of(CHANGES)
    expected = {tuple(it[name] for name in key): version_of(it) for it in leads}
    assert found == expected


# Catalogs


@pytest.mark.parametrize("name", ["id", "updated_at"])
def test_its_key_cannot_be_deselected(sync: Sync, catalog: Json, name: str) -> None:
    """A catalog may deselect columns, but not the key; one warning says so."""
    for entry in stream_of(catalog, CHANGES)["metadata"]:
        if entry["breadcrumb"] in (["properties", name], ["properties", "score"]):
            entry["metadata"] = {"inclusion": "available", "selected": False}
    run = sync(catalog=catalog)
    (line,) = warnings_of(run)
    assert f"The catalog deselects '{name}'" in line
    columns = set(COLUMNS) - {"score"}
    assert {*map(frozenset, run.records_of(CHANGES))} == {frozenset(columns)}
    assert "score" in run.records_of("leads")[0]


def test_a_catalog_with_another_key_is_one_line(
    sandbox: Sandbox, sync: Sync, catalog: Json
) -> None:
    """With the key of `leads`, a loader would keep one version of each lead."""
    stream_of(catalog, CHANGES)["key_properties"] = ["id"]
    run = sync(catalog=catalog)
    assert (run.code, run.stdout, sandbox.requests) == (1, "", [])
    (line,) = run.errors
    assert "the key_properties of 'lead_changes' must be id, updated_at" in line


def test_deselected_parts_of_leads_stay_in_the_versions(
    sandbox: Sandbox, sync: Sync, catalog: Json
) -> None:
    """What the catalog deselects in `leads` is not missing here."""
    for entry in stream_of(catalog)["metadata"]:
        if entry["breadcrumb"][-1:] in (["score"], ["current_stage"], ["owner"]):
            entry["metadata"]["selected"] = False
    run = sync(catalog=catalog)
    assert "score" not in run.records_of("leads")[0]
    assert run.records_of(CHANGES) == [version_of(it) for it in sandbox.leads.all()]


# Settings


def test_stream_maps_apply(sandbox: Sandbox, sync: Sync) -> None:
    """A map of the stream renames, filters and adds columns; one of `leads` not."""
    maps = {
        "leads": {"__filter__": "status == 'won'"},
        CHANGES: {
            "__alias__": "history",
            "__filter__": "status != 'lost'",
            "is_won": "status == 'won'",
            "score": "__NULL__",
        },
    }
    run = sync(stream_maps=maps)
    assert streams_of(run) == {"leads", "history"}
    kept = [it for it in sandbox.leads.all() if it["status"] != "lost"]
    expected = [
        {k: v for k, v in version_of(it).items() if k != "score"}
        | {"is_won": it["status"] == "won"}
        for it in kept
    ]
    assert run.records_of("history") == expected


def test_a_map_can_remove_the_stream(sync: Sync) -> None:
    """`__else__` that is null removes a stream without a map, as the SDK has it."""
    run = sync(stream_maps={"leads": {}, "__else__": None})
    assert (run.code, len(run.records)) == (0, 250)
    assert streams_of(run) == {"leads"}


def test_odd_parts_of_a_lead_are_null(sandbox: Sandbox, sync: Sync) -> None:
    """A lead without optional parts, or with parts of another kind, has nulls."""
    lead = {
        "id": "1",
        "updated_at": "2026-07-01T18:20:00.000Z",
        "owner": "someone",
        "current_stage": None,
    }
    body = json.dumps({"leads": [lead], "next_cursor": None, "total": 1})
    sandbox.script(Fault("body", times=None, body=body))
    (record,) = sync().records_of(CHANGES)
    expected = {name: lead.get(name) for name in COLUMNS}
    expected["customer_id"] = sandbox.customer_id
    assert record == expected
