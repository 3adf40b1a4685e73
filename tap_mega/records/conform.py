"""What the API sends that the vendor's document does not describe.

Such a value cannot stay where it is: a loader has no column for it, or stops at it. So
it goes into the column `rescued_data`, in the place that it had in the lead.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import re
import sys
import typing as t

import msgspec

from tap_mega.records.custom_fields import MAX_INTEGER
from tap_mega.shared.timestamps import format_timestamp, parse_timestamp
from tap_mega.shared.words import counted, listed, safe_name

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    Json: t.TypeAlias = dict[str, t.Any]
    Breadcrumb: t.TypeAlias = tuple[str, ...]

COLUMN = "rescued_data"

CHECKED_BY_PAGE = {("properties", "id"), ("properties", "updated_at")}
"""The module `page` has already left out leads without these."""

Integer = t.Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER - 1)]

TYPES: dict[str, t.Any] = {
    "integer": Integer,
    "number": float,
    "boolean": bool,
    "object": dict,
    "array": list,
}
"""The types of JSON, without text, as msgspec checks them. Null fits each of them."""

ZONE = re.compile(r"(\.\d+)?([+-](0\d|1[0-5]):?[0-5]\d)?", re.ASCII)
"""The end of a timestamp. PostgreSQL refuses zones 16 hours from Greenwich."""

DATE_LENGTH = len("2026-07-01T18:20:00")

MAX_DEPTH = 32
"""Levels of a rescued value. Parsers have a limit: Python's is about a thousand."""

MORE_CALLS = 100 + 2 * MAX_DEPTH
"""More than the calls between the parser and `as_json`."""

MAX_NAMES = 20

CHANGED = (
    "The vendor's document does not describe what the API sent: {names}. {place}. The "
    "API has changed: update tap-mega"
)
RESCUED = "It is in 'rescued_data'"
LOST = (
    "It was left out, because 'rescued_data' is not selected: make the catalog again "
    "with --discover, or select it"
)

to_json = msgspec.json.Encoder(decimal_format="number").encode


def add_column(schema: Json) -> None:
    """Add the column to the schema of a lead. Like `custom_fields`, it has no parts."""
    schema["properties"][COLUMN] = {"type": ["object", "null"]}


class Conformer:
    """Makes leads fit their schema, in place.

    The SDK's type conformance drops what the schema does not name, makes a boolean of
    anything, and lets any other type pass. It takes longer than to read and write a
    lead.
    """

    def __init__(
        self,
        schema: Json,
        document: Json,
        mask: Mapping[Breadcrumb, bool],
        columns: AbstractSet[str],
    ) -> None:
        """Prepare for the schema of the records.

        Args:
            schema: The schema of the records: the catalog's, if there is one.
            document: The vendor's schema of a lead.
            mask: What is selected.
            columns: The names of the columns of custom fields.
        """
        names = schema["properties"].keys()
        self._columns = names & columns
        self._missing = sorted(columns - names)
        self._has_customer = "customer_id" in names
        self._rescues = COLUMN in names and mask["properties", COLUMN]
        self._lead = Part(
            schema,
            document,
            lambda place: mask[place] and place not in CHECKED_BY_PAGE,
            added={COLUMN, *columns},
        )
        self._fitting = self._lead.struct()
        self._counts: collections.Counter[str] = collections.Counter()

    def conform(self, record: Json, columns: Json, customer_id: str) -> None:
        """Make a lead fit.

        Args:
            record: The lead, as the API sent it.
            columns: The values of the columns of its custom fields.
            customer_id: The customer whose lead it is.
        """
        rescued = self._rescue(record)
        if rescued:
            self._counts.update(self._lead.names(rescued))
        if self._has_customer and not record.get("customer_id"):
            record["customer_id"] = customer_id
        for name in self._columns:
            record[name] = columns[name]
        if self._rescues:
            record[COLUMN] = rescued or None

    def _rescue(self, record: Json) -> Json:
        """Make the lead fit, and return what does not.

        msgspec checks a whole lead at once, but not all that loaders demand of a
        timestamp.
        """
        try:
            msgspec.convert(record, self._fitting)
        except msgspec.ValidationError:
            rescued = self._lead.fit(record)
        else:
            rescued = {}
        for name in self._lead.timestamps:
            value = record.get(name)
            if value is not None and value[-1] != "Z":
                self._lead.fit_timestamp(record, name, rescued)
        return rescued

    def warnings(self) -> Iterator[str]:
        """Yield a line if the API has changed, and one if the catalog is too old."""
        if self._counts:
            place = RESCUED if self._rescues else LOST
            yield CHANGED.format(names=format_counts(self._counts), place=place)
        if self._missing:
            names = "', '".join(self._missing)
            yield f"Left out, because the schema does not have them: '{names}'"


