"""Which state a sync may use.

The state has a part for each customer: the SDK's partitions. A part holds a bookmark,
and says what the bookmark was made from. `Bookmark` is the view of a part.
"""

from __future__ import annotations

import datetime as dt
import typing as t

from jsonschema import Draft7Validator

from tap_mega.config.validation import FORMATS
from tap_mega.shared.errors import config_error
from tap_mega.shared.timestamps import format_timestamp, parse_timestamp
from tap_mega.state.bookmark import REPLICATION_KEY, STREAM, digest

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_mega.state.bookmark import Source

    Json: t.TypeAlias = dict[str, t.Any]

TIMESTAMP = {"type": "string", "format": "date-time"}
COUNT = {"type": "integer", "minimum": 0}
VERSION = {"type": "integer", "minimum": 1}
POSITION = {
    "type": "object",
    "required": ["updated_at", "id", "offset", "cursor"],
    "properties": {
        "updated_at": TIMESTAMP,
        "id": {"type": "string"},
        "offset": COUNT,
        "cursor": {"type": "string"},
        "started_at": TIMESTAMP,
    },
}
END = {
    "type": "object",
    "required": ["at", "total"],
    "properties": {"at": TIMESTAMP, "total": COUNT},
}
SHAPES: dict[str, Json] = {
    "version": VERSION,
    "unfinished": {**POSITION, "required": [*POSITION["required"], "started_at"]},
    "refresh": {
        "type": "object",
        "required": ["version", "columns", "started_at", "read", "rejected", "total"],
        "properties": {
            "version": VERSION,
            "started_at": TIMESTAMP,
            "read": COUNT,
            "rejected": COUNT,
            "total": {**COUNT, "type": ["integer", "null"]},
            "unfinished": POSITION,
        },
    },
    "refreshed": END,
}
"""What a sync can resume from, by its key in a part. Anything else is ignored."""

VALIDATORS = {
    name: Draft7Validator(schema, format_checker=FORMATS)
    for name, schema in SHAPES.items()
}

KEPT = ("api_url", "filters", "replication_key", "replication_key_value", *SHAPES)
"""The keys of a part that are kept, beside its context."""

MAX_CLOCK_DIFFERENCE = dt.timedelta(minutes=5)
"""A bookmark further ahead of our clock is rejected."""

PROBLEMS = {
    "replication_key": f"has a bookmark for another column than '{REPLICATION_KEY}'",
    "api_url": "was made with another 'api_url'",
    "filters": "was made with other filters, so it may skip leads that match now",
}
"""The reason to reject a bookmark, by the key whose value differs."""

OTHER_CUSTOMER = "belongs to another 'customer_id'"

WRONG_SHAPE = "does not have the shape {'bookmarks': {'leads': {'partitions': […]}}}"


def usable_state(
    state: object, sources: Sequence[Source], now: dt.datetime
) -> tuple[Json, list[str]]:
    """Return what a sync may use of a state, and warnings about the rest.

    Args:
        state: The value of a STATE message, of this version or of 0.1.0.
        sources: What this sync reads.
        now: When it starts.

    Returns:
        A state with a part for each customer that has one, and with the parts of other
        customers as they are; and a warning for each that has to start over.

    Raises:
        ConfigValidationError: If a bookmark is not a date.
    """
    parts = _parts(state, sources)
    if parts is None:
        return {}, [f"Starting over: the state {WRONG_SHAPE}"]
    if not parts:
        return {}, []
    kept, warnings = _parts_of_others(parts, sources), []
    for source in sources:
        part, problem = _usable_part(parts, source, now)
        kept.append({"context": source.context, **source.facts, **part})
        warnings += _warning(problem, source, alone=len(sources) == 1)
    return {"bookmarks": {STREAM: {"partitions": kept}}}, warnings


def _parts_of_others(parts: list[Json], sources: Sequence[Source]) -> list[Json]:
    """Return the parts of customers that this run does not read."""
    contexts = [source.context for source in sources]
    return [part for part in parts if part["context"] not in contexts]


