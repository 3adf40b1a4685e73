"""How records leave: unchanged if possible, with all columns if flattened."""

from __future__ import annotations

import ast
import typing as t

from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform

from tap_mega.shared.errors import config_error

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """Return whether the key of a mapped stream depends on the whole key, and only it.

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


class Shape:
    """How the records of a stream leave: mapped, flattened, or as they are."""

    def __init__(self, stream: Stream) -> None:
        """Inspect the stream maps. The SDK always makes one."""
        maps, definitions = stream.stream_maps, map_definitions(stream)
        self.is_plain = all(stream.mask.values()) and all(
            type(it) is SameRecordTransform and not it.flattening_enabled for it in maps
        )
        """Whether whole leads leave, in their own shape and under their own name.

        Then the SDK's selection and mapping change nothing. They would take more than
        a quarter of the time of a lead: `python3 dev.py python -m benchmarks`.
        """
        self.replaced = {
            it.stream_alias
            for it in maps
            if not isinstance(it, RemoveRecordTransform)
            and _has_key(it, definitions.get(it.stream_alias, {}), stream.primary_keys)
        }
        """The mapped streams that hold each lead once: those with its key.

        The key may have another name, if `__key_properties__` says so. A stream map may
        add other streams, such as a history. Their old rows must stay.
        """
        self.filtered = {name for name, it in definitions.items() if "__filter__" in it}
        """The mapped streams that lack the leads that a `__filter__` drops."""
        self._columns = {
            it.stream_alias: dict.fromkeys(it.transformed_schema["properties"])
            for it in maps
            if it.flattening_enabled
        }

    def complete(self, message: RecordMessage) -> None:
        """Give a flattened record all columns of its schema, and no other.

        The SDK leaves a null object under its own name, which the schema lacks.

        Raises:
            ConfigValidationError: If a stream map makes a value that has no column.
        """
        names = self._columns.get(message.stream)
        if names is None:
            return
        complete = names | {
            name: value
            for name, value in message.record.items()
            if name in names or value is not None
        }
        if complete.keys() - names.keys():
            raise config_error(RESHAPED)
        message.record = complete
