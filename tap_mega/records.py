"""Leads as they leave: what of them is wanted, in the shape that is asked for."""

from __future__ import annotations

import datetime as dt
import functools
import typing as t

from singer_sdk.batch import Batcher
from singer_sdk.exceptions import MapExpressionError, SingerSDKError
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib import RecordMessage

from tap_mega.client import MegaStream

if t.TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context

    Json: t.TypeAlias = dict[str, t.Any]
    Check: t.TypeAlias = Callable[[t.Any], bool]


RESHAPED = (
    "A stream map gives an object another shape, which flattening does not announce. "
    "In the setting 'stream_maps', give what it makes a name of its own, and drop the "
    "object with '__NULL__'"
)


class RecordStream(MegaStream):
    """A list whose records go the SDK's way only where that would change them."""

    def generate_child_contexts(
        self,
        record: Json,  # noqa: ARG002
        context: Context | None,  # noqa: ARG002
    ) -> Iterable[Context | None]:
        """Return none: no stream is a child of this one."""
        return ()

    @functools.cached_property
    def _is_plain(self) -> bool:
        """Whether all of a lead is wanted, in its own shape and under its own name."""
        plain = all(type(it) is SameRecordTransform for it in self.stream_maps)
        return plain and not self._flattened and all(self.mask.values())

    @functools.cached_property
    def _conforms(self) -> Callable[[Json], bool]:
        return conforms_to(self.effective_schema)

    @functools.cached_property
    def _flattened(self) -> dict[str, dict[str, None]]:
        """The names in each flattened schema, by the name of its stream."""
        return {
            it.stream_alias: dict.fromkeys(it.transformed_schema["properties"])
            for it in self.stream_maps
            if it.flattening_enabled
        }

    def _generate_record_messages(
        self,
        record: dict[str, t.Any],
    ) -> Generator[RecordMessage, None, None]:
        """Yield the messages of a lead; at once where the SDK would change nothing."""
        if not (self._is_plain and self._conforms(record)):
            yield from self._shape(record)
            return
        yield RecordMessage(
            stream=self.name,
            record=record,
            version=self._stream_version,
            time_extracted=dt.datetime.now(dt.UTC),
        )

    def _shape(self, record: Json) -> Iterator[RecordMessage]:
        """Yield the messages that are left of a lead, or made of it.

        Raises:
            MapExpressionError: If a stream map fails; without the error's own words,
                which may quote the lead.
        """
        try:
            for message in super()._generate_record_messages(record):
                if names := self._flattened.get(message.stream):
                    message.record = self._announced(message.record, names)
                yield message
        except SingerSDKError:
            raise
        except Exception as error:  # noqa: BLE001  # the user wrote what failed
            msg = (
                f"A stream map failed on a lead ({type(error).__name__}). Mend the "
                "setting 'stream_maps': a value may be null, or 'stream_map_config' "
                "lack what it uses"
            )
            raise MapExpressionError(msg) from None

    def _announced(self, record: Json, names: dict[str, None]) -> Json:
        complete = filled(record, names)
        if self.config.get("stream_maps") and complete.keys() - names.keys():
            raise MapExpressionError(RESHAPED)
        return complete

    def get_batches(
        self,
        batch_config: BatchConfig,
        context: Context | None = None,
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Yield the files of BATCH messages, with what messages would hold.

        The SDK would write leads as they were read, and so what is not selected.
        """
        batcher = Batcher(self.tap_name, self.name, batch_config)
        leads = self._sync_records(context, write_messages=False)
        records = (
            message.record
            for lead in leads
            for message in self._generate_record_messages(lead)
        )
        for manifest in batcher.get_batches(records):
            yield batch_config.encoding, manifest


def filled(record: Json, names: dict[str, None]) -> Json:
    """Return a flattened lead with all names of its schema.

    The SDK leaves an object that is null under its own name, which the flattened
    schema does not have.
    """
    return names | {
        name: value
        for name, value in record.items()
        if name in names or value is not None
    }


def conforms_to(schema: Json) -> Check:
    """Return a function that tells whether type conformance would change an object.

    The SDK's leaves out what the schema does not name, and makes a boolean of what
    should be one. It looks at every value of every lead for that, which takes longer
    than to read and write them; here the names are compared, and a few values.

    Args:
        schema: The JSON schema of an object, such as that of the model `Lead`.

    Returns:
        What returns True for an object that may stay as it is.
    """
    properties: Json = schema["properties"]
    names = properties.keys()
    checks = [(name, check) for name in names if (check := _check(properties[name]))]

    def conforms(value: t.Any) -> bool:
        for name, check in checks:
            if not check(value.get(name)):
                return False
        return bool(value.keys() <= names)

    return conforms


def _check(schema: Json) -> Check | None:
    """Return what a property's value has to pass; None where it may be anything."""
    if "properties" in schema:
        conforms = conforms_to(schema)
        return lambda value: not isinstance(value, dict) or conforms(value)
    if "boolean" in schema.get("type", ()):
        return lambda value: value is None or isinstance(value, bool)
    return None