def _usable_part(
    parts: list[Json], source: Source, now: dt.datetime
) -> tuple[Json, str]:
    """Return the bookmark of a customer, or why a sync must not use it."""
    own = [part for part in parts if part["context"] == source.context]
    problem = _find_problem(own, source, now)
    if problem:
        return {}, problem
    return _kept(own[0], now), ""


def _warning(problem: str, source: Source, *, alone: bool) -> list[str]:
    """Return the line about a customer that starts over, if it does."""
    if not problem or (problem == OTHER_CUSTOMER and not alone):
        return []  # A customer that was added has no part yet.
    where = "" if alone else f" for customer {source.customer_id}"
    return [f"Starting over{where}: the state {problem}"]


def _parts(state: t.Any, sources: Sequence[Source]) -> list[Json] | None:
    """Return the parts of a state; None if the state is of another shape."""
    if not state:
        return []
    try:
        stream = state["bookmarks"].get(STREAM, {})
        parts = stream.get("partitions") or _parts_of_0_1_0(stream, sources)
        return [
            {
                "context": {"customer_id": str(part["context"]["customer_id"])},
                **{name: part[name] for name in KEPT if name in part},
            }
            for part in parts
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _parts_of_0_1_0(stream: Json, sources: Sequence[Source]) -> list[Json]:
    """Return a state of version 0.1.0 as a part, if it is clear whose it is.

    That version stored one customer without its ID, and its filters in plain text.
    """
    if "replication_key_value" not in stream:
        return []
    (source,) = sources
    part = {**stream, "context": source.context, "api_url": source.api_url}
    if filters := part.pop("filters", {}):
        part["filters"] = digest(filters)
    return [part]


def _find_problem(own: list[Json], source: Source, now: dt.datetime) -> str:
    """Return why a sync must not use the bookmark of its customer; empty if it may."""
    if len(own) != 1:
        return "has this customer twice" if own else OTHER_CUSTOMER
    (part,) = own
    facts: Json = dict(source.facts)
    value = part.get("replication_key_value")
    if value is not None:
        facts["replication_key"] = REPLICATION_KEY
    elif not part.keys() & {"refresh", "refreshed"}:
        return ""
    differs = (it for name, it in PROBLEMS.items() if part.get(name) != facts.get(name))
    return next(differs, "") or _find_future(value, now)


def _find_future(bookmark: str | None, now: dt.datetime) -> str:
    if bookmark is None or _parse(bookmark) <= now + MAX_CLOCK_DIFFERENCE:
        return ""
    return "has a bookmark in the future, which would hide all changes"


def _kept(part: Json, now: dt.datetime) -> Json:
    """Return what a sync may use of its part, with a bookmark no later than now.

    A bookmark that is a little ahead comes from a machine with another clock.
    """
    kept = {
        name: part[name]
        for name, validator in VALIDATORS.items()
        if validator.is_valid(part.get(name)) and not _is_ahead(part[name], now)
    }
    value = part.get("replication_key_value")
    if value is None:
        kept.pop("unfinished", None)
        return kept
    value = format_timestamp(now) if _parse(value) > now else value
    return {**kept, "replication_key": REPLICATION_KEY, "replication_key_value": value}


def _is_ahead(value: t.Any, now: dt.datetime) -> bool:
    """Return whether something in a state says that it happened in the future."""
    if not isinstance(value, dict):
        return False
    times = [value[name] for name in ("started_at", "at") if name in value]
    return any(parse_timestamp(it) > now + MAX_CLOCK_DIFFERENCE for it in times)


def _parse(value: t.Any) -> dt.datetime:
    try:
        return parse_timestamp(value)
    except (TypeError, ValueError):
        msg = (
            "The bookmark in the state is not a date: correct its "
            "'replication_key_value', or leave out the state to read all leads again"
        )
        raise config_error(msg) from None
