"""What a bookmark is made from, where a sync starts, and how the bookmark moves.

The state has a part for each customer: the SDK's partitions. A part holds the bookmark,
and says what the bookmark was made from:

    {"bookmarks": {"leads": {"partitions": [
        {
            "context": {"customer_id": "00000000-0000-4000-8000-000000000000"},
            "api_url": "https://app.gomega.ai",
            "filters": "sha256 of the filters, if there are any",
            "replication_key": "updated_at",
            "replication_key_value": "2026-07-01T18:20:00.000Z",
            "unfinished": "where to resume a sync that stopped before its end",
            "version": "that of the last full-table sync",
            "refresh": "the full-table sync that is under way: see `FullRefresh`",
            "refreshed": "when the last complete one ended, and its number of leads"
        }
    ]}}}
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import typing as t

from tap_mega.api.position import Position
from tap_mega.shared.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_mega.config.customers import Customer

    Json: t.TypeAlias = dict[str, t.Any]

STREAM = "leads"
REPLICATION_KEY = "updated_at"


class Source(t.NamedTuple):
    """What a sync reads. A bookmark is valid only for the source it was made from."""

    api_url: str
    customer_id: str
    filters: Mapping[str, str]

    @property
    def context(self) -> dict[str, str]:
        """The context by which the SDK finds this customer's part of the state."""
        return {"customer_id": self.customer_id}

    @property
    def facts(self) -> dict[str, str]:
        """The rest, as the state holds it. A filter may be a lead's e-mail address."""
        facts = {"api_url": self.api_url}
        if self.filters:
            facts["filters"] = digest(self.filters)
        return facts


def source_of(customer: Customer, config: Mapping[str, t.Any]) -> Source:
    """Return what a sync of a customer with these settings reads."""
    return Source(
        api_url=config["api_url"].rstrip("/"),
        customer_id=customer.customer_id.lower(),
        filters=config.get("filters", {}),
    )


def digest(settings: Mapping[str, t.Any]) -> str:
    """Return a hash that identifies settings without revealing them."""
    text = json.dumps(dict(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Start(t.NamedTuple):
    """Where a sync starts."""

    since: dt.datetime | None
    """The `updated_at` to read from; None for all leads."""
    position: Position | None = None
    """How far the last sync came, if this one resumes it."""
    cursor: str | None = None


class Bookmark:
    """The bookmark of one customer: a view of its part of the SDK's state."""

    def __init__(self, part: Json, started_at: dt.datetime) -> None:
        """Look at a part of the state, in a run that started at `started_at`."""
        self._part = part
        self._started_at = started_at
        unfinished = part.get("unfinished")
        if unfinished is not None:
            self._started_at = min(
                started_at, parse_timestamp(unfinished["started_at"])
            )

    @property
    def value(self) -> dt.datetime | None:
        """The `updated_at` up to which all leads are read; None before the first."""
        value = self._part.get("replication_key_value")
        return None if value is None else parse_timestamp(value)

    def start(self, start_date: dt.datetime | None, lookback_seconds: int) -> Start:
        """Return where an incremental sync starts.

        An unfinished sync resumes where it stopped. Otherwise the sync starts
        `lookback_seconds` before the bookmark. It never starts before `start_date`.
        """
        bookmark = self.value
        if bookmark is None:
            return Start(start_date)
        if state := self._part.get("unfinished"):
            position = Position.from_state(state)
            if start_date is None or start_date <= t.cast("dt.datetime", position.last):
                return Start(position.since, position, state["cursor"])
        try:
            since = bookmark - dt.timedelta(seconds=lookback_seconds)
        except OverflowError:
            return Start(start_date)
        return Start(max(since, start_date) if start_date else since)

    def limit(self, to: dt.datetime) -> None:
        """Cap the bookmark at `to`, such as the time by the API's clock."""
        self._started_at = min(self._started_at, to)

    def advance(self, position: Position, cursor: str | None) -> None:
        """Move to a position: never back, and never past the start of the sync.

        So a lead that is dated in the future does not hide later changes of others.

        Args:
            position: The end of a page.
            cursor: The cursor of the next page; None if the sync is finished.
        """
        self._part.pop("unfinished", None)
        if position.last is None:
            return
        new, old = min(position.last, self._started_at), self.value
        if old is None or old < new:
            self._part["replication_key"] = REPLICATION_KEY
            self._part["replication_key_value"] = format_timestamp(new)
        if cursor is not None:
            self._part["unfinished"] = {
                **position.to_state(),
                "cursor": cursor,
                "started_at": format_timestamp(self._started_at),
            }
