"""What is asked for, where a sync starts, and which state it leaves."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import logging
import typing as t

from singer_sdk.exceptions import (
    FatalAPIError,
)
from singer_sdk.singerlib.catalog import (
    REPLICATION_FULL_TABLE,
    REPLICATION_INCREMENTAL,
)

from tap_mega import custom_fields
from tap_mega.client import RequestRefusedError, WaitTooLongError
from tap_mega.openapi import DOCUMENT
from tap_mega.pagination import read_page
from tap_mega.records import RecordStream
from tap_mega.settings import format_moment, parse_moment, refusal

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests
    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context
    from singer_sdk.singerlib import Catalog

    from tap_mega.quota import Clock
    from tap_mega.writer import MegaWriter

    Lead: t.TypeAlias = dict[str, t.Any]

METHODS = (REPLICATION_INCREMENTAL, REPLICATION_FULL_TABLE)

QUERY_NAMES = {"stage_id": "stageId"}
"""Filters whose name in the API is not that of the setting."""

PARTIAL = ("start_date", "filters", "batch_config")
"""Settings with which the records of a full-table sync are not all leads."""

MOMENTS = ("created_since",)
"""Filters that are a date or a date-time."""


class LeadsStream(RecordStream):
    """The leads of the customer, oldest change first.

    The order is fixed: it is what makes a bookmark mean that all before it is read.
    """

    name = "leads"
    path = "/api/agents/crm/leads"
    primary_keys = ("id",)
    replication_key = "updated_at"
    is_sorted = True

    def __init__(self, tap: Tap, clock: Clock) -> None:
        """Make the stream, with the clock that its waits and its bookmark go by."""
        super().__init__(tap, clock)
        self._since: dt.datetime | None = None
        """The `updated_since` of the requests."""
        self._last_read: dt.datetime | None = None
        """`updated_at` of the last lead that went out in this sync."""
        self._unreadable: collections.Counter[str] = collections.Counter()
        """How many values of a custom field were not of the type of its column."""

    @functools.cached_property
    def schema(self) -> dict[str, t.Any]:
        """The vendor's model `Lead`, resolved once: it is looked at for each lead."""
        schema = DOCUMENT.get_schema("Lead", key_properties=self.primary_keys)
        if not self.config["include_custom_fields"]:
            del schema["properties"]["custom_fields"]
        custom_fields.add_columns(schema, self._field_types)
        return schema

    @functools.cached_property
    def _field_types(self) -> dict[str, str]:
        """The custom fields that get a column of their own, with their types."""
        types = self.config.get("custom_field_types")
        # `--discover` comes here with settings that are wrong, too.
        return types if isinstance(types, dict) else {}

    @functools.cached_property
    def _includes_custom_fields(self) -> bool:
        names = ("custom_fields", *map(custom_fields.column, self._field_types))
        selected = any(self.mask["properties", name] for name in names)
        return bool(self.config["include_custom_fields"] and selected)

    def get_url_params(
        self,
        context: Context | None,  # noqa: ARG002
        next_page_token: str | None,
    ) -> dict[str, t.Any]:
        """Return the query. What is None is left out by the SDK."""
        return {
            "sort_by": self.replication_key,
            "sort_dir": "asc",
            "limit": self.config["page_size"],
            "include_custom_fields": "true" if self._includes_custom_fields else None,
            **filter_params(self.config.get("filters", {})),
            "updated_since": self._since and format_moment(self._since),
            "cursor": next_page_token,
        }

    def apply_catalog(self, catalog: Catalog) -> None:
        """Take over what the catalog selects, and how to replicate.

        Raises:
            ConfigValidationError: If it asks for what this stream cannot do.
        """
        super().apply_catalog(catalog)
        if catalog.get_stream(self.name) is None:
            self.logger.warning("The catalog lacks '%s': nothing is read", self.name)
        if "properties" not in self.effective_schema:
            msg = "The catalog's schema of 'leads' is empty: make it with --discover"
            raise refusal(msg)
        if self.replication_method not in METHODS:
            msg = (
                f"The catalog's replication_method must be one of {', '.join(METHODS)}"
            )
            raise refusal(msg)
        if self.replication_key not in {None, "", LeadsStream.replication_key}:
            msg = (
                "The catalog's replication_key must be updated_at: the API has no other"
            )
            raise refusal(msg)
        self.replication_key = LeadsStream.replication_key

    is_timestamp_replication_key = True

    # Where a sync starts

    @functools.cached_property
    def _began(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.clock.time(), dt.UTC)

    def get_replication_key_signpost(
        self,
        context: Context | None = None,  # noqa: ARG002
    ) -> dt.datetime | None:
        """Return the moment at which the sync began: no bookmark passes it.

        So a lead that is dated in the future hides none that changes before then.
        """
        return self._began

    def _starting_moment(self, context: Context | None) -> dt.datetime | None:
        """Return the `updated_at` to read from, or None for all leads.

        That is the look-back before the bookmark, but never before `start_date`.
        """
        start_date = self.config.get("start_date")
        earliest = parse_moment(start_date) if start_date else None
        start = self.get_starting_timestamp(context)
        if start is None or start == earliest:
            return earliest
        try:
            start -= dt.timedelta(seconds=self.config["lookback_seconds"])
        except OverflowError:
            return earliest
        return max(start, earliest) if earliest else start

    # Reading

    def get_records(self, context: Context | None) -> Iterator[Lead]:
        """Yield the leads from where the last sync left off.

        Raises:
            FatalAPIError: If the API cannot be read, or the quota is spent and there
                is no state to resume from that would be any better than before.
        """
        self._since = self._starting_moment(context)
        self._bookmark_before = self._bookmark()
        self.progress.restart()
        if self._replaces_table:
            self._stream_version = int(self._began.timestamp())
        try:
            yield from self.request_records(context)
        except WaitTooLongError as error:
            self._stop_early(error)
        self._finish()
        self.checkpoint()
        self.logger.info("%s", self.progress.summary())
        self._tell_unreadable()

    def _tell_unreadable(self) -> None:
        """Warn of values that are null in a column, without telling them."""
        for slug, count in self._unreadable.items():
            self.logger.warning(
                "The custom field '%s' cannot be read as '%s' in %s of the leads: '%s' "
                "is null there. Change its type in the setting 'custom_field_types', "
                "or mend it in MEGA",
                slug,
                self._field_types[slug],
                count,
                custom_fields.column(slug),
            )

    def _finish(self) -> None:
        """Let the loader remove what did not come, if all has come."""
        if not self._stream_version:
            return
        if not self.progress.knows_total:
            self.logger.warning(
                "No ACTIVATE_VERSION: the API did not tell how many leads there are"
            )
        elif left := self.progress.left():
            self.logger.warning(
                "No ACTIVATE_VERSION: the API ended its pages %s leads before the "
                "total that it told",
                left,
            )
        else:
            self._write_activate_version_message(self._stream_version)

    @property
    def emit_activate_version_messages(self) -> bool:
        """Whether the SDK is to: never, since it does so before the first row.

        A loader would delete all rows then, and the table be empty for hours.
        """
        return False

    @functools.cached_property
    def _replaces_table(self) -> bool:
        """Whether what this sync does not bring is to be removed by the loader."""
        full = self.replication_method == REPLICATION_FULL_TABLE
        if not (full and self.config["emit_activate_version_messages"]):
            return False
        partial = [name for name in PARTIAL if self.config.get(name)]
        maps: dict[str, t.Any] = self.config.get("stream_maps") or {}
        if any("__filter__" in (it or {}) for it in maps.values()):
            partial.append("__filter__")
        if partial:
            self.logger.warning(
                "No ACTIVATE_VERSION: with '%s' the loader would remove leads that are "
                "still there",
                "' and '".join(partial),
            )
        return not partial

    def log(
        self,
        message: str,
        *args: t.Any,
        level: int = logging.INFO,
        **kwargs: t.Any,
    ) -> None:
        """Log, but for the SDK's word that there was an error: the command tells it."""
        if level < logging.ERROR:
            super().log(message, *args, level=level, **kwargs)

    def _stop_early(self, error: WaitTooLongError) -> None:
        what = f"Stopped: {error}, more than the setting 'max_wait_seconds' allows"
        self.checkpoint()
        # Else each run would read the same leads again, and never get any further.
        if self._bookmark() == self._bookmark_before:
            raise FatalAPIError(what) from None
        left = self.progress.left()
        self.logger.warning("%s. About %s leads are left for the next run", what, left)

    def request_records(self, context: Context | None) -> Iterator[Lead]:
        """Yield the leads of all pages, also when a cursor stops being accepted.

        A refused cursor costs nothing but the leads that share the last one's
        `updated_at`: reading goes on from there, as long as it gets any further.
        """
        while True:
            position = self._last_read
            try:
                yield from super().request_records(context)
            except RequestRefusedError:
                if self._last_read == position:
                    raise
                self._since = self._last_read
                self.progress.restart()
                self.logger.warning("The API refused a cursor: starting a new one")
            else:
                return

    def parse_response(self, response: requests.Response) -> Iterator[Lead]:
        """Yield the leads of a page, keeping track of how far reading got.

        Raises:
            FatalAPIError: If the leads are not in the order that was asked for.
        """
        page = read_page(response)
        if line := self.progress.add_page(len(page.leads), page.total):
            self.logger.info(line)
        if self._field_types:
            self._unreadable += custom_fields.fill_columns(
                page.leads, self._field_types
            )
        previous = self._last_read
        for lead, moment in zip(page.leads, page.moments, strict=True):
            if previous and moment < previous:
                raise FatalAPIError(OUT_OF_ORDER)
            yield lead
            # Here the lead is out, and all before it.
            self._last_read = previous = moment

    # The state it leaves

    def _increment_stream_state(
        self,
        latest_record: Mapping[str, t.Any],
        *,
        context: Context | None = None,
    ) -> None:
        """Leave the bookmark to `checkpoint`: the SDK compares it as text."""

    def _bookmark(self) -> str | None:
        value = self.get_context_state(None).get("replication_key_value")
        return t.cast("str | None", value)

    def checkpoint(self) -> None:
        """Move the bookmark to the last lead, and write the state and all before it.

        So no lead is held back while the API is slow. A state that has not changed is
        not written again, as in a full-table sync; the leads are.

        With BATCH messages there is none to write until the SDK has written a file.
        """
        if self.replication_method == REPLICATION_INCREMENTAL and self._last_read:
            state = self.get_context_state(None)
            bookmark = min(self._last_read, self._began)
            old = self._bookmark()
            if not old or parse_moment(old) < bookmark:
                state["replication_key"] = self.replication_key
                state["replication_key_value"] = format_moment(bookmark)
        self._write_state_message()
        t.cast("MegaWriter", self._tap.message_writer).flush()


OUT_OF_ORDER = (
    "The API sent a lead that changed before the one ahead of it, though they were "
    "asked for in the order of updated_at. Stopped, since reading on could lose leads. "
    "Tell MEGA's support, and once it is mended run without a state"
)


def filter_params(filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the setting `filters` as parameters of the query."""
    params = {QUERY_NAMES.get(name, name): value for name, value in filters.items()}
    for name in MOMENTS:
        if value := params.get(name):
            params[name] = format_moment(parse_moment(value))
    return params
