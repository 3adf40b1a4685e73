"""The streams: what the API is, in the SDK's hooks, and one loop over events."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import logging
import typing as t

import backoff
from singer_sdk import RESTStream, Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import ActivateVersionMessage, RecordMessage
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE
from singer_sdk.streams.rest import HTTPRequest, PageContext
from typing_extensions import override

from tap_mega.api.client import Client
from tap_mega.api.page import MAX_KEY_LENGTH, CursorPaginator
from tap_mega.api.transport import Transport
from tap_mega.catalog import complete_stream
from tap_mega.openapi import DOCUMENT
from tap_mega.records.changes import change_of, change_schema
from tap_mega.records.flatten import Shape
from tap_mega.records.rows import Rows, row_schema
from tap_mega.shared.errors import config_error
from tap_mega.shared.words import counted
from tap_mega.state.document import REPLICATION_KEY, STREAM
from tap_mega.sync.customer import (
    NOTHING_REMOVED,
    CustomerSync,
    Job,
    Tools,
    raise_failures,
)
from tap_mega.sync.run import Complete, Leads, Run

if t.TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    import requests
    from singer_sdk.helpers.types import Context, TapState
    from singer_sdk.singerlib import Catalog

    from tap_mega.api.page import Lead
    from tap_mega.sync.run import Send
    from tap_mega.tap import TapMega

    Json: t.TypeAlias = dict[str, t.Any]

MAX_BACKOFF_SECONDS = 60

ALL_READ = "Read all %s%s. Rows of leads that no longer exist are removed or marked now"

CHANGES_ALONE = (
    "The stream 'lead_changes' is written while 'leads' is read: select both, or turn "
    "off the setting 'include_lead_changes'"
)


class LeadsStream(RESTStream[str | None]):
    """The leads of all customers of the settings."""

    name = STREAM
    path = "/api/agents/crm/leads"
    primary_keys: tuple[str, ...] = ("id",)
    """With `customers`, `customer_id` is part of the key: see docs/customers.md."""

    replication_key = REPLICATION_KEY
    is_sorted = True

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """`Rows` conforms the leads."""

    def __init__(self, tap: TapMega, changes: LeadChangesStream | None = None) -> None:
        """Make the stream of a tap. It also writes the stream of changes, if any."""
        super().__init__(tap)
        self.tap, self._changes = tap, changes
        self._default_user_agent = f"{tap.name}/{tap.plugin_version}"
        if tap.config.get("customers"):
            self.primary_keys = ("customer_id", "id")

    # What the API is

    @functools.cached_property
    @override
    def schema(self) -> Json:
        """The vendor's model `Lead`, resolved once: the SDK reads it for each lead."""
        schema = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        if self.config["include_custom_fields"]:
            # A loader that validates would reject a list in a custom field.
            del schema["properties"]["custom_fields"]["additionalProperties"]
        else:
            del schema["properties"]["custom_fields"]
        row_schema(schema, self._field_types)
        for name in self.primary_keys:
            schema["properties"][name]["maxLength"] = MAX_KEY_LENGTH
        return schema

    @property
    @override
    def url_base(self) -> str:
        """The setting `api_url`."""
        return self.tap.settings.api_url

    @override
    def get_http_request(self, *, page: PageContext[str | None]) -> HTTPRequest:
        """Return a request for the customer of its context, with its token."""
        request = super().get_http_request(page=page)
        customer_id = t.cast("Mapping[str, str]", page.stream_context)["customer_id"]
        token = dict(self.tap.settings.customers)[customer_id]
        request.headers["x-customer-id"] = customer_id
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    @functools.cached_property
    @override
    def user_agent(self) -> str:
        """The setting `user_agent`, by default the name and version of the tap."""
        return str(self.config.get("user_agent", self._default_user_agent))

    @override
    def get_url_params(
        self, context: Context | None, next_page_token: str | None
    ) -> dict[str, t.Any]:
        """Return the query that all pages share. The SDK drops values that are None."""
        reads_custom_fields = (
            self.config["include_custom_fields"] and self._rows.reads_custom_fields
        )
        return {
            "sort_by": REPLICATION_KEY,
            "sort_dir": "asc",
            "limit": self.config["page_size"],
            "include_custom_fields": "true" if reads_custom_fields else None,
            **self.tap.settings.filters,
        }

    @override
    def get_new_paginator(self) -> CursorPaginator:
        """Return the paginator that follows `next_cursor`."""
        return CursorPaginator()

    @override
    def backoff_wait_generator(self) -> Generator[float, None, None]:
        """Yield 1, 2, 4 … seconds, up to a minute, each with a random part."""
        waits = backoff.expo(max_value=MAX_BACKOFF_SECONDS)
        next(waits)  # The first value only starts the generator.
        for seconds in waits:
            yield self.backoff_jitter(seconds)

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply the selection of properties and the replication method.

        Raises:
            ConfigValidationError: If the stream cannot do what the catalog says.
        """
        complete_stream(self, catalog, REPLICATION_KEY)
        if not any(map(catalog.get_stream, (self.name, LeadChangesStream.name))):
            self.logger.warning(
                "The catalog has no stream '%s', so no leads are read", self.name
            )
        super().apply_catalog(catalog)
        self.replication_key = REPLICATION_KEY
        if self._changes and self._changes.selected and not self.selected:
            raise config_error(CHANGES_ALONE)

    # The records of a sync

    @override
    def get_records(self, context: Context | None) -> Iterator[Lead]:
        """Yield the rows of all customers, page by page.

        Raises:
            FatalAPIError: If the leads of a customer cannot be read. All other
                customers are read first.
            Stopped: After a stop signal.
        """
        syncs = self.new_syncs(self._job)
        with self.sender() as send:
            run = Run(send, syncs, self.tap.document, self.tap.settings, self._job)
            for event in run.events(self.tap.clock, self.tap.stop, self.logger):
                match event:
                    case Leads():
                        yield from self._rows_of(event)
                    case Complete():
                        self._activate(event)
                    case _:
                        self.tap.state_writer.write_state(self.tap_state)
        self._log_end(run)
        raise_failures(syncs)

    def _rows_of(self, event: Leads) -> Iterator[Lead]:
        self._stream_version = event.version
        for lead in event.leads:
            row = self._rows.row(lead, event.customer_id)
            if self._changes and self._changes.selected:
                self._changes.write(row)
            yield row

    def _activate(self, event: Complete) -> None:
        """Let the loader remove the rows that were not in a full refresh."""
        leads, customers = counted(event.leads, "lead"), ""
        if event.customers > 1:
            customers = f" of {counted(event.customers, 'customer')}"
        self.logger.info(ALL_READ, leads, customers)
        for name in sorted(self._shape.replaced):
            message = ActivateVersionMessage(name, version=event.version)
            self.tap.message_writer.write_message(message)

    @override
    def _generate_record_messages(
        self, record: Lead
    ) -> Generator[RecordMessage, None, None]:
        """Yield the messages of a row. For plain rows, the SDK takes longer."""
        if self._shape.is_plain:
            now = dt.datetime.now(dt.UTC)
            yield RecordMessage(
                self.name, record, self._stream_version, time_extracted=now
            )
            return
        for message in super()._generate_record_messages(record):
            self._shape.complete(message)
            yield message

    @property
    def _field_types(self) -> dict[str, str]:
        types = self.config.get("custom_field_types")
        # `--discover` accepts settings that are not valid.
        return types if isinstance(types, dict) else {}

    @property
    def _excluded_fields(self) -> list[str]:
        slugs = self.config.get("exclude_custom_fields")
        return slugs if isinstance(slugs, list) else []

    @functools.cached_property
    def _rows(self) -> Rows:
        return Rows(
            schema=self.effective_schema,
            document=DOCUMENT.get_schema("Lead"),
            mask=self.mask,
            types=self._field_types,
            excluded=self._excluded_fields,
        )

    @functools.cached_property
    def _shape(self) -> Shape:
        return Shape(self)

    # What a run consists of

    @functools.cached_property
    def _job(self) -> Job:
        """The kind of this run, such as whether it finds deleted leads."""
        finds_deleted = self.tap.settings.finds_deleted and self.selected
        if finds_deleted and (reason := self._why_nothing_is_removed()):
            self.logger.warning(NOTHING_REMOVED, reason)
            finds_deleted = False
        reads_all = self.replication_method == REPLICATION_FULL_TABLE
        return Job(finds_deleted=finds_deleted, reads_all=reads_all)

    def _why_nothing_is_removed(self) -> str:
        """Return why live leads could look deleted; empty if they cannot."""
        partial = list(self.tap.settings.partial)
        if self._shape.replaced & self._shape.filtered:
            partial.append("__filter__")
        if partial:
            names = "' and '".join(partial)
            return f"with '{names}', not all leads are read"
        if not self._shape.replaced:
            return "the setting 'stream_maps' leaves no stream with the key"
        return ""

    def new_syncs(self, job: Job) -> list[CustomerSync]:
        """Return the syncs of this run, one for each customer."""
        document, settings = self.tap.document, self.tap.settings
        if not job.finds_deleted:
            document.forget_deletions()
        tools = Tools(
            self.backoff_wait_generator,
            self.get_new_paginator,
            self.tap.clock,
            self.logger,
        )
        return [
            CustomerSync(it, document, settings, job, tools)
            for it in settings.customers
        ]

    @contextlib.contextmanager
    def sender(self) -> Iterator[Send]:
        """Provide the function that sends the requests of all customers."""
        transport = Transport(self.url_base, self.tap.settings.request_timeout)
        clients = {
            it.customer_id: Client(
                transport, self._prepare(it.customer_id), self.tap.clock
            )
            for it in self.tap.settings.customers
        }
        try:
            yield lambda sync, *rest: clients[sync.customer_id].start(*rest)
        finally:
            transport.close()

    def _prepare(self, customer_id: str) -> requests.PreparedRequest:
        """Return what all requests of a customer have in common."""
        context = {"customer_id": customer_id}
        request = self.get_http_request(page=PageContext(context, None))
        return self.build_prepared_request(
            method=request.method,
            url=request.url,
            params=request.encode_params(),
            headers=request.headers,
        )

    # State and log

    @property
    @override
    def tap_state(self) -> TapState:
        """The state, which `Document` owns."""
        return self.tap.state

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        """False: the SDK would emit the message before the first row.

        A loader would delete all rows then, and the table would be empty for hours.
        """
        return False

    @override
    def _increment_stream_state(
        self, latest_record: Mapping[str, t.Any], *, context: Context | None = None
    ) -> None:
        """Do nothing: bookmarks move per page, and the SDK compares them as text."""

    def _log_end(self, run: Run) -> None:
        """Log the warnings for a person, and the metrics for machines."""
        for line in self._rows.warnings():
            self.logger.warning("%s", line)
        run.progress.log_metrics(self.name, self.path, self._rows.rescued)

    @override
    def log(
        self,
        message: str,
        *args: t.Any,
        level: int = logging.INFO,
        **kwargs: t.Any,
    ) -> None:
        """Log, except for errors: the command logs them."""
        if level < logging.ERROR:
            super().log(message, *args, level=level, **kwargs)


class LeadChangesStream(Stream):
    """Each version of a lead that was read, in a few columns.

    It sends no request: `LeadsStream` writes its records. They have no version, so that
    no loader removes them.
    """

    name = "lead_changes"
    replication_key = REPLICATION_KEY

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """`LeadsStream` has conformed the lead."""

    def __init__(self, tap: TapMega) -> None:
        """Make the stream. Its key is that of `leads`, and `updated_at`."""
        super().__init__(tap)
        self.tap = tap
        key = ("customer_id", "id") if tap.config.get("customers") else ("id",)
        self.primary_keys: tuple[str, ...] = (*key, REPLICATION_KEY)

    @functools.cached_property
    @override
    def schema(self) -> Json:
        """The columns of `lead_changes`, from the vendor's model `Lead`."""
        lead = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        return change_schema(lead)

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply the selection of properties.

        Raises:
            ConfigValidationError: If the stream cannot do what the catalog says.
        """
        complete_stream(self, catalog, REPLICATION_KEY)
        super().apply_catalog(catalog)
        self.replication_key = REPLICATION_KEY

    def write(self, lead: Lead) -> None:
        """Write this version of a lead."""
        for message in self._generate_record_messages(change_of(lead)):
            self.tap.message_writer.write_message(message)

    @override
    def get_records(self, context: Context | None) -> Iterable[Json]:
        """Return no records: `write` writes them."""
        return ()

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        """False: a loader would remove all earlier versions of the leads."""
        return False

    @property
    @override
    def tap_state(self) -> TapState:
        """The state, which is that of the leads."""
        return self.tap.state
