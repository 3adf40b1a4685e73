"""Which state a sync may use, and how a bookmark moves.

The state has a part for each customer: the SDK's partitions. A part holds the bookmark,
and says what the bookmark was made from:

    {"bookmarks": {"leads": {"partitions": [
        {
            "context": {"customer_id": "00000000-0000-4000-8000-000000000000"},
            "api_url": "https://app.gomega.ai",
            "filters": "sha256 of the filters, if there are any",
            "replication_key": "updated_at",
            "replication_key_value": "2026-07-01T18:20:00.000Z"
        }
    ]}}}
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import typing as t

from tap_mega.config.validation import config_error
from tap_mega.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    Json: t.TypeAlias = dict[str, t.Any]

STREAM = "leads"
REPLICATION_KEY = "updated_at"

KEPT = ("replication_key", "replication_key_value", "api_url", "filters")
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


class Bookmark:
    """The bookmark of one customer: a view of its part of the SDK's state."""

    def __init__(self, part: Json, started_at: dt.datetime) -> None:
        """Look at a part of the state, in a run that started at `started_at`."""
        self._part = part
        self._started_at = started_at

    @property
    def value(self) -> dt.datetime | None:
        """The `updated_at` up to which all leads are read; None before the first."""
        value = self._part.get("replication_key_value")
        return None if value is None else parse_timestamp(value)

    def advance(self, to: dt.datetime) -> None:
        """Move forward: never back, and never past the start of the run.

        So a lead that is dated in the future does not hide later changes of others.
        """
        new, old = min(to, self._started_at), self.value
        if old is None or old < new:
            self._part["replication_key"] = REPLICATION_KEY
            self._part["replication_key_value"] = format_timestamp(new)


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
    value = part.get("replication_key_value")
    if value is None:
        return {}
    value = format_timestamp(now) if _parse(value) > now else value
    return {"replication_key": REPLICATION_KEY, "replication_key_value": value}


def _parse(value: t.Any) -> dt.datetime:
    try:
        return parse_timestamp(value)
    except (TypeError, ValueError):
        msg = (
            "The bookmark in the state is not a date: correct its "
            "'replication_key_value', or leave out the state to read all leads again"
        )
        raise config_error(msg) from None
