"""The state of a run: parsed once, owned here, and serialised once per page.

{"bookmarks": {"leads": {
"table": {"version": 1782900000, "began": "2026-07-01T10:00:00.000Z"},
"partitions": [{
"context": {"customer_id": "00000000-0000-4000-8000-000000000000"},
"api_url": "https://app.gomega.ai",
"filters": "sha256 of the filters, if there are any",
"replication_key": "updated_at",
"replication_key_value": "2026-07-01T18:20:00.000Z",
"unfinished": "the other values of `Part`"
}]
}}}
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import typing as t

import msgspec

from tap_mega.shared.errors import config_error
from tap_mega.shared.timestamps import format_timestamp, parse_timestamp
from tap_mega.state.values import Part, Table

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tap_mega.config.settings import Customer, Settings

    Json: t.TypeAlias = dict[str, t.Any]

STREAM = "leads"
REPLICATION_KEY = "updated_at"

MAX_CLOCK_DIFFERENCE = dt.timedelta(minutes=5)
"""A timestamp in the state that is further ahead of our clock is rejected."""

FACTS = (
    *("context", "api_url", "filters"),
    *("replication_key", "replication_key_value"),
)
"""The keys for the source and the bookmark. The other keys are fields of `Part`."""

PROBLEMS = {
    "replication_key": f"has a bookmark for another column than '{REPLICATION_KEY}'",
    "api_url": "was made with another 'api_url'",
    "filters": "was made with other filters, so it may skip leads that match now",
}
"""The reason to reject a part, by the key whose value differs."""

OTHER_CUSTOMER = "belongs to another 'customer_id'"
WRONG_SHAPE = "does not have the shape {'bookmarks': {'leads': {'partitions': […]}}}"


class Source(t.NamedTuple):
    """What a sync reads. A part is valid only for the source that it was made from."""

    api_url: str
    customer_id: str
    filters: Mapping[str, str]

    @property
    def facts(self) -> Json:
        """The source, as the state holds it. A filter may be a lead's e-mail."""
        facts: Json = {
            "context": {"customer_id": self.customer_id},
            "api_url": self.api_url,
        }
        if self.filters:
            text = json.dumps(dict(self.filters), sort_keys=True)
            facts["filters"] = hashlib.sha256(text.encode()).hexdigest()
        return facts


def source_of(customer: Customer, settings: Settings) -> Source:
    """Return what a sync of a customer with these settings reads."""
    return Source(settings.api_url, customer.customer_id, settings.filters)


class Document:
    """The parts of all customers, and what they share."""

    def __init__(
        self, parts: Iterable[tuple[Source, Part]], others: Sequence[Json], table: Table
    ) -> None:
        """Keep the parts.

        Args:
            parts: One for each customer of this run, and what it was made from.
            others: Those of customers that this run does not read, as they are.
            table: What they share.
        """
        self._table = table
        self._facts: dict[str, Json] = {}
        self._parts: dict[str, Part] = {}
        for source, part in parts:
            self._facts[source.customer_id] = source.facts
            self._parts[source.customer_id] = part
        self._others = list(others)
        self._json: dict[str, Json] = {}
        self._whole: Json | None = None

    def __getitem__(self, customer_id: str) -> Part:
        """Return the part of a customer."""
        return self._parts[customer_id]

    def __setitem__(self, customer_id: str, part: Part) -> None:
        """Replace the part of a customer."""
        if part != self._parts[customer_id]:
            self._parts[customer_id] = part
            self._json.pop(customer_id, None)
            self._whole = None

    @property
    def table(self) -> Table:
        """What all customers share."""
        return self._table

    @table.setter
    def table(self, table: Table) -> None:
        self._table, self._whole = table, None

    def forget_deletions(self) -> None:
        """Drop the counts: this run writes rows that they would not include."""
        for customer_id, part in self._parts.items():
            if part != (kept := part.without_deletions()):
                self[customer_id] = kept
        self.table = Table(version=self.table.seen(0).version)

    @property
    def others(self) -> int:
        """How many customers are in the state that this run does not read."""
        return len(self._others)

    def to_json(self) -> Json:
        """Return the state: the same object until it changes."""
        if self._whole is None:
            self._whole = self._to_json()
        return self._whole

    def _to_json(self) -> Json:
        own = [self._part_to_json(it) for it in self._parts]
        stream: Json = {"partitions": [*self._others, *own]}
        if table := _to_json(self.table):
            stream["table"] = table
        return {"bookmarks": {STREAM: stream}}

    def _part_to_json(self, customer_id: str) -> Json:
        if customer_id not in self._json:
            values = _to_json(self._parts[customer_id])
            if "bookmark" in values:
                values["replication_key"] = REPLICATION_KEY
                values["replication_key_value"] = values.pop("bookmark")
            self._json[customer_id] = {**self._facts[customer_id], **values}
        return self._json[customer_id]


