"""Validate a catalog, and select the properties that each record must have.

A catalog may deselect data, but not the key or the replication key: these are selected
again, with a warning. An invalid catalog stops the run before any request.
"""

from __future__ import annotations

import itertools
import typing as t

from jsonschema import Draft7Validator
from singer_sdk.singerlib.catalog import (
    REPLICATION_FULL_TABLE,
    REPLICATION_INCREMENTAL,
    Metadata,
)

from tap_mega.config.validation import requirement
from tap_mega.shared.errors import config_error

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jsonschema import ValidationError
    from singer_sdk import Stream
    from singer_sdk.singerlib import Catalog, CatalogEntry, MetadataMapping

    Json: t.TypeAlias = dict[str, t.Any]

METHODS = (REPLICATION_INCREMENTAL, REPLICATION_FULL_TABLE)
INCLUSIONS = [it.value for it in Metadata.InclusionType]

NULLABLE_TEXT = {"type": ["string", "null"]}
NULLABLE_BOOLEAN = {"type": ["boolean", "null"]}
NAMES = {"type": ["array", "null"], "items": {"type": "string"}}

SHAPE: Json = {
    "type": "object",
    "required": ["streams"],
    "properties": {
        "streams": {"type": "array", "items": {"$ref": "#/definitions/stream"}}
    },
    "definitions": {
        "stream": {
            "type": "object",
            "required": ["tap_stream_id"],
            "properties": {
                "tap_stream_id": {"type": "string"},
                "stream": NULLABLE_TEXT,
                "key_properties": NAMES,
                "replication_key": NULLABLE_TEXT,
                "replication_method": NULLABLE_TEXT,
                "schema": {
                    "allOf": [
                        {"$ref": Draft7Validator.META_SCHEMA["$id"]},
                        {"$ref": "#/definitions/schema"},
                    ]
                },
                "metadata": {
                    "type": "array",
                    "items": {"$ref": "#/definitions/metadata"},
                },
            },
        },
        "metadata": {
            "type": "object",
            "required": ["breadcrumb", "metadata"],
            "properties": {
                "breadcrumb": {"type": "array", "items": {"type": "string"}},
                "metadata": {
                    "type": "object",
                    "properties": {
                        "selected": NULLABLE_BOOLEAN,
                        "selected-by-default": NULLABLE_BOOLEAN,
                        "inclusion": {"enum": [*INCLUSIONS, None]},
                        "table-key-properties": NAMES,
                        "replication-key": NULLABLE_TEXT,
                        "forced-replication-method": NULLABLE_TEXT,
                    },
                },
            },
        },
        "schema": {
            "type": "object",
            "properties": {
                "properties": {
                    "type": "object",
                    "additionalProperties": {"$ref": "#/definitions/schema"},
                },
                "items": {"$ref": "#/definitions/schema"},
            },
        },
    },
}
"""The JSON schema of a catalog, as far as the tap and the SDK read it."""


def check_shape(catalog: object) -> None:
    """Check a catalog before the SDK reads it.

    Raises:
        ConfigValidationError: If it has another shape.
    """
    if error := next(Draft7Validator(SHAPE).iter_errors(catalog), None):
        raise config_error(_format_error(error))


def _format_error(error: ValidationError) -> str:
    path = ".".join(map(str, error.path))
    if "schema" in error.path:
        problem = "must be a JSON schema whose properties are objects"
    elif error.validator == "required":
        problem = f"must have {error.message.split(' ')[0]}"
    else:
        problem = f"must be {requirement(error)}"
    place = f"In the catalog, '{path}'" if path else "The catalog"
    return f"{place} {problem}: make it with --discover"


def complete_stream(stream: Stream, catalog: Catalog, replication_key: str) -> None:
    """Select what each record of a stream must have, and log what was deselected.

    Args:
        stream: The stream.
        catalog: The catalog. It changes in place.
        replication_key: The only replication key that works.

    Raises:
        ConfigValidationError: If the stream cannot do what its entry says.
    """
    if entry := catalog.get_stream(stream.name):
        for line in _complete_entry(entry, stream.primary_keys, replication_key):
            stream.logger.warning(line)


def _complete_entry(
    entry: CatalogEntry, key_properties: Sequence[str], replication_key: str
) -> list[str]:
    """Select what each record must have, and return warnings."""
    if not entry.metadata:  # Then the SDK selects everything.
        entry.metadata.root.selected = True
    required = list(dict.fromkeys([*key_properties, replication_key]))
    problems = itertools.chain(
        _find_gaps(entry, required),
        _find_contradictions(entry, key_properties, replication_key),
    )
    if problem := next(problems, None):
        msg = f"In the catalog, {problem}: make it with --discover"
        raise config_error(msg)
    entry.key_properties = list(key_properties)
    return list(_select(entry.metadata, required))


def _find_gaps(entry: CatalogEntry, required: Sequence[str]) -> Iterator[str]:
    name, properties = entry.tap_stream_id, entry.schema.properties or {}
    if () not in entry.metadata:
        yield f"the metadata of '{name}' must have an entry with an empty breadcrumb"
    for column in required:
        if column not in properties or "string" not in (properties[column].type or ()):
            yield f"the schema of '{name}' must have '{column}' as a string"


def _find_contradictions(
    entry: CatalogEntry, key_properties: Sequence[str], replication_key: str
) -> Iterator[str]:
    """Yield each property of an entry that contradicts the stream."""
    name, root = entry.tap_stream_id, entry.metadata.root
    keys = entry.key_properties or root.table_key_properties or ()
    method = entry.replication_method or root.forced_replication_method
    for field, value, allowed in (
        ("stream", entry.stream, [name]),
        ("key_properties", ", ".join(keys), [", ".join(key_properties)]),
        ("replication_method", method, METHODS),
        (
            "replication_key",
            entry.replication_key or root.replication_key,
            [replication_key],
        ),
    ):
        if value and value not in allowed:
            yield f"the {field} of '{name}' must be {' or '.join(allowed)}"


def _select(metadata: MetadataMapping, required: Sequence[str]) -> Iterator[str]:
    """Select properties, and yield a line for each that was deselected."""
    mask = metadata.resolve_selection()
    for name in required:
        breadcrumb = ("properties", name)
        if mask[()] and not mask[breadcrumb]:
            yield f"The catalog deselects '{name}', but each record must have it"
        metadata[breadcrumb].inclusion = Metadata.InclusionType.AUTOMATIC