class Part:
    """A lead, or an object in it: makes it fit its schema, and takes out the rest."""

    def __init__(
        self,
        schema: Json,
        document: Json,
        is_checked: Callable[[Breadcrumb], bool],
        path: Breadcrumb = (),
        added: AbstractSet[str] = frozenset(),
    ) -> None:
        """Prepare for the schema of an object.

        Args:
            schema: The schema of the object.
            document: The vendor's schema of it.
            is_checked: Whether a property may have to be rescued.
            path: The breadcrumb of the object.
            added: The names of columns that the API does not send.
        """
        documented: Json = document.get("properties", {})
        properties = {k: v for k, v in schema["properties"].items() if k not in added}
        self._names = properties.keys()
        self._documented = documented.keys()
        self._types: dict[str, t.Any] = {}
        self._parts: dict[str, Part] = {}
        self.timestamps: list[str] = []
        for name, inner in properties.items():
            place = (*path, "properties", name)
            if not is_checked(place):
                continue
            self._types[name] = python_type(inner)
            if dt.datetime in t.get_args(self._types[name]):
                self.timestamps.append(name)
            if "properties" in inner:
                known = documented.get(name, {})
                self._parts[name] = Part(inner, known, is_checked, place)
        self._holders = {name: struct_of(kind) for name, kind in self._types.items()}
        required = schema.get("required", ())
        self._required = [name for name in self._types if name in required]

    def struct(self) -> type[msgspec.Struct]:
        """Return a type to which only objects that fit can be converted."""
        fields: list[tuple[str, t.Any, t.Any]] = []
        for number, name in enumerate(self._names):
            part = self._parts.get(name)
            kind = part.struct() | None if part else self._types.get(name, t.Any)
            default = msgspec.NODEFAULT if name in self._required else None
            fields.append((f"field_{number}", kind, default))
        return msgspec.defstruct(
            "Fitting",
            fields,
            rename=dict(zip((it[0] for it in fields), self._names, strict=True)),
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )

    def fit(self, record: Json) -> Json:
        """Make an object fit, and return what did not, by name."""
        rescued: Json = {}
        for name in [it for it in record if it not in self._names]:
            value = record.pop(name)
            if name not in self._documented:  # Otherwise the catalog does not want it.
                rescued[name] = storable(value)
        record |= {name: record.get(name) for name in self._required}
        for name in [it for it in self._types if it in record]:
            self._fit_value(record, name, rescued)
        return rescued

    def _fit_value(self, record: Json, name: str, rescued: Json) -> None:
        value, holder, part = record[name], self._holders[name], self._parts.get(name)
        number = as_integer(value)
        if is_of_type(value, holder):
            if part and value and (rest := part.fit(value)):
                rescued[name] = rest
        elif number is not None and is_of_type(number, holder):
            record[name] = number
        else:
            rescued[name] = storable(value)
            record[name] = as_timestamp(value) if name in self.timestamps else None

    def fit_timestamp(self, record: Json, name: str, rescued: Json) -> None:
        """Rewrite a valid timestamp that some loaders cannot read.

        RFC 3339 allows small letters. Python, and loaders that are written in it, do
        not.
        """
        value = record[name]
        record[name] = value.upper()
        if value[-1] != "z" and not ZONE.fullmatch(value, DATE_LENGTH):
            rescued[name] = value
            record[name] = as_timestamp(value)

    def names(self, rescued: Json, prefix: str = "") -> Iterator[str]:
        """Yield the names of what was taken out, such as `owner.new_thing`."""
        for name, value in rescued.items():
            part = self._parts.get(name)
            if part and isinstance(value, dict):
                yield from part.names(value, f"{prefix}{name}.")
            else:
                yield prefix + safe_name(name)


def python_type(schema: Json) -> t.Any:
    """Return the type of the values of a property, or None."""
    words = schema.get("type") or ()
    words = [words] if isinstance(words, str) else words
    text: t.Any = str
    if schema.get("format") == "date-time":
        text = dt.datetime
    elif "maxLength" in schema:
        text = t.Annotated[str, msgspec.Meta(max_length=schema["maxLength"])]
    types = {**TYPES, "string": text}
    kinds = [types[word] for word in words if word != "null"]
    return t.Union[(*kinds, None)] if kinds else t.Any


def struct_of(kind: t.Any) -> type[msgspec.Struct]:
    """Return an object with a value of a type, which msgspec checks much faster."""
    return msgspec.defstruct("Holder", [("value", kind)], gc=False)


def is_of_type(value: object, holder: type[msgspec.Struct]) -> bool:
    """Return whether a value is of a type."""
    try:
        msgspec.convert({"value": value}, holder)
    except msgspec.ValidationError:
        return False
    return True


def as_integer(value: object) -> int | None:
    """Return the integer that a number such as `3.0` is, or None."""
    if not isinstance(value, decimal.Decimal) or abs(value) > MAX_INTEGER:
        return None
    return int(value) if value == int(value) else None


def as_timestamp(value: t.Any) -> str | None:
    """Return a date or a date-time in the notation of the API, or None."""
    try:
        return format_timestamp(parse_timestamp(value))
    except (TypeError, ValueError):
        return None


def storable(value: t.Any, depth: int = MAX_DEPTH) -> t.Any:
    """Return a value that each loader can store.

    An integer beyond 64 bits becomes text. So does what is nested too deeply: as JSON.
    """
    if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        return str(value)
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        return as_json(value)
    if isinstance(value, list):
        return [storable(item, depth - 1) for item in value]
    return {name: storable(item, depth - 1) for name, item in value.items()}


def as_json(value: object) -> str:
    """Return a value as text.

    What could be parsed can be written, but up to Python 3.11 the calls so far count
    towards the limit of levels, and there may be more of them now.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + MORE_CALLS)
    try:
        return to_json(value).decode()
    finally:
        sys.setrecursionlimit(limit)


def format_counts(counts: collections.Counter[str]) -> str:
    """Return names, each with its number of leads, the most frequent ones first."""
    items = [f"'{name}' in {counted(n, 'lead')}" for name, n in counts.most_common()]
    return listed(items, MAX_NAMES)
