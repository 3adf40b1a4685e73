"""The stream `leads`: what the API is, and the records and the state of a sync."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import typing as t
from http import HTTPStatus

import backoff
from singer_sdk import RESTStream, metrics
from singer_sdk.batch import Batcher
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import ActivateVersionMessage, RecordMessage, StateMessage
from singer_sdk.singerlib.catalog import (
    REPLICATION_FULL_TABLE,
    REPLICATION_INCREMENTAL,
)
from singer_sdk.streams.rest import HTTPRequest, PageContext
from typing_extensions import override

from tap_mega.api.client import Client
from tap_mega.api.page import MAX_KEY_LENGTH, CursorPaginator
from tap_mega.api.rate_limit import RateLimiter
from tap_mega.api.reader import Reader
from tap_mega.api.session import new_session
from tap_mega.api.transport import Transport
from tap_mega.catalog import complete_stream
from tap_mega.config.customers import customers_of
from tap_mega.config.schema import LEADS_ARE_GONE
from tap_mega.openapi import DOCUMENT
from tap_mega.records.flatten import (
    Columns,
    filtered_streams,
    is_plain,
    replaced_streams,
)
from tap_mega.records.rows import Rows, row_schema
from tap_mega.shared.redaction import Redactor
from tap_mega.shared.timestamps import format_timestamp, from_epoch, parse_timestamp
from tap_mega.shared.words import counted
from tap_mega.state.bookmark import (
    REPLICATION_KEY,
    STREAM,
    Bookmark,
    digest,
    source_of,
)
from tap_mega.sync.customer import CustomerSync, raise_failures
from tap_mega.sync.full_refresh import FullRefresh
from tap_mega.sync.run import Run
from tap_mega.sync.scheduler import CustomerAuthenticator, CustomerLogger
from tap_mega.sync.table_refresh import TableRefresh

if t.TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    import requests
    from singer_sdk import Tap
    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Auth, Context
    from singer_sdk.singerlib import Catalog

    from tap_mega.api.page import Lead
    from tap_mega.api.position import Position
    from tap_mega.config.customers import Customer
    from tap_mega.lead_changes import LeadChangesStream
    from tap_mega.records.writer import MegaWriter
    from tap_mega.shared.clock import Clock

PARAMETER_NAMES = {"stage_id": "stageId"}
"""Filters whose parameter has another name than the setting."""

TIMESTAMP_FILTERS = ("created_since",)

PARTIAL_SETTINGS = ("start_date", "end_date", "filters", "batch_config")
"""Settings with which the records of a full-table sync are not all leads."""

ROW_SETTINGS = (
    *PARTIAL_SETTINGS,
    "stream_maps",
    "stream_map_config",
    "flattening_enabled",
)
"""A full-table sync starts over if one of these, or the schema, has changed."""

RESUMING = (
    "Resuming the full-table sync that began at %s. If another job writes into the "
    "same table, its rows need a version, too: see docs/full-refresh.md"
)

MAX_BACKOFF_SECONDS = 60

REPAIRED = (
    "%s texts and numbers of leads were changed, because no database stores them: "
    "halves of a character became U+FFFD, NUL was dropped, and numbers beyond a double "
    "became 0 or null"
)


class LeadsStream(RESTStream[str | None]):
    """The leads of a customer, oldest change first.

    The order is fixed: with it, a bookmark means that everything before it was read.
    """

    name = STREAM
    path = "/api/agents/crm/leads"
    primary_keys: tuple[str, ...] = ("id",)
    """With `customers`, `customer_id` is part of the key: see docs/scheduling.md."""

    replication_key = REPLICATION_KEY
    is_sorted = True

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """`post_process` does it: see `Rows`."""

    def __init__(self, tap: Tap, clock: Clock) -> None:
        """Make the stream of a tap, with the clock that it waits by."""
        super().__init__(tap)
        self._clock = clock
        self._writer = t.cast("MegaWriter", tap.message_writer)
        self._state_writer = tap.state_writer
        self._default_user_agent = f"{tap.name}/{tap.plugin_version}"
        self._version: int | None = None
        self._customer_id = ""
        """The customer whose leads are being read."""
        if tap.config.get("customers"):
            self.primary_keys = ("customer_id", "id")

    # What the API is

    @functools.cached_property
    @override
    def schema(self) -> dict[str, t.Any]:
        """The vendor's model `Lead`, resolved once: the SDK looks at it per lead."""
        schema = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        if self.config["include_custom_fields"]:
            # A loader that validates would stop at a list in a custom field.
            del schema["properties"]["custom_fields"]["additionalProperties"]
        else:
            del schema["properties"]["custom_fields"]
        row_schema(schema, self._field_types, self._excluded_fields)
        for name in self.primary_keys:
            schema["properties"][name]["maxLength"] = MAX_KEY_LENGTH
        return schema

    @property
    @override
    def url_base(self) -> str:
        """The setting `api_url`."""
        return str(self.config["api_url"]).rstrip("/")

    @functools.cached_property
    @override
    def authenticator(self) -> Auth:
        """The header `Authorization: Bearer mega_…`, by the request's customer."""
        return CustomerAuthenticator(customers_of(self.config))

    @override
    def get_http_request(self, *, page: PageContext[str | None]) -> HTTPRequest:
        """Return a request that names the customer of its context."""
        request = super().get_http_request(page=page)
        customer = t.cast("dict[str, str]", page.stream_context)
        request.headers["x-customer-id"] = customer["customer_id"]
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
            **filter_params(self.config.get("filters", {})),
            "cursor": next_page_token,
        }

    @override
    def get_new_paginator(self) -> CursorPaginator:
        """Return the paginator that follows `next_cursor`."""
        return CursorPaginator()

    @functools.cached_property
    @override
    def requests_session(self) -> requests.Session:
        """The one session of the sync: its proxies and certificates."""
        return new_session(self.url_base)

    @override
    def backoff_max_tries(self) -> int:
        """Return the setting `backoff_max_tries`."""
        return int(self.config["backoff_max_tries"])

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
        names = (self.name, *(it.name for it in self.child_streams))
        if not any(map(catalog.get_stream, names)):
            self.logger.warning(
                "The catalog has no stream '%s', so no leads are read", self.name
            )
        super().apply_catalog(catalog)
        self.replication_key = REPLICATION_KEY

    # The records of a sync

    @override
    def get_records(self, context: Context | None) -> Iterator[Lead]:
        """Yield the leads page by page, from where the last sync stopped.

        Raises:
            FatalAPIError: If the leads of a customer cannot be read, or if it has no
                quota and made no progress. All other customers are read first.
        """
        self._begin_changes()
        refresh = TableRefresh(self._refreshes.values())
        syncs = self.new_syncs()
        run = Run(syncs, self.config, self._clock, self.logger)
        if began_at := refresh.resumed_from():
            self.logger.info(RESUMING, format_timestamp(began_at))
        if self._is_needed(refresh, run, syncs):
            refresh.begin(self._started_at)
            yield from self._read(run, refresh.version)
            self._end(refresh, syncs)

    def _read(self, run: Run, version: int) -> Iterator[Lead]:
        """Yield the leads of all pages, and write the state after each page."""
        if self._replaces_table:
            self._version = version
        for sync, page in run.pages():
            if self._marks_rows:
                self._version = int(page.requested_at)
            self._customer_id = sync.customer_id
            yield from page.leads
            sync.checkpoint(page)
            self._write_state()

    def _end(self, refresh: TableRefresh, syncs: Sequence[CustomerSync]) -> None:
        """Log what a person should know, and end a full-table sync.

        Raises:
            FatalAPIError: As `get_records`.
        """
        self._log_warnings(syncs)
        if refresh.is_complete(syncs, warns=self._replaces_table):
            if self._replaces_table:
                self._activate(refresh.version)
            refresh.end(is_activated=self._replaces_table)
        self._write_state()
        self._log_requests(syncs)
        raise_failures(syncs)

    def new_syncs(self) -> list[CustomerSync]:
        """Return the syncs of this run, one for each customer."""
        return [self._new_sync(customer) for customer in customers_of(self.config)]

    def _new_sync(self, customer: Customer) -> CustomerSync:
        start_date = self.config.get("start_date")
        earliest = parse_timestamp(start_date) if start_date else None
        bookmark = Bookmark(self._part_of(customer), self._started_at)
        refresh = self._refreshes.get(customer)
        lookback = self.config["lookback_seconds"]
        start = (
            refresh.start(earliest) if refresh else bookmark.start(earliest, lookback)
        )
        name = customer.customer_id if self.config.get("customers") else None
        log = CustomerLogger(self.logger, name)
        return CustomerSync(
            self._new_reader(customer, start.position, log),
            bookmark,
            start,
            refresh=refresh,
            customer_id=customer.customer_id,
            log=log,
        )

    def _new_reader(
        self, customer: Customer, position: Position | None, log: CustomerLogger
    ) -> Reader:
        rate_limiter = RateLimiter(
            per_minute=self.config["requests_per_minute"],
            per_hour=self.config["requests_per_hour"],
        )
        redactor = Redactor(customer.auth_token, self.config.get("filters", {}))
        client = Client(
            self._transport,
            functools.partial(self._prepare, customer),
            rate_limiter=rate_limiter,
            clock=self._clock,
            redact=redactor.redact,
        )
        end_date = self.config.get("end_date")
        return Reader(
            client,
            rate_limiter,
            page_size=self.config["page_size"],
            until=end_date and parse_timestamp(end_date),
            backoff=self.backoff_wait_generator,
            max_tries=self.backoff_max_tries(),
            now=self._clock.monotonic,
            log=log,
            position=position,
        )

    @functools.cached_property
    def _transport(self) -> Transport:
        timeout = float(self.config["request_timeout"])
        return Transport(self.requests_session, timeout)

    def _prepare(
        self, customer: Customer, params: Mapping[str, t.Any]
    ) -> requests.PreparedRequest:
        """Return the request for a page; `params` tell it apart from the others."""
        context = {"customer_id": customer.customer_id}
        request = self.get_http_request(page=PageContext(context, None))
        request.params |= params
        return self.build_prepared_request(
            method=request.method,
            url=request.url,
            params=request.encode_params(),
            headers=request.headers,
        )

    @override
    def post_process(self, row: Lead, context: Context | None = None) -> Lead:
        """Make a row of a lead."""
        return self._rows.row(row, self._customer_id)

    @override
    def _generate_record_messages(
        self, record: Lead
    ) -> Generator[RecordMessage, None, None]:
        """Yield the messages of a lead, with the version of this sync if it has one."""
        if self._is_plain:
            yield RecordMessage(
                self.name, record, self._version, time_extracted=dt.datetime.now(dt.UTC)
            )
            return
        for message in super()._generate_record_messages(record):
            message.version = self._version
            self._columns.complete(message)
            yield message

    @override
    def generate_child_contexts(
        self, record: Lead, context: Context | None
    ) -> Iterable[Context | None]:
        """Write the version of a lead, and return none: that takes no request."""
        for changes in self._selected_changes:
            changes.add(record)
        return ()

    @override
    def get_batches(
        self, batch_config: BatchConfig, context: Context | None = None
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Yield the files of BATCH messages, with what RECORD messages would hold.

        The SDK would write unprocessed leads, with deselected properties.
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
    def _reads_custom_fields(self) -> bool:
        return self.config["include_custom_fields"] and self._rows.reads_custom_fields

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
    def _selected_changes(self) -> list[LeadChangesStream]:
        """The stream `lead_changes`, if it is selected."""
        return [
            t.cast("LeadChangesStream", it) for it in self.child_streams if it.selected
        ]

    def _begin_changes(self) -> None:
        for changes in self._selected_changes:
            changes.begin()

    @functools.cached_property
    def _is_plain(self) -> bool:
        return is_plain(self.stream_maps, self.mask)

    @functools.cached_property
    def _columns(self) -> Columns:
        customized = bool(self.config.get("stream_maps"))
        return Columns(self.stream_maps, customized=customized)

    def _log_warnings(self, syncs: Sequence[CustomerSync]) -> None:
        if repaired := sum(sync.repaired for sync in syncs):
            self.logger.warning(REPAIRED, f"{repaired:,}")
        for line in self._rows.warnings():
            self.logger.warning("%s", line)
        for line in self._rows.infos():
            self.logger.info("%s", line)

    def _log_requests(self, syncs: Sequence[CustomerSync]) -> None:
        """Log the SDK's metric of requests, those that were refused by themselves."""
        refusals = sum(sync.reader.refusals for sync in syncs)
        with self.get_http_request_counter() as counter:
            counter.increment(sum(sync.reader.requests for sync in syncs) - refusals)
        if refusals:
            status = {metrics.Tag.HTTP_STATUS_CODE: HTTPStatus.TOO_MANY_REQUESTS}
            with metrics.http_request_counter(self.name, self.path, **status) as it:
                it.increment(refusals)

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

    # The state of a sync

    @property
    @override
    def partitions(self) -> None:
        """None: the stream manages the partitions of the state itself."""

    @functools.cached_property
    def _started_at(self) -> dt.datetime:
        return from_epoch(self._clock.time())

    def _part_of(self, customer: Customer) -> dict[str, t.Any]:
        """Return the part of the state that belongs to a customer."""
        source = source_of(customer, self.config)
        part = self.get_context_state(source.context)
        part.update(source.facts)
        return part

    def _write_state(self) -> None:
        """Write the leads so far, and the state.

        BATCH messages are the exception: the SDK writes the state after each file.
        """
        if self.config.get("batch_config"):
            return
        self._state_writer.write_state(self.tap_state)
        if self._writer.has_records:  # The SDK does not repeat a state.
            self._writer.write_message(StateMessage(self.tap_state))

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """Return None: `Bookmark` already stays before the start of the sync."""

    @override
    def _write_starting_replication_value(self, context: Context | None) -> None:
        """Do nothing: where a sync starts is in the part of each customer."""

    @override
    def _increment_stream_state(
        self, latest_record: Mapping[str, t.Any], *, context: Context | None = None
    ) -> None:
        """Do nothing: the bookmark moves by the page, and the SDK compares text."""

    # Full tables

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        """False: the SDK would emit the message before the first row.

        A loader would delete all rows then, and the table would be empty for hours.
        """
        return False

    @functools.cached_property
    def _refreshes(self) -> dict[Customer, FullRefresh]:
        """The full-table sync of each customer; empty in an incremental sync."""
        if self.replication_method == REPLICATION_INCREMENTAL:
            return {}
        settings = {name: self.config.get(name) for name in ROW_SETTINGS}
        rows = {"schema": self.effective_schema, "versions": self._replaces_table}
        columns = digest({**rows, **settings})
        refreshes = {
            customer: FullRefresh(
                self._part_of(customer),
                self._started_at,
                columns,
                is_whole=not self._partial_settings,
            )
            for customer in customers_of(self.config)
        }
        if any(it.has_other_columns for it in refreshes.values()):
            self.logger.warning(
                "The full-table sync starts over: its columns or settings have changed "
                "since it began"
            )
        return refreshes

    @functools.cached_property
    def _partial_settings(self) -> list[str]:
        """The settings with which a full-table sync does not load all leads."""
        partial = [name for name in PARTIAL_SETTINGS if self.config.get(name)]
        filtered = self._replaced_streams & filtered_streams(self)
        return [*partial, "__filter__"] if filtered else partial

    @functools.cached_property
    def _replaces_table(self) -> bool:
        """Whether the loader shall remove rows that are not in this load."""
        full = self.selected and self.replication_method == REPLICATION_FULL_TABLE
        if not (full and self.config["emit_activate_version_messages"]):
            return False
        if self._partial_settings:
            self.logger.warning(
                "No ACTIVATE_VERSION: with '%s' the loader would remove leads that "
                "still exist",
                "' and '".join(self._partial_settings),
            )
        if others := self._customers_left_out():
            self.logger.warning(
                "No ACTIVATE_VERSION: the loader would remove the leads of %s that the "
                "settings leave out, and the state has: see docs/scheduling.md",
                counted(others, "customer"),
            )
        return not (self._partial_settings or others)

    def _customers_left_out(self) -> int:
        """Return how many other customers have rows in the table, by the state."""
        names = {
            source_of(it, self.config).customer_id for it in customers_of(self.config)
        }
        parts = self.stream_state.get("partitions", ())
        return sum(it["context"]["customer_id"] not in names for it in parts)

    def _is_needed(
        self, refresh: TableRefresh, run: Run, syncs: Sequence[CustomerSync]
    ) -> bool:
        """Return whether to read anything: by default, always."""
        if self.config["full_refresh_when"] != LEADS_ARE_GONE:
            return True
        if not self._refreshes or self._partial_settings:
            return True
        max_age = dt.timedelta(days=self.config["full_refresh_max_age_days"])
        return refresh.is_needed(run, syncs, max_age, self.logger)

    @functools.cached_property
    def _marks_rows(self) -> bool:
        """Whether records of an incremental sync have a version.

        Theirs is the time at which their page was requested. So a full refresh that
        started before does not remove a lead that only this sync has read.
        """
        incremental = self.replication_method == REPLICATION_INCREMENTAL
        return incremental and bool(self.config["emit_activate_version_messages"])

    def _activate(self, version: int) -> None:
        """Let the loader remove the rows that were not in this load."""
        self.logger.info("All leads were read: the loader may remove all other rows")
        for name in sorted(self._replaced_streams):
            self._writer.write_message(ActivateVersionMessage(name, version=version))

    @functools.cached_property
    def _replaced_streams(self) -> set[str]:
        return replaced_streams(self)


def filter_params(filters: Mapping[str, str]) -> dict[str, str]:
    """Return the setting `filters` as parameters of the query."""
    params = {PARAMETER_NAMES.get(name, name): it for name, it in filters.items()}
    for name in TIMESTAMP_FILTERS:
        if value := params.get(name):
            params[name] = format_timestamp(parse_timestamp(value))
    return params
