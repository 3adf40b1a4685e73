"""The stream `leads`: what the API is, and the records and the state of a sync."""

from __future__ import annotations

import datetime as dt
import functools
import logging
import typing as t

import backoff
import requests
from singer_sdk import RESTStream
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.batch import Batcher
from singer_sdk.exceptions import FatalAPIError
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import RemoveRecordTransform
from singer_sdk.singerlib import ActivateVersionMessage, RecordMessage, StateMessage
from singer_sdk.singerlib.catalog import (
    REPLICATION_FULL_TABLE,
    REPLICATION_INCREMENTAL,
)
from singer_sdk.streams.rest import PageContext
from typing_extensions import override

from tap_mega.bookmark import REPLICATION_KEY, STREAM, Bookmark, Source
from tap_mega.catalog import complete_entry
from tap_mega.client import Client
from tap_mega.config.validation import is_loopback
from tap_mega.custom_fields import CustomFields
from tap_mega.openapi import DOCUMENT
from tap_mega.page import CursorPaginator
from tap_mega.progress import Progress, format_duration
from tap_mega.rate_limit import RateLimiter
from tap_mega.reader import Reader, Wait
from tap_mega.records import Columns, Conformer, is_plain
from tap_mega.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Auth, Context
    from singer_sdk.singerlib import Catalog

    from tap_mega.page import Lead, Page
    from tap_mega.tap import TapMega

PARAMETER_NAMES = {"stage_id": "stageId"}
"""Filters whose parameter has another name than the setting."""

TIMESTAMP_FILTERS = ("created_since",)

PARTIAL_SETTINGS = ("start_date", "filters", "batch_config")
"""Settings with which the records of a full-table sync are not all leads."""

MAX_BACKOFF_SECONDS = 60
MAX_TRIES_OF_A_TEST = 3
MIN_LOGGED_WAIT_SECONDS = 5


class WaitTooLongError(Exception):
    """A longer wait is needed than the setting `max_wait_seconds` allows."""


