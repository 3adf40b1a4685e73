"""Test which catalogs the tap accepts, and what each record keeps."""

from __future__ import annotations

import typing as t

import pytest

from testing.harness import stream_of

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox import Sandbox
    from testing.harness import Run, Sync

    Json: t.TypeAlias = dict[str, t.Any]

KEPT = ("id", "updated_at")
WARNINGS = (" | WARNING ", " | ERROR ")


def entry_of(catalog: Json, *breadcrumb: str) -> Json:
    """Return the metadata of the stream, or of a property."""
    (metadata,) = [
        it["metadata"]
        for it in stream_of(catalog)["metadata"]
        if it["breadcrumb"] == list(breadcrumb)
    ]
    return t.cast("Json", metadata)


def warnings_of(run: Run) -> list[str]:
    """Return the lines that a person should look at."""
    return [it for it in run.log.splitlines() if any(word in it for word in WARNINGS)]


def test_a_good_catalog_logs_no_warning(sync: Sync, catalog: Json) -> None:
    """The catalog of --discover works as it is, and with properties deselected."""
    entry_of(catalog, "properties", "contact_email")["selected"] = False
    run = sync(catalog=catalog)
    assert (run.code, len(run.records)) == (0, 250)
    assert warnings_of(run) == []
    assert "contact_email" not in run.records[0]


def test_an_automatic_property_cannot_be_deselected(sync: Sync, catalog: Json) -> None:
    """Meltano deselects everything first: that hides no key, and is no mistake."""
    for metadata in stream_of(catalog)["metadata"]:
        if metadata["breadcrumb"]:
            metadata["metadata"]["selected"] = False
    run = sync(catalog=catalog)
    assert {tuple(record) for record in run.records} == {KEPT}
    assert warnings_of(run) == []


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize(
    "change",
    [
        {"selected": False, "inclusion": "available"},
        {"selected-by-default": False, "inclusion": "available"},
        {"inclusion": "unsupported"},
    ],
    ids=str,
)
def test_a_deselected_key_is_sent(
    sync: Sync, catalog: Json, name: str, change: Json
) -> None:
    """A record never lacks its key or its version; a warning says so."""
    metadata = entry_of(catalog, "properties", name)
    metadata.clear()
    metadata.update(change)
    assert sync("--test", catalog=catalog).code == 0
    run = sync(catalog=catalog)
    assert run.code == 0
    assert all(set(KEPT) <= record.keys() for record in run.records)
    (line,) = warnings_of(run)
    assert f"The catalog deselects '{name}'" in line


@pytest.mark.parametrize("keys", [None, []], ids=str)
def test_a_missing_key_is_added(sync: Sync, catalog: Json, keys: object) -> None:
    """The key and its type are always there, whatever a catalog leaves out."""
    stream = stream_of(catalog)
    stream["key_properties"] = keys
    entry_of(catalog)["table-key-properties"] = keys
    own = stream["schema"]["properties"]
    stream["schema"]["properties"] = {"status": own["status"], "id": {"type": "null"}}
    run = sync(catalog=catalog)
    assert run.code == 0
    assert run.schema["key_properties"] == ["id"]
    names = ("status", *KEPT)
    assert run.schema["schema"]["properties"] == {name: own[name] for name in names}
    assert {tuple(sorted(it)) for it in run.records} == {tuple(sorted(names))}


@pytest.mark.parametrize(("excluded", "count"), [(None, 1), (["budget"], 0)])
def test_a_custom_field_that_is_deselected_is_a_warning(
    sync: Sync, catalog: Json, excluded: list[str] | None, count: int
) -> None:
    """The line names the setting that excludes it everywhere."""
    path = ["properties", "custom_fields", "properties", "budget"]
    rule = {"breadcrumb": path, "metadata": {"selected": False}}
    stream_of(catalog)["metadata"].insert(0, rule)
    run = sync(catalog=catalog, exclude_custom_fields=excluded)
    assert run.code == 0
    assert [it.split("'")[1] for it in warnings_of(run)] == count * [
        "custom_fields.budget"
    ]
    assert run.log.count("use the setting 'exclude_custom_fields'") == count


def test_a_catalog_without_metadata_selects_everything(
    sync: Sync, catalog: Json
) -> None:
    """A catalog that says nothing about selection deselects nothing."""
    stream_of(catalog)["metadata"] = []
    run = sync(catalog=catalog)
    assert run.code == 0
    assert run.records[0].keys() == run.schema["schema"]["properties"].keys()
    assert warnings_of(run) == []


def test_a_deselected_stream_is_not_read(
    sync: Sync, sandbox: Sandbox, catalog: Json
) -> None:
    """A stream that is deselected stays so, whatever its properties say."""
    entry_of(catalog)["selected"] = False
    run = sync(catalog=catalog)
    assert (run.code, run.records, warnings_of(run)) == (0, [], [])
    assert not sandbox.requests


def in_metadata(name: str, **change: object) -> Callable[[Json], None]:
    """Return a function that changes the metadata of a property."""

    def edit(catalog: Json) -> None:
        breadcrumb = ("properties", name) if name else ()
        metadata = entry_of(catalog, *breadcrumb)
        metadata.update({key.replace("_", "-"): it for key, it in change.items()})

    return edit


def in_stream(**change: object) -> Callable[[Json], None]:
    """Return a function that changes the entry of the stream."""
    return lambda catalog: stream_of(catalog).update(change)


KEY_LINE = "key_properties of 'leads' must be id"
METHOD_LINE = "replication_method of 'leads' must be INCREMENTAL or FULL_TABLE"
WRONG: list[tuple[Callable[[Json], None], str]] = [
    (in_metadata("contact_email", selected="false"), "must be true or false"),
    (in_metadata("contact_email", selected=0), "leads.contact_email' must be true or"),
    (in_metadata("", selected_by_default="no"), "'selected' of 'leads' must be true"),
    *((in_stream(key_properties=it), KEY_LINE) for it in (["id", "status"], "id")),
    (in_metadata("", table_key_properties=["contact_email"]), KEY_LINE),
    (in_stream(stream="contacts"), "the stream of 'leads' must be leads"),
    (in_stream(replication_method="LOG_BASED"), METHOD_LINE),
    (in_metadata("", forced_replication_method=[5]), METHOD_LINE),
    (in_stream(replication_key="created_at"), "replication_key of 'leads' must be up"),
    (in_metadata("", replication_key="created_at"), "replication_key of 'leads' must"),
    (in_stream(metadata=[{}]), "The catalog cannot be read (KeyError)"),
    (in_stream(schema=[]), "The catalog cannot be read (AttributeError)"),
    (lambda catalog: catalog.update(streams=["leads"]), "The catalog cannot be read"),
]


@pytest.mark.parametrize(("edit", "words"), WRONG)
def test_a_catalog_that_contradicts_is_one_line(
    sync: Sync,
    sandbox: Sandbox,
    catalog: Json,
    edit: Callable[[Json], None],
    words: str,
) -> None:
    """One line says what is wrong and where, before any request."""
    edit(catalog)
    run = sync(catalog=catalog)
    assert run.code == 1
    assert len(run.errors) == 1
    assert words in run.errors[0]
    assert "make it with --discover" in run.errors[0]
    assert "Traceback" not in run.log
    assert (run.stdout, sandbox.requests) == ("", [])
