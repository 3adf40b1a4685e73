"""How records leave: as they are if possible, with all columns when flattened."""

from __future__ import annotations

import ast
import typing as t

from singer_sdk.exceptions import MapExpressionError
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from singer_sdk import Stream
    from singer_sdk.mapper import StreamMap
    from singer_sdk.singerlib import RecordMessage

KEY_FUNCTIONS = {"md5", "sha256", "str", "config"}
"""What an expression may use so that its value still depends on the key alone."""

RESHAPED = (
    "A stream map changes the shape of an object, so its flattened columns are not in "
    "the schema. In the setting 'stream_maps', store the result under a new name, and "
    "remove the object with '__NULL__'"
)


def is_plain(stream_maps: Iterable[StreamMap], mask: Mapping[t.Any, bool]) -> bool:
    """Return whether all of a lead is wanted, in its own shape and under its name.

    Then the SDK's selection and mapping change nothing. They would take more than a
    quarter of the time of a lead: `python3 dev.py python -m benchmarks` measures it.
    """
    return all(mask.values()) and all(
        type(it) is SameRecordTransform and not it.flattening_enabled
        for it in stream_maps
    )


def replaced_streams(stream: Stream) -> set[str]:
    """Return the mapped streams that hold each lead once: those with its key.

    The key may have another name, if the stream map's `__key_properties__` says so. A
    stream map may add other streams, such as a history. Their old rows must stay.
    """
    definitions = map_definitions(stream)
    return {
        it.stream_alias
        for it in stream.stream_maps
        if not isinstance(it, RemoveRecordTransform)
        and _has_key(it, definitions.get(it.stream_alias, {}), stream.primary_keys)
    }


def filtered_streams(stream: Stream) -> set[str]:
    """Return the mapped streams that lack the leads that a `__filter__` drops."""
    return {name for name, it in map_definitions(stream).items() if "__filter__" in it}


def map_definitions(stream: Stream) -> dict[str, Mapping[str, t.Any]]:
    """Return what the setting `stream_maps` says, by the name of the mapped stream.

    The SDK's first map is that of the stream itself, whatever its `__alias__`.
    """
    maps: dict[str, Mapping[str, t.Any]] = {
        name: it
        for name, it in (stream.config.get("stream_maps") or {}).items()
        if isinstance(it, dict) and it.get("__source__", name) == stream.name
    }
    if stream.name in maps:
        maps[stream.stream_maps[0].stream_alias] = maps.pop(stream.name)
    return maps


def _has_key(
    stream_map: StreamMap, definition: Mapping[str, t.Any], key: Sequence[str]
) -> bool:
    """Return whether the key of a mapped stream is made of the whole key, and only it.

    Otherwise two versions of a lead may be two rows.
    """
    properties = stream_map.transformed_key_properties or ()
    used = {
        node.id
        for name in properties
        for node in ast.walk(ast.parse(definition.get(name, name)))
        if isinstance(node, ast.Name)
    }
    return used - KEY_FUNCTIONS == set(key)


class Columns:
    """The columns that flattened schemas announce, by stream."""

    def __init__(self, stream_maps: Iterable[StreamMap], *, customized: bool) -> None:
        """Look the columns up.

        Args:
            stream_maps: The maps of the stream, of which the SDK always makes one.
            customized: Whether the setting `stream_maps` is in use.
        """
        self._customized = customized
        self._names = {
            it.stream_alias: dict.fromkeys(it.transformed_schema["properties"])
            for it in stream_maps
            if it.flattening_enabled
        }

    def complete(self, message: RecordMessage) -> None:
        """Give a flattened record all columns of its schema, and no other.

        The SDK leaves a null object under its own name, which the schema lacks.

        Raises:
            MapExpressionError: If a stream map makes a value that has no column.
        """
        names = self._names.get(message.stream)
        if names is None:
            return
        complete = names | {
            name: value
            for name, value in message.record.items()
            if name in names or value is not None
        }
        if self._customized and complete.keys() - names.keys():
            raise MapExpressionError(RESHAPED)
        message.record = complete
