"""The streams: what the API is, in the SDK's hooks, and one loop over events."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import typing as t

import backoff
from singer_sdk import RESTStream, Stream
from singer_sdk.authenticators import APIAuthenticatorBase
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import ActivateVersionMessage, RecordMessage, StateMessage
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE
from singer_sdk.streams.rest import HTTPRequest, PageContext
from typing_extensions import override

from tap_mega.api.client import Client
from tap_mega.api.page import MAX_KEY_LENGTH, CursorPaginator
from tap_mega.api.rate_limit import RateLimiter
from tap_mega.api.retry import Retrier
from tap_mega.api.transport import Transport
from tap_mega.catalog import complete_stream
from tap_mega.openapi import DOCUMENT
from tap_mega.records.conform import add_column
from tap_mega.records.custom_fields import CustomFields
from tap_mega.records.flatten import Columns, is_plain, replaced_streams
from tap_mega.records.rows import Rows
from tap_mega.shared.errors import config_error
from tap_mega.shared.words import counted
from tap_mega.state.document import REPLICATION_KEY, STREAM
from tap_mega.sync.customer import CustomerLogger, CustomerSync, Job, raise_failures
from tap_mega.sync.run import NOTHING_REMOVED, Complete, Leads, Run

if t.TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    import requests
    from singer_sdk.helpers.types import Auth, Context, TapState
    from singer_sdk.singerlib import Catalog

    from tap_mega.api.page import Lead
    from tap_mega.config.settings import Customer
    from tap_mega.tap import TapMega

    Json: t.TypeAlias = dict[str, t.Any]

MAX_BACKOFF_SECONDS = 60

REPAIRED = (
    "%s texts and numbers of leads were changed, because no database stores them: "
    "halves of a character became U+FFFD, NUL was dropped, and numbers beyond a double "
    "became 0 or null"
)

CHANGES_ALONE = (
    "The stream 'lead_changes' is written while 'leads' is read: select both, or turn "
    "off the setting 'include_lead_changes'"
)

CHANGE_COLUMNS = {
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
"""The columns of `lead_changes`, and where in a lead their values are."""


class LeadsStream(RESTStream[str | None]):
    """The leads of all customers of the settings."""

    name = STREAM
    path = "/api/agents/crm/leads"
    primary_keys: tuple[str, ...] = ("id",)
    """With `customers`, `customer_id` is part of the key: see docs/customers.md."""

    replication_key = REPLICATION_KEY
    is_sorted = True

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """`Rows` does it."""

    def __init__(self, tap: TapMega, changes: LeadChangesStream | None = None) -> None:
        """Make the stream of a tap, and the stream that it also writes, if wanted."""
        super().__init__(tap)
        self.tap, self._changes = tap, changes
        self._default_user_agent = f"{tap.name}/{tap.plugin_version}"
        if tap.config.get("customers"):
            self.primary_keys = ("customer_id", "id")

    # What the API is

    @functools.cached_property
    @override
    def schema(self) -> Json:
        """The vendor's model `Lead`, resolved once: the SDK looks at it per lead."""
        schema = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        if self.config["include_custom_fields"]:
            # A loader that validates would stop at a list in a custom field.
            del schema["properties"]["custom_fields"]["additionalProperties"]
        else:
            del schema["properties"]["custom_fields"]
        CustomFields(self._custom_field_types).add_columns(schema)
        add_column(schema)
        for name in self.primary_keys:
            schema["properties"][name]["maxLength"] = MAX_KEY_LENGTH
        return schema

    @property
    @override
    def url_base(self) -> str:
        """The setting `api_url`."""
        return self.tap.settings.api_url

    @property
    @override
    def authenticator(self) -> Auth:
        """None: each customer has a key of its own, see `get_http_request`."""
        return APIAuthenticatorBase()

    @override
    def get_http_request(self, *, page: PageContext[str | None]) -> HTTPRequest:
        """Return a request for the customer of its context, with the customer's key."""
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
        """Return the query that all pages share. The SDK leaves out what is None."""
        return {
            "sort_by": REPLICATION_KEY,
            "sort_dir": "asc",
            "limit": self.config["page_size"],
            "include_custom_fields": "true" if self._reads_custom_fields else None,
            **self.tap.settings.filters,
        }

    @override
    def get_new_paginator(self) -> CursorPaginator:
        """Return the paginator that follows `next_cursor`."""
        return CursorPaginator()

    @override
    def backoff_max_tries(self) -> int:
        """Return the setting `backoff_max_tries`."""
        return self.tap.settings.backoff_max_tries

    @override
    def backoff_wait_generator(self) -> Generator[float, None, None]:
        """Yield 1, 2, 4 … seconds, up to a minute, each with a random part."""
        waits = backoff.expo(max_value=MAX_BACKOFF_SECONDS)
        next(waits)  # The first value only starts the generator.
        for seconds in waits:
            yield self.backoff_jitter(seconds)

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply which properties are selected, and how to replicate.

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
        syncs, transport = self.new_syncs(self._job), self.new_transport()
        run = Run(
            self.new_clients(transport),
            syncs,
            self.tap.document,
            self.tap.settings,
            self._job,
            clock=self.tap.clock,
            stop=self.tap.stop,
            log=self.logger,
        )
        try:
            for event in run.events():
                match event:
                    case Leads():
                        yield from self._rows_of(event)
                    case Complete():
                        self._activate(event)
                    case _:
                        self._write_state()
        finally:
            transport.close()
        self._log_end(run, syncs)
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
        of = (
            f" of {counted(event.customers, 'customer')}" if event.customers > 1 else ""
        )
        self.logger.info(
            "Read all %s%s. Rows of leads that no longer exist are removed or marked "
            "now",
            counted(event.leads, "lead"),
            of,
        )
        for name in sorted(self._replaced_streams):
            message = ActivateVersionMessage(name, version=event.version)
            self.tap.message_writer.write_message(message)

    @override
    def _generate_record_messages(
        self, record: Lead
    ) -> Generator[RecordMessage, None, None]:
        """Yield the messages of a row. The SDK's own way takes longer."""
        if self._is_plain:
            now = dt.datetime.now(dt.UTC)
            yield RecordMessage(
                self.name, record, self._stream_version, time_extracted=now
            )
            return
        for message in super()._generate_record_messages(record):
            self._columns.complete(message)
            yield message

    @property
    def _custom_field_types(self) -> Mapping[str, str]:
        types = self.config.get("custom_field_types")
        # `--discover` accepts settings that are not valid.
        return types if isinstance(types, dict) else {}

    @functools.cached_property
    def _reads_custom_fields(self) -> bool:
        columns = CustomFields(self._custom_field_types).columns
        selected = any(
            self.mask["properties", it] for it in ("custom_fields", *columns)
        )
        return bool(self.config["include_custom_fields"] and selected)

    @functools.cached_property
    def _rows(self) -> Rows:
        return Rows(
            schema=self.effective_schema,
            document=DOCUMENT.get_schema("Lead"),
            mask=self.mask,
            types=self._custom_field_types,
            excluded=self.config.get("exclude_custom_fields") or (),
        )

    @functools.cached_property
    def _is_plain(self) -> bool:
        return is_plain(self.stream_maps, self.mask)

    @functools.cached_property
    def _columns(self) -> Columns:
        customized = bool(self.config.get("stream_maps"))
        return Columns(self.stream_maps, customized=customized)

    @functools.cached_property
    def _replaced_streams(self) -> set[str]:
        return replaced_streams(self.stream_maps, self.primary_keys)

    # What a run consists of

    @functools.cached_property
    def _job(self) -> Job:
        """What a run does: whether it can find deleted leads, for example."""
        finds_deleted = self.tap.settings.finds_deleted and self.selected
        if finds_deleted and (reason := self._why_nothing_is_removed()):
            self.logger.warning(NOTHING_REMOVED, reason)
            finds_deleted = False
        reads_all = self.replication_method == REPLICATION_FULL_TABLE
        return Job(finds_deleted=finds_deleted, reads_all=reads_all)

    def _why_nothing_is_removed(self) -> str:
        """Return why live leads could look deleted; empty if they cannot."""
        partial = list(self.tap.settings.partial)
        if self._replaced_streams & filtered_streams(self.config):
            partial.append("__filter__")
        if partial:
            names = "' and '".join(partial)
            return f"with '{names}', not all leads are read"
        if not self._replaced_streams:
            return "the setting 'stream_maps' leaves no stream with the key"
        return ""

    def new_syncs(self, job: Job) -> list[CustomerSync]:
        """Return the syncs of this run, one for each customer."""
        document, settings = self.tap.document, self.tap.settings
        if not job.finds_deleted:
            document.forget_deletions()
        return [
            CustomerSync(it.customer_id, document, settings, job, self._new_retrier(it))
            for it in settings.customers
        ]

    def _new_retrier(self, customer: Customer) -> Retrier:
        settings = self.tap.settings
        name = customer.customer_id if settings.has_many else None
        return Retrier(
            RateLimiter(settings.requests_per_minute, settings.requests_per_hour),
            backoff=self.backoff_wait_generator,
            max_tries=self.backoff_max_tries(),
            now=self.tap.clock.monotonic,
            log=CustomerLogger(self.logger, name),
        )

    def new_transport(self) -> Transport:
        """Return the connections of a run."""
        return Transport(self.url_base, self.tap.settings.request_timeout)

    def new_clients(self, transport: Transport) -> dict[str, Client]:
        """Return what sends the requests of each customer, by its ID."""
        return {
            it.customer_id: Client(
                transport, self._prepare(it.customer_id), self.tap.clock
            )
            for it in self.tap.settings.customers
        }

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

    def _write_state(self) -> None:
        """Write the records so far, and the state if it has changed."""
        self.tap.state_writer.write_state(self.tap_state)
        if self.tap.message_writer.has_records:  # The SDK does not repeat a state.
            self.tap.message_writer.write_message(StateMessage(self.tap_state))

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        """False: the SDK would emit the message before the first row.

        A loader would delete all rows then, and the table would be empty for hours.
        """
        return False

    @override
    def _write_starting_replication_value(self, context: Context | None) -> None:
        """Do nothing: where a sync starts is in the part of each customer."""

    @override
    def _increment_stream_state(
        self, latest_record: Mapping[str, t.Any], *, context: Context | None = None
    ) -> None:
        """Do nothing: the bookmark moves by the page, and the SDK compares text."""

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """Return None: a bookmark never passes the start of its pass anyway."""

    @property
    @override
    def partitions(self) -> None:
        """None: the run reads all customers at once."""

    def _log_end(self, run: Run, syncs: list[CustomerSync]) -> None:
        if repaired := sum(sync.repaired for sync in syncs):
            self.logger.warning(REPAIRED, f"{repaired:,}")
        for line in self._rows.warnings():
            self.logger.warning("%s", line)
        for line in self._rows.infos():
            self.logger.info("%s", line)
        with self.get_http_request_counter() as counter:
            counter.increment(run.progress.requests)

    @override
    def log(
        self,
        message: str,
        *args: t.Any,
        level: int = logging.INFO,
        **kwargs: t.Any,
    ) -> None:
        """Log, except that an error occurred: the command says which one."""
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
        """Make the stream, whose key is that of the leads and their `updated_at`."""
        super().__init__(tap)
        self.tap = tap
        key = ("customer_id", "id") if tap.config.get("customers") else ("id",)
        self.primary_keys: tuple[str, ...] = (*key, REPLICATION_KEY)

    @functools.cached_property
    @override
    def schema(self) -> Json:
        """Parts of the vendor's model `Lead`."""
        lead = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        required = [name for name in lead["required"] if name in CHANGE_COLUMNS]
        properties = {name: _part(lead, path) for name, path in CHANGE_COLUMNS.items()}
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

    def write(self, lead: Lead) -> None:
        """Write this version of a lead."""
        version = {name: _value(lead, path) for name, path in CHANGE_COLUMNS.items()}
        for message in self._generate_record_messages(version):
            self.tap.message_writer.write_message(message)

    @override
    def get_records(self, context: Context | None) -> Iterable[Json]:
        """Return none: `write` writes them."""
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


def filtered_streams(config: Mapping[str, t.Any]) -> set[str]:
    """Return the mapped streams that lack the leads that a `__filter__` drops."""
    maps: dict[str, t.Any] = config.get("stream_maps") or {}
    return {
        mapping.get("__alias__", name)
        for name, mapping in maps.items()
        if isinstance(mapping, dict) and "__filter__" in mapping
    }


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
