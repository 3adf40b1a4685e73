"""How records leave: as they are if possible, with all columns when flattened."""

from __future__ import annotations

import typing as t

from singer_sdk.exceptions import MapExpressionError
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from singer_sdk.mapper import StreamMap
    from singer_sdk.singerlib import RecordMessage

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


def replaced_streams(
    stream_maps: Iterable[StreamMap], primary_keys: Iterable[str]
) -> set[str]:
    """Return the mapped streams that hold each lead once: those with its key.

    A stream map may add other streams, such as a history. Their old rows must stay.
    """
    return {
        it.stream_alias
        for it in stream_maps
        if not isinstance(it, RemoveRecordTransform)
        and set(it.transformed_key_properties or ()) == set(primary_keys)
    }
