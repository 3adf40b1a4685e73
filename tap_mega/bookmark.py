"""Which state a sync may use, and how a bookmark moves.

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
            "version": "that of the last full-table sync, if it had one"
        }
    ]}}}
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import typing as t

from tap_mega.config.validation import config_error
from tap_mega.position import Position
from tap_mega.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    Json: t.TypeAlias = dict[str, t.Any]

STREAM = "leads"
REPLICATION_KEY = "updated_at"

KEPT = (
    "api_url",
    "filters",
    "replication_key",
    "replication_key_value",
    "unfinished",
    "version",
)
"""What a part holds beside its context. Anything else is a leftover."""

MAX_CLOCK_DIFFERENCE = dt.timedelta(minutes=5)
"""A bookmark further ahead of our clock is not true."""

PROBLEMS = {
    "replication_key": f"has a bookmark that is not of '{REPLICATION_KEY}'",
    "api_url": "was made with another 'api_url'",
    "filters": "was made with other filters, so leads that match now may be older",
}
"""Why a bookmark is of no use, by what differs."""

WRONG_SHAPE = "is not of the shape {'bookmarks': {'leads': {'partitions': […]}}}"


class Source(t.NamedTuple):
    """What a bookmark is made from. A bookmark says nothing about any other source."""

    api_url: str
    customer_id: str
    filters: Mapping[str, str]

    @classmethod
    def from_config(cls, config: Mapping[str, t.Any]) -> Source:
        """Return what a sync with these settings reads."""
        return cls(
            api_url=config["api_url"].rstrip("/"),
            customer_id=config["customer_id"].lower(),
            filters=config.get("filters", {}),
        )

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


def digest(filters: Mapping[str, str]) -> str:
    """Return what identifies filters without telling them."""
    text = json.dumps(dict(filters), sort_keys=True)
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

        That is where the last one stopped, if it stopped before its end; otherwise the
        look-back before the bookmark; but never before `start_date`.
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
        """Do not move past `to` either, such as the time by the API's own clock."""
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

    def new_version(self) -> int:
        """Return a version for a full-table sync, larger than the last one."""
        now = int(self._started_at.timestamp())
        self._part["version"] = max(now, self._part.get("version", 0) + 1)
        return t.cast("int", self._part["version"])


def usable_state(state: object, source: Source, now: dt.datetime) -> tuple[Json, str]:
    """Return what a sync may use of a state, and a warning if that is not all of it.

    Args:
        state: The value of a STATE message, of this version or of 0.1.0.
        source: What this sync reads.
        now: When it starts.

    Returns:
        A state with a part for this customer, and with the parts of other customers as
        they are; and the warning, which is empty if nothing has to start over.

    Raises:
        ConfigValidationError: If the bookmark is not a date.
    """
    parts = _parts(state, source)
    if parts is None:
        return {}, f"Starting over: the state {WRONG_SHAPE}"
    if not parts:
        return {}, ""
    others = [part for part in parts if part["context"] != source.context]
    own = [part for part in parts if part["context"] == source.context]
    problem = _find_problem(own, source, now)
    part = {} if problem else _bookmark_of(own[0], now)
    part = {"context": source.context, **source.facts, **part}
    warning = f"Starting over: the state {problem}" if problem else ""
    return {"bookmarks": {STREAM: {"partitions": [*others, part]}}}, warning


def _parts(state: t.Any, source: Source) -> list[Json] | None:
    """Return the parts of a state; None if the state is of another shape."""
    if not state:
        return []
    try:
        stream = state["bookmarks"].get(STREAM, {})
        parts = stream.get("partitions") or _parts_of_0_1_0(stream, source)
        return [
            {
                "context": {"customer_id": part["context"]["customer_id"]},
                **{name: part[name] for name in KEPT if name in part},
            }
            for part in parts
        ]
    except (AttributeError, KeyError, TypeError):
        return None


def _parts_of_0_1_0(stream: Json, source: Source) -> list[Json]:
    """Return a state of version 0.1.0, which named its filters only, as a part."""
    if "replication_key_value" not in stream:
        return []
    part = {**stream, "context": source.context, "api_url": source.api_url}
    if filters := part.pop("filters", {}):
        part["filters"] = digest(filters)
    return [part]


def _find_problem(own: list[Json], source: Source, now: dt.datetime) -> str:
    """Return why a sync must not use the bookmark of its customer; empty if it may."""
    if len(own) != 1:
        return "has this customer twice" if own else "is of another 'customer_id'"
    (part,) = own
    if part.get("replication_key_value") is None:
        return ""
    made_from = {"replication_key": REPLICATION_KEY, **source.facts}
    for name, problem in PROBLEMS.items():
        if part.get(name) != made_from.get(name):
            return problem
    ahead = _parse(part["replication_key_value"]) > now + MAX_CLOCK_DIFFERENCE
    return "has a bookmark in the future, which would hide all changes" * ahead


def _bookmark_of(part: Json, now: dt.datetime) -> Json:
    """Return the bookmark in a part, no later than now.

    One that is a little ahead comes from a machine with another clock.
    """
    kept = {name: part[name] for name in ("version",) if _is_version(part.get(name))}
    value = part.get("replication_key_value")
    if value is None:
        return kept
    value = format_timestamp(now) if _parse(value) > now else value
    kept |= {"replication_key": REPLICATION_KEY, "replication_key_value": value}
    if _is_unfinished(part.get("unfinished")):
        kept["unfinished"] = part["unfinished"]
    return kept


def _is_version(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_unfinished(value: t.Any) -> bool:
    """Return whether it says where to resume. If not, the look-back does instead."""
    try:
        Position.from_state(value)
        parse_timestamp(value["started_at"])
        return isinstance(value["cursor"], str)
    except (KeyError, TypeError, ValueError):
        return False


def _parse(value: t.Any) -> dt.datetime:
    try:
        return parse_timestamp(value)
    except (TypeError, ValueError):
        msg = (
            "The bookmark in the state is not a date: correct its "
            "'replication_key_value', or leave out the state to read all leads again"
        )
        raise config_error(msg) from None
