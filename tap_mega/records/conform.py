"""Move values that the vendor's document does not describe to `rescued_data`.

Such a value cannot stay in its place: a loader has no column for it, or fails. In
`rescued_data`, it has the same path as in the lead.
"""

from __future__ import annotations

import datetime as dt
import decimal
import typing as t

import msgspec

from tap_mega.records.custom_fields import MAX_INTEGER
from tap_mega.shared.timestamps import to_utc
from tap_mega.shared.words import safe_name

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    Json: t.TypeAlias = dict[str, t.Any]
    Breadcrumb: t.TypeAlias = tuple[str, ...]

COLUMN = "rescued_data"

Integer = t.Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER - 1)]

TYPES: dict[str, t.Any] = {
    "integer": Integer,
    "number": float,
    "boolean": bool,
    "object": dict,
    "array": list,
}
"""The JSON types apart from text, as msgspec checks them. Null fits each of them."""

TIMESTAMP = dt.datetime | None

T_PLACE = len("2026-07-01")
"""The index of the T in a timestamp."""

MAX_DEPTH = 32
"""Maximum levels of a rescued value. Python's parser allows about a thousand."""

to_json = msgspec.json.Encoder(decimal_format="number").encode


class Part:
    """Makes a lead, or an object in it, fit its schema, and takes out the rest.

    The SDK's type conformance drops properties that the schema does not name, makes a
    boolean of any value, and does not check other types. It takes longer than reading
    and writing a lead. msgspec checks a whole lead at once.
    """

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
        self._parts: dict[str, Part] = {}
        kinds: dict[str, t.Any] = dict.fromkeys(properties, t.Any)
        checked = [it for it in properties if is_checked((*path, "properties", it))]
        for name in checked:
            inner = properties[name]
            kinds[name] = python_type(inner)
            if "properties" in inner:
                place = (*path, "properties", name)
                part = Part(inner, documented.get(name, {}), is_checked, place)
                self._parts[name] = part
                kinds[name] = part.fitting | None
        self._timestamps = [it for it in checked if kinds[it] == TIMESTAMP]
        self._holders = {
            name: msgspec.defstruct("Holder", [("value", kinds[name])], gc=False)
            for name in checked
            if name not in self._timestamps
        }
        required = schema.get("required", ())
        self._required = [name for name in checked if name in required]
        self.fitting: type[msgspec.Struct] = fitting_struct(kinds, self._required)

    def conform(self, record: Json) -> Json:
        """Make an object fit, in place, and return by name what did not fit."""
        rescued: Json = {}
        try:
            msgspec.convert(record, self.fitting)
        except msgspec.ValidationError:
            fits = False
            self._fit(record, rescued)
        else:
            fits = True
        for name in self._timestamps:
            value = record.get(name)
            if value is None or (fits and value[-1] == "Z" and value[T_PLACE] == "T"):
                continue
            fit_timestamp(record, name, rescued)
        return rescued

    def _fit(self, record: Json, rescued: Json) -> None:
        """Make an object fit, apart from its timestamps."""
        for name in [it for it in record if it not in self._names]:
            value = record.pop(name)
            if name not in self._documented:  # Otherwise the catalog does not want it.
                rescued[name] = storable(value)
        record |= {name: record.get(name) for name in self._required}
        for name in self._holders.keys() & record.keys():
            self._fit_value(record, name, rescued)

    def _fit_value(self, record: Json, name: str, rescued: Json) -> None:
        value, holder, part = record[name], self._holders[name], self._parts.get(name)
        number = as_integer(value)
        if part and isinstance(value, dict):
            if rest := part.conform(value):
                rescued[name] = rest
        elif number is not None and is_of_type(number, holder):
            record[name] = number
        elif not is_of_type(value, holder):
            rescued[name] = storable(value)
            record[name] = None

    def names(self, rescued: Json, prefix: str = "") -> Iterator[str]:
        """Yield the names of what was taken out, such as `owner.new_thing`."""
        for name, value in rescued.items():
            part = self._parts.get(name)
            if part and isinstance(value, dict):
                yield from part.names(value, f"{prefix}{name}.")
            else:
                yield prefix + safe_name(name)


def fit_timestamp(record: Json, name: str, rescued: Json) -> None:
    """Write a timestamp in UTC: loaders drop other zones, or stop at them."""
    value = record[name]
    try:
        record[name] = to_utc(value)
    except (TypeError, ValueError):
        rescued[name] = storable(value)
        record[name] = None


def fitting_struct(
    kinds: dict[str, t.Any], required: list[str]
) -> type[msgspec.Struct]:
    """Return a type that msgspec converts only fitting objects to."""
    fields: list[tuple[str, t.Any, t.Any]] = [
        (f"field_{number}", kind, msgspec.NODEFAULT if name in required else None)
        for number, (name, kind) in enumerate(kinds.items())
    ]
    return msgspec.defstruct(
        "Fitting",
        fields,
        rename=dict(zip((it[0] for it in fields), kinds, strict=True)),
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


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


def storable(value: t.Any, depth: int = MAX_DEPTH) -> t.Any:
    """Return a value that each loader can store.

    An integer beyond 64 bits becomes text. A value that is nested too deeply becomes
    JSON in a text.
    """
    if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        return str(value)
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        return to_json(value).decode()
    if isinstance(value, list):
        return [storable(item, depth - 1) for item in value]
    return {name: storable(item, depth - 1) for name, item in value.items()}
