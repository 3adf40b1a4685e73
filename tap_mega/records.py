"""How records leave: conformed to the schema, with all columns when flattened."""

from __future__ import annotations

import decimal
import types
import typing as t

from singer_sdk.exceptions import MapExpressionError
from singer_sdk.mapper import SameRecordTransform

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from singer_sdk.mapper import StreamMap
    from singer_sdk.singerlib import RecordMessage

    Json: t.TypeAlias = dict[str, t.Any]

RESHAPED = (
    "A stream map changes the shape of an object, so its flattened columns are not in "
    "the schema. In the setting 'stream_maps', store the result under a new name, and "
    "remove the object with '__NULL__'"
)

KEPT_BY_THE_SDK = (bool, float, decimal.Decimal, types.NoneType)
"""The types of values that the SDK leaves as they are in a boolean property."""


class Conformer:
    """Makes leads fit their schema, in place.

    It does what the SDK's type conformance does for parsed JSON: it drops properties
    that the schema does not name, and makes a boolean of what should be one. The SDK
    looks at every value of every lead, which takes longer than to read and write them.
    """

    def __init__(
        self, schema: Json, path: str = "", dropped: set[str] | None = None
    ) -> None:
        """Prepare for the JSON schema of an object.

        Args:
            schema: The schema; its `properties` may be objects, too.
            path: Where the object is inside of a lead, such as `owner.`.
            dropped: Collects the paths of what is dropped.
        """
        properties: Json = schema["properties"]
        self._path = path
        self._dropped: set[str] = set() if dropped is None else dropped
        self._names = properties.keys()
        self._booleans = [
            name for name, it in properties.items() if "boolean" in it.get("type", ())
        ]
        self._objects = {
            name: Conformer(it, f"{path}{name}.", self._dropped)
            for name, it in properties.items()
            if "properties" in it
        }

    def conform(self, record: Json) -> None:
        """Make an object fit."""
        if not record.keys() <= self._names:
            for name in record.keys() - self._names:
                del record[name]
                self._dropped.add(f"{self._path}{name}")
        for name in self._booleans:
            value = record.get(name)
            if not isinstance(value, KEPT_BY_THE_SDK):
                record[name] = value != 0
        self._conform_objects(record)

    def _conform_objects(self, record: Json) -> None:
        for name, part in self._objects.items():
            value = record.get(name)
            if isinstance(value, dict):
                part.conform(value)

    def warnings(self) -> Iterator[str]:
        """Yield a line if anything was dropped."""
        if self._dropped:
            names = "', '".join(sorted(self._dropped))
            yield f"Left out, because the schema does not have them: '{names}'"


def is_plain(stream_maps: Iterable[StreamMap], mask: Mapping[t.Any, bool]) -> bool:
    """Return whether all of a lead is wanted, in its own shape and under its name.

    Then the SDK's selection and mapping change nothing. They would take more than a
    quarter of the time of a lead: `python3 dev.py python -m benchmarks` measures it.
    """
    return all(mask.values()) and all(
        type(it) is SameRecordTransform and not it.flattening_enabled
        for it in stream_maps
    )


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
