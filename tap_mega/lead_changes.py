"""The stream `lead_changes`: each version of a lead that was read, in a few columns."""

from __future__ import annotations

import functools
import typing as t

from singer_sdk import Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import RemoveRecordTransform
from singer_sdk.singerlib import SchemaMessage
from typing_extensions import override

from tap_mega.catalog import complete_stream
from tap_mega.openapi import DOCUMENT
from tap_mega.shared.errors import config_error
from tap_mega.state.bookmark import REPLICATION_KEY
from tap_mega.streams import LeadsStream

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context
    from singer_sdk.singerlib import Catalog

    from tap_mega.api.page import Lead
    from tap_mega.records.writer import MegaWriter

    Json: t.TypeAlias = dict[str, t.Any]

COLUMNS = {
    "id": ("id",),
    "customer_id": ("customer_id",),
    "updated_at": ("updated_at",),
    "status": ("status",),
    "stage_id": ("current_stage", "id"),
    "stage_slug": ("current_stage", "slug"),
    "owner_id": ("owner", "id"),
    "score": ("score",),
    "qualified": ("qualified",),
}
"""The columns, and where in a lead their values are."""

NO_BATCH = (
    "The stream 'lead_changes' and the setting 'batch_config' exclude each other: "
    "deselect the stream, or remove the setting"
)


class LeadChangesStream(Stream):
    """The versions of leads. It sends no request: `LeadsStream` adds what it reads.

    It is a child stream of `leads`: users select it by itself, and only `LeadsStream`
    writes its records. Its rows have no
    version and no ACTIVATE_VERSION, so that no loader removes them.
    """

    name = "lead_changes"
    parent_stream_type = LeadsStream
    selected_by_default = False
    replication_key = REPLICATION_KEY

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """`LeadsStream` has conformed the lead."""

    def __init__(self, tap: Tap, leads: LeadsStream) -> None:
        """Make the stream, whose key is that of the leads and their `updated_at`."""
        super().__init__(tap)
        self.primary_keys: tuple[str, ...] = (*leads.primary_keys, REPLICATION_KEY)
        self._writer = t.cast("MegaWriter", tap.message_writer)

    @functools.cached_property
    @override
    def schema(self) -> Json:
        """Parts of the vendor's model `Lead`."""
        lead = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        required = [name for name in lead["required"] if name in COLUMNS]
        properties = {name: _part(lead, path) for name, path in COLUMNS.items()}
        return {**lead, "properties": properties, "required": required}

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply which properties are selected.

        Raises:
            ConfigValidationError: If the stream cannot do what the catalog says.
        """
        complete_stream(self, catalog, REPLICATION_KEY)
        super().apply_catalog(catalog)
        self.replication_key = REPLICATION_KEY
        if self.selected and self.config.get("batch_config"):
            raise config_error(NO_BATCH)

    def begin(self) -> None:
        """Write the SCHEMA messages."""
        for it in self.stream_maps:
            if not isinstance(it, RemoveRecordTransform):
                message = SchemaMessage(
                    it.stream_alias,
                    it.transformed_schema,
                    it.transformed_key_properties,
                    [REPLICATION_KEY],
                )
                self._writer.write_message(message)

    def add(self, lead: Lead) -> None:
        """Write this version of a lead."""
        version = {name: _value(lead, path) for name, path in COLUMNS.items()}
        for message in self._generate_record_messages(version):
            self._writer.write_message(message)

    @override
    def get_records(self, context: Context | None) -> Iterable[Json]:
        """Return none: `add` writes them."""
        return ()

    @override
    def finalize_state_progress_markers(self, state: Json | None = None) -> None:
        """Do nothing: the state is that of the leads."""


def _part(schema: Json, path: tuple[str, ...]) -> Json:
    """Return the schema of a property, which may be inside of another one."""
    for name in path:
        schema = schema["properties"][name]
    return schema


def _value(lead: Lead, path: tuple[str, ...]) -> t.Any:
    """Return the value of a property; None if the lead does not have it."""
    value: t.Any = lead
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