class LeadsStream(RESTStream[str | None]):
    """The leads of a customer, oldest change first.

    The order is fixed: with it, a bookmark means that everything before it was read.
    """

    name = STREAM
    path = "/api/agents/crm/leads"
    primary_keys = ("id",)
    replication_key = REPLICATION_KEY
    is_sorted = True

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """`post_process` does it: see `Conformer`."""

    def __init__(self, tap: TapMega) -> None:
        """Make the stream of a tap, whose clock it waits by."""
        super().__init__(tap)
        self._clock = tap.clock
        self._writer = tap.message_writer
        self._state_writer = tap.state_writer
        self._default_user_agent = f"{tap.name}/{tap.plugin_version}"
        self._version: int | None = None

    # What the API is

    @functools.cached_property
    @override
    def schema(self) -> dict[str, t.Any]:
        """The vendor's model `Lead`, resolved once: the SDK looks at it per lead."""
        schema = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        if not self.config["include_custom_fields"]:
            del schema["properties"]["custom_fields"]
        self._custom_fields.add_columns(schema)
        return schema

    @property
    @override
    def url_base(self) -> str:
        """The setting `api_url`."""
        return str(self.config["api_url"]).rstrip("/")

    @functools.cached_property
    @override
    def authenticator(self) -> Auth:
        """The header `Authorization: Bearer mega_…`."""
        return BearerTokenAuthenticator(token=self.config["auth_token"])

    @property
    @override
    def http_headers(self) -> dict[str, str]:
        """The other header that the API needs."""
        return {"x-customer-id": self.config["customer_id"]}

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
        """Return what follows `next_cursor`."""
        return CursorPaginator()

    @functools.cached_property
    @override
    def requests_session(self) -> requests.Session:
        """The one session of the sync, which keeps its connection open."""
        session = requests.Session()
        # A request to this machine must not go through a proxy of the environment.
        session.trust_env = not is_loopback(self.url_base)
        # `Session.send`, which the client calls, ignores REQUESTS_CA_BUNDLE.
        found = session.merge_environment_settings(self.url_base, {}, None, None, None)
        session.verify = found["verify"]
        return session

    @override
    def backoff_max_tries(self) -> int:
        """Return the setting `backoff_max_tries`; for `--test` at most three."""
        tries = int(self.config["backoff_max_tries"])
        return min(tries, MAX_TRIES_OF_A_TEST) if self.ABORT_AT_RECORD_COUNT else tries

    @override
    def backoff_wait_generator(self) -> Generator[float, None, None]:
        """Yield 1, 2, 4 … seconds, up to a minute, each with a random part."""
        waits = backoff.expo(max_value=MAX_BACKOFF_SECONDS)
        next(waits)  # The first value only starts the generator.
        for seconds in waits:
            yield self.backoff_jitter(seconds)

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        """Take over which properties are selected, and how to replicate.

        Raises:
            ConfigValidationError: If the stream cannot do what the catalog says.
        """
        if entry := catalog.get_stream(self.name):
            for line in complete_entry(entry, self.primary_keys, REPLICATION_KEY):
                self.logger.warning(line)
        else:
            self.logger.warning("The catalog lacks '%s': nothing is read", self.name)
        super().apply_catalog(catalog)
        self.replication_key = REPLICATION_KEY

    # The records of a sync

    @override
    def get_records(self, context: Context | None) -> Iterator[Lead]:
        """Yield the leads page by page, from where the last sync stopped.

        Raises:
            FatalAPIError: If the API cannot be read, or if the quota is spent and the
                state would be no better than before.
        """
        reader, position = self._new_reader(), self._bookmark.value
        progress = Progress(
            reader,
            self.rate_limiter,
            self.config["page_size"],
            self._clock.monotonic,
        )
        if self._replaces_table:
            self._version = int(self._started_at.timestamp())
        try:
            for page in self._pages(reader, progress):
                yield from page.leads
                self._checkpoint(page)
        except WaitTooLongError as error:
            if self._bookmark.value == position:
                raise FatalAPIError(str(error)) from None
            self.logger.warning(
                "%s. About %s leads are left for the next run", error, reader.left
            )
        self._activate_version(reader)
        self.logger.info("%s", progress.summary())
        self._log_warnings()

    def _pages(self, reader: Reader, progress: Progress) -> Iterator[Page]:
        """Yield the pages, and sleep through the waits between them."""
        for step in reader.pages(self._since):
            if isinstance(step, Wait):
                self._sleep(step)
                progress.add_wait(step.seconds)
                continue
            if line := progress.line():
                self.logger.info(line)
            yield step

    def _sleep(self, wait: Wait) -> None:
        """Sleep: the only place that does.

        Raises:
            WaitTooLongError: If the setting `max_wait_seconds` does not allow it.
        """
        longest, duration = (
            self.config["max_wait_seconds"],
            format_duration(wait.seconds),
        )
        if wait.is_retry:
            longest = max(longest, MAX_BACKOFF_SECONDS + 1)
            self.logger.warning("%s. Trying again in %s", wait.reason, duration)
        if wait.seconds > longest:
            msg = (
                f"Stopped: a wait of {duration} is needed ({wait.reason}), more than "
                "the setting 'max_wait_seconds' allows"
            )
            raise WaitTooLongError(msg)
        if wait.seconds > MIN_LOGGED_WAIT_SECONDS and not wait.is_retry:
            self.logger.info("Waiting %s: %s", duration, wait.reason)
        self._clock.sleep(wait.seconds)

    @functools.cached_property
    def rate_limiter(self) -> RateLimiter:
        """The limits of the key."""
        return RateLimiter(
            per_minute=self.config["requests_per_minute"],
            per_hour=self.config["requests_per_hour"],
        )

    def _new_reader(self) -> Reader:
        client = Client(
            self.requests_session,
            self._prepare,
            rate_limiter=self.rate_limiter,
            clock=self._clock,
            timeout=float(self.config["request_timeout"]),
            auth_token=self.config["auth_token"],
        )
        return Reader(
            client,
            self.rate_limiter,
            new_paginator=self.get_new_paginator,
            backoff=self.backoff_wait_generator,
            max_tries=self.backoff_max_tries(),
            now=self._clock.monotonic,
        )

    def _prepare(self, params: Mapping[str, t.Any]) -> requests.PreparedRequest:
        """Return the request for a page; `params` tell it apart from the others."""
        request = self.get_http_request(page=PageContext(None, None))
        request.params |= params
        return self.build_prepared_request(
            method=request.method,
            url=request.url,
            params=request.encode_params(),
            headers=request.headers,
        )

    @override
    def post_process(self, row: Lead, context: Context | None = None) -> Lead:
        """Add the columns of custom fields to a lead, and make it fit the schema."""
        self._custom_fields.fill(row)
        self._conformer.conform(row)
        return row

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
        """Return none: the stream has no children, and the SDK asks for each lead."""
        return ()

    @override
    def get_batches(
        self, batch_config: BatchConfig, context: Context | None = None
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Yield the files of BATCH messages, with what RECORD messages would hold.

        The SDK writes leads as they were read, and so properties that are deselected.
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

    @functools.cached_property
    def _custom_fields(self) -> CustomFields:
        types = self.config.get("custom_field_types")
        # `--discover` accepts settings that are not valid.
        return CustomFields(types if isinstance(types, dict) else {})

    @functools.cached_property
    def _reads_custom_fields(self) -> bool:
        names = ("custom_fields", *self._custom_fields.columns)
        selected = any(self.mask["properties", name] for name in names)
        return bool(self.config["include_custom_fields"] and selected)

    @functools.cached_property
    def _conformer(self) -> Conformer:
        return Conformer(self.effective_schema)

    @functools.cached_property
    def _is_plain(self) -> bool:
        return is_plain(self.stream_maps, self.mask)

    @functools.cached_property
    def _columns(self) -> Columns:
        customized = bool(self.config.get("stream_maps"))
        return Columns(self.stream_maps, customized=customized)

    def _log_warnings(self) -> None:
        for part in (self._custom_fields, self._conformer):
            for warning in part.warnings():
                self.logger.warning("%s", warning)

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
        """None: the stream keeps the SDK's partitions of the state by itself."""

    @functools.cached_property
    def _started_at(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.time(), dt.UTC)

    @functools.cached_property
    def _bookmark(self) -> Bookmark:
        source = Source.from_config(self.config)
        part = self.get_context_state(source.context)
        part.update(source.facts)
        return Bookmark(part, self._started_at)

    @property
    def _since(self) -> dt.datetime | None:
        """The `updated_at` to read from; None for all leads.

        This is the look-back before the bookmark, but never before `start_date`.
        """
        start_date = self.config.get("start_date")
        earliest = parse_timestamp(start_date) if start_date else None
        bookmark = self._bookmark.value
        if bookmark is None or self.replication_method == REPLICATION_FULL_TABLE:
            return earliest
        try:
            since = bookmark - dt.timedelta(seconds=self.config["lookback_seconds"])
        except OverflowError:
            return earliest
        return max(since, earliest) if earliest else since

    def _checkpoint(self, page: Page) -> None:
        """Move the bookmark to the end of a page, and write its leads and the state.

        BATCH messages are the exception: the SDK writes the state after each file.
        """
        if page.timestamps and self.replication_method == REPLICATION_INCREMENTAL:
            self._bookmark.advance(page.timestamps[-1])
        if self.config.get("batch_config"):
            return
        self._state_writer.write_state(self.tap_state)
        if self._writer.has_records:  # The SDK does not repeat a state.
            self._writer.write_message(StateMessage(self.tap_state))

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """Return None: `Bookmark` does not pass the start of the sync anyway."""

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
    def _replaces_table(self) -> bool:
        """Whether the loader shall remove rows that are not in this load."""
        full = self.replication_method == REPLICATION_FULL_TABLE
        if not (full and self.config["emit_activate_version_messages"]):
            return False
        partial = [name for name in PARTIAL_SETTINGS if self.config.get(name)]
        maps: dict[str, t.Any] = self.config.get("stream_maps") or {}
        if any("__filter__" in (it or {}) for it in maps.values()):
            partial.append("__filter__")
        if partial:
            self.logger.warning(
                "No ACTIVATE_VERSION: with '%s' the loader would remove leads that "
                "still exist",
                "' and '".join(partial),
            )
        return not partial

    def _activate_version(self, reader: Reader) -> None:
        """Let the loader remove rows that were not in this load, if it was complete."""
        if self._version is None:
            return
        if problem := incompleteness(reader):
            self.logger.warning("No ACTIVATE_VERSION: %s", problem)
            return
        for stream_map in self.stream_maps:
            if not isinstance(stream_map, RemoveRecordTransform):
                name = stream_map.stream_alias
                message = ActivateVersionMessage(name, version=self._version)
                self._writer.write_message(message)


def incompleteness(reader: Reader) -> str:
    """Return why a reader may not have read all leads; empty if it has."""
    if reader.total is None:
        return "the API did not say how many leads there are"
    if reader.left:
        return f"the API ended its pages {reader.left} leads before its total"
    return ""


def filter_params(filters: Mapping[str, str]) -> dict[str, str]:
    """Return the setting `filters` as parameters of the query."""
    params = {PARAMETER_NAMES.get(name, name): it for name, it in filters.items()}
    for name in TIMESTAMP_FILTERS:
        if value := params.get(name):
            params[name] = format_timestamp(parse_timestamp(value))
    return params
