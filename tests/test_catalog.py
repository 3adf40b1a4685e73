"""Test which catalogs the tap accepts, and what each record keeps."""

from __future__ import annotations

import json
import typing as t

import pytest

from testing.harness import stream_of

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox import Sandbox
    from testing.clock import FakeClock
    from testing.harness import Command, Run

    Json: t.TypeAlias = dict[str, t.Any]

KEPT = ("id", "updated_at")
WARNINGS = (" | WARNING ", " | ERROR ")


@pytest.fixture
def catalog(tap: Command) -> Json:
    """Return the catalog that the tap discovers."""
    return t.cast("Json", json.loads(tap("--discover").stdout))


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


def test_a_good_catalog_logs_no_warning(
    tap: Command, sandbox: Sandbox, clock: FakeClock, catalog: Json
) -> None:
    """The catalog of --discover works as it is, and with properties deselected."""
    entry_of(catalog, "properties", "contact_email")["selected"] = False
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert (run.code, len(run.records)) == (0, 250)
    assert warnings_of(run) == []
    assert "contact_email" not in run.records[0]


def test_an_automatic_property_cannot_be_deselected(
    tap: Command, sandbox: Sandbox, clock: FakeClock, catalog: Json
) -> None:
    """Meltano deselects everything first: that hides no key, and is no mistake."""
    for metadata in stream_of(catalog)["metadata"]:
        if metadata["breadcrumb"]:
            metadata["metadata"]["selected"] = False
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
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
@pytest.mark.parametrize("mode", [(), ("--test",)], ids=["sync", "test"])
def test_a_deselected_key_is_sent(
    tap: Command,
    sandbox: Sandbox,
    clock: FakeClock,
    catalog: Json,
    name: str,
    change: Json,
    mode: tuple[str, ...],
) -> None:
    """A record never lacks its key or its version; a warning says so."""
    metadata = entry_of(catalog, "properties", name)
    metadata.clear()
    metadata.update(change)
    run = tap(*mode, config=sandbox.config(), catalog=catalog, clock=clock)
    assert run.code == 0
    if not mode:
        assert all(set(KEPT) <= record.keys() for record in run.records)
        (line,) = warnings_of(run)
        assert f"The catalog deselects '{name}'" in line


@pytest.mark.parametrize("keys", [None, []], ids=str)
def test_a_missing_key_is_added(
    tap: Command, sandbox: Sandbox, clock: FakeClock, catalog: Json, keys: object
) -> None:
    """Without key_properties, or with an empty list, the key is still `id`."""
    stream_of(catalog)["key_properties"] = keys
    entry_of(catalog)["table-key-properties"] = keys
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert run.code == 0
    assert run.schema["key_properties"] == ["id"]


def test_a_catalog_without_metadata_selects_everything(
    tap: Command, sandbox: Sandbox, clock: FakeClock, catalog: Json
) -> None:
    """A catalog that says nothing about selection deselects nothing."""
    stream_of(catalog)["metadata"] = []
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert run.code == 0
    assert run.records[0].keys() == run.schema["schema"]["properties"].keys()
    assert warnings_of(run) == []


def test_a_deselected_stream_is_not_read(
    tap: Command, sandbox: Sandbox, catalog: Json
) -> None:
    """A stream that is deselected stays so, whatever its properties say."""
    entry_of(catalog)["selected"] = False
    run = tap(config=sandbox.config(), catalog=catalog)
    assert (run.code, run.records, warnings_of(run)) == (0, [], [])
    assert not sandbox.requests


def without_root(catalog: Json) -> None:
    """Remove the entry of the stream itself."""
    del stream_of(catalog)["metadata"][-1]


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


def in_schema(name: str, schema: object) -> Callable[[Json], None]:
    """Return a function that replaces the schema of a property."""

    def edit(catalog: Json) -> None:
        properties = stream_of(catalog)["schema"]["properties"]
        properties[name] = schema
        if schema is None:
            del properties[name]

    return edit


WRONG: list[tuple[Callable[[Json], None], str]] = [
    (without_root, "the metadata of 'leads' must have an entry"),
    (in_metadata("contact_email", selected="false"), "must be true or false"),
    (in_metadata("contact_email", selected=0), "must be true or false"),
    (in_metadata("contact_email", inclusion="none"), "one of available, automatic"),
    (in_metadata("", selected="true"), "selected' must be true or false"),
    (in_stream(key_properties=["contact_email"]), "key_properties of 'leads' must be"),
    (in_stream(key_properties=["id", "status"]), "key_properties of 'leads' must be"),
    (in_stream(key_properties="id"), "key_properties' must be a list"),
    (in_stream(stream="contacts"), "the stream of 'leads' must be leads"),
    (in_stream(tap_stream_id=None), "tap_stream_id' must be text"),
    (in_stream(replication_method=["FULL_TABLE"]), "replication_method' must be text"),
    (in_stream(replication_method="LOG_BASED"), "replication_method of 'leads' must"),
    (in_stream(replication_key="created_at"), "replication_key of 'leads' must be up"),
    (in_stream(metadata={}), "metadata' must be a list"),
    (in_stream(metadata=[{}]), "metadata.0' must have 'breadcrumb'"),
    (in_stream(schema=[]), "schema' must be a JSON schema"),
    (in_stream(schema={"properties": {}}), "must have 'id' as a string"),
    (in_schema("id", None), "the schema of 'leads' must have 'id' as a string"),
    (in_schema("id", {"type": "boolean"}), "must have 'id' as a string"),
    (in_schema("updated_at", None), "must have 'updated_at' as a string"),
    (in_schema("status", "text"), "must be a JSON schema"),
    (in_schema("status", {"type": "text"}), "must be a JSON schema"),
    (in_schema("owner", {"properties": {"id": []}}), "must be a JSON schema"),
    (in_schema("tags", {"type": "array", "items": [{}]}), "must be a JSON schema"),
    (lambda catalog: catalog.clear(), "The catalog must have 'streams'"),
    (lambda catalog: catalog.update(streams={}), "'streams' must be a list"),
    (lambda catalog: catalog.update(streams=["leads"]), "must be a JSON object"),
]


@pytest.mark.parametrize(("edit", "words"), WRONG, ids=[it[1] for it in WRONG])
def test_a_catalog_that_contradicts_is_one_line(
    tap: Command,
    sandbox: Sandbox,
    catalog: Json,
    edit: Callable[[Json], None],
    words: str,
) -> None:
    """One line says what is wrong and where, before any request."""
    edit(catalog)
    run = tap(config=sandbox.config(), catalog=catalog)
    assert run.code == 1
    assert len(run.errors) == 1
    assert words in run.errors[0]
    assert "make it with --discover" in run.errors[0]
    assert "Traceback" not in run.log
    assert (run.stdout, sandbox.requests) == ("", [])


def test_an_empty_catalog_file_is_one_line(tap: Command, sandbox: Sandbox) -> None:
    """A discovery that failed leaves an empty file: it does not select everything."""
    path = tap.folder / "empty.json"
    path.touch()
    run = tap(f"--catalog={path}", config=sandbox.config())
    assert run.code == 1
    assert len(run.errors) == 1
    assert not sandbox.requests
