"""Check a catalog, and select the properties that each record must have.

A catalog may deselect any property except the key and the replication key: these are
selected again, with a warning. A catalog that contradicts the tap stops it before any
request.
"""

from __future__ import annotations

import typing as t

from singer_sdk.singerlib import Catalog, Schema
from singer_sdk.singerlib.catalog import (
    REPLICATION_FULL_TABLE,
    REPLICATION_INCREMENTAL,
    Metadata,
    StreamMetadata,
)

from tap_mega.shared.errors import config_error

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from singer_sdk import Stream
    from singer_sdk.singerlib import CatalogEntry, MetadataMapping

METHODS = (REPLICATION_INCREMENTAL, REPLICATION_FULL_TABLE)

CUSTOM_FIELDS = ("properties", "custom_fields")

ADVICE = "make it with --discover"


def check_catalog(content: t.Any) -> None:
    """Check the content of a file before the SDK reads it.

    Raises:
        ConfigValidationError: If the SDK cannot read it, or if it has a selection that
            is not a boolean.
    """
    try:
        catalog = Catalog.from_dict({"streams": content["streams"]})
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        msg = f"The catalog cannot be read ({type(error).__name__}): {ADVICE}"
        raise config_error(msg) from None
    _raise_first(it for entry in catalog.streams for it in _find_no_booleans(entry))


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
        key, own = stream.primary_keys, stream.schema["properties"]
        _raise_first(_find_contradictions(entry, key, replication_key))
        if not entry.metadata:  # Then the SDK selects everything.
            entry.metadata.root.selected = True
        entry.key_properties = list(key)
        entry.schema.properties = entry.schema.properties or {}
        required = list(dict.fromkeys([*key, replication_key]))
        for name in required:
            entry.schema.properties[name] = Schema.from_dict(own[name])
        excluded = stream.config.get("exclude_custom_fields") or ()
        for line in (
            *_find_useless_rules(entry.metadata, excluded),
            *_select(entry.metadata, required),
        ):
            stream.logger.warning("%s", line)


def _raise_first(problems: Iterator[str]) -> None:
    """Raise the first problem of a catalog, if there is one."""
    if problem := next(problems, None):
        msg = f"In the catalog, {problem}: {ADVICE}"
        raise config_error(msg)


def _find_no_booleans(entry: CatalogEntry) -> Iterator[str]:
    """Yield each selection that is not a boolean: the SDK takes `"false"` for true."""
    for breadcrumb, it in entry.metadata.items():
        chosen: tuple[object, ...] = (it.selected, it.selected_by_default)
        if not all(value is None or isinstance(value, bool) for value in chosen):
            name = ".".join((str(entry.tap_stream_id), *breadcrumb[1::2]))
            yield f"'selected' of '{name}' must be true or false"


def _find_contradictions(
    entry: CatalogEntry, key: Sequence[str], replication_key: str
) -> Iterator[str]:
    """Yield a problem for each value of an entry that contradicts the stream."""
    name, root = entry.tap_stream_id, entry.metadata.get((), StreamMetadata())
    keys, methods = ", ".join(key), " or ".join(METHODS)
    for field, words, allowed, in_metadata in (
        ("stream", name, (name,), ""),
        ("key_properties", keys, ([*key], (*key,)), "table_key_properties"),
        ("replication_method", methods, METHODS, "forced_replication_method"),
        ("replication_key", replication_key, (replication_key,), "replication_key"),
    ):
        for value in (getattr(entry, field), getattr(root, in_metadata, None)):
            if value and value not in allowed:
                yield f"the {field} of '{name}' must be {words}"


def _find_useless_rules(
    metadata: MetadataMapping, excluded: Collection[str]
) -> Iterator[str]:
    """Yield a line for each custom field that is deselected, but not excluded."""
    mask = metadata.resolve_selection()
    for breadcrumb, is_selected in mask.items():
        if (
            breadcrumb[:-1] == (*CUSTOM_FIELDS, "properties")
            and mask[CUSTOM_FIELDS]
            and not is_selected
            and (slug := breadcrumb[-1]) not in excluded
        ):
            yield (
                f"The catalog deselects 'custom_fields.{slug}', which hides no column "
                "of it: use the setting 'exclude_custom_fields' instead"
            )


def _select(metadata: MetadataMapping, required: Sequence[str]) -> Iterator[str]:
    """Select the required properties, and yield a line for each deselected one."""
    mask = metadata.resolve_selection()
    for name in required:
        breadcrumb = ("properties", name)
        if mask[()] and not mask[breadcrumb]:
            yield f"The catalog deselects '{name}', but each record must have it"
        metadata[breadcrumb].inclusion = Metadata.InclusionType.AUTOMATIC