def read_state(
    state: object, sources: Sequence[Source], now: dt.datetime
) -> tuple[Document, list[str]]:
    """Return the usable parts of a state, and a warning for each that starts over.

    Args:
        state: The value of a STATE message.
        sources: What this run reads.
        now: When it starts.

    Raises:
        ConfigValidationError: If a bookmark is not a date.
    """
    try:
        parts, table = _split(state)
    except (AttributeError, KeyError, TypeError, ValueError):
        fresh = Document([(it, Part()) for it in sources], [], Table())
        return fresh, [f"Starting over: the state {WRONG_SHAPE}"]
    names = {source.customer_id for source in sources}
    others = [it for it in parts if it["context"]["customer_id"] not in names]
    own, warnings, limit = [], [], now + MAX_CLOCK_DIFFERENCE
    for source in sources:
        found = [
            it for it in parts if it["context"]["customer_id"] == source.customer_id
        ]
        part, problem = _read_part(found, source, now)
        own.append((source, part))
        if parts and problem and (problem != OTHER_CUSTOMER or len(sources) == 1):
            where = f" for customer {source.customer_id}" if len(sources) > 1 else ""
            warnings.append(f"Starting over{where}: the state {problem}")
    if any(it.refresh and it.refresh.started_at > limit for _, it in own):
        # The refresh of one customer cannot end without those of the others.
        own = [(source, it.given_up()) for source, it in own]
        table = table.closed()
    return Document(own, others, table.up_to(limit)), warnings


def _split(state: t.Any) -> tuple[list[Json], Table]:
    """Return the parts of a state, and what they share.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: If it has another shape.
    """
    if not state:
        return [], Table()
    stream = state["bookmarks"].get(STREAM) or {"partitions": []}
    parts = [
        {**part, "context": {"customer_id": part["context"]["customer_id"].lower()}}
        for part in stream["partitions"]
    ]
    return parts, msgspec.convert(stream.get("table", {}), Table)


def _read_part(
    found: Sequence[Json], source: Source, now: dt.datetime
) -> tuple[Part, str]:
    """Return the part of a customer, and why it starts over; empty if it does not."""
    if len(found) != 1:
        return Part(), "has this customer twice" if found else OTHER_CUSTOMER
    (values,) = found
    rest = {name: it for name, it in values.items() if name not in FACTS}
    if not rest and values.get("replication_key_value") is None:
        return Part(), ""
    problem = _find_difference(values, source)
    if not problem:
        part, problem = _convert(rest, values.get("replication_key_value"))
        problem = problem or _find_future(part, now + MAX_CLOCK_DIFFERENCE)
    return (Part(), problem) if problem else (part.up_to(now, MAX_CLOCK_DIFFERENCE), "")


def _convert(values: Json, bookmark: t.Any) -> tuple[Part, str]:
    """Return the values of a part, or why they are not usable.

    Raises:
        ConfigValidationError: If the bookmark is not a date.
    """
    parsed = None if bookmark is None else _parse(bookmark)
    try:
        return msgspec.convert(values, Part).but(bookmark=parsed), ""
    except msgspec.ValidationError:
        return Part(), "has values that this version does not write"


def _find_difference(values: Json, source: Source) -> str:
    """Return why a part does not belong to a source; empty if it does."""
    expected = {"replication_key": REPLICATION_KEY, **source.facts}
    for name, problem in PROBLEMS.items():
        # A part without a bookmark has no replication key.
        is_given = name != "replication_key" or "replication_key_value" in values
        if is_given and values.get(name) != expected.get(name):
            return problem
    return ""


def _find_future(part: Part, limit: dt.datetime) -> str:
    """Return which time in the future makes a part useless; empty if none does."""
    if part.bookmark and part.bookmark > limit:
        return "has a bookmark in the future, which would hide all changes"
    if part.refresh and part.is_loading and part.refresh.started_at > limit:
        return "has a first load that began in the future"
    return ""


def _parse(bookmark: t.Any) -> dt.datetime:
    try:
        return parse_timestamp(bookmark)
    except (TypeError, ValueError):
        msg = (
            "The bookmark in the state is not a date: correct its "
            "'replication_key_value', or leave out the state to read all leads again"
        )
        raise config_error(msg) from None


def _to_json(value: msgspec.Struct) -> Json:
    """Return a value as the state holds it, with the API's notation of timestamps."""
    plain: Json = msgspec.to_builtins(value, builtin_types=(dt.datetime,))
    return t.cast("Json", _format(plain))


def _format(value: t.Any) -> t.Any:
    if isinstance(value, dt.datetime):
        return format_timestamp(value)
    if isinstance(value, dict):
        return {name: _format(it) for name, it in value.items()}
    return value
