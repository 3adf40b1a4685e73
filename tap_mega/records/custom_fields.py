"""Chosen custom fields, in typed columns of their own.

One slug may hold different types on different leads, and people type what they like.
So each column has the type that the setting says, and null for any other value.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import math
import typing as t

from tap_mega.config.environment import parse_boolean
from tap_mega.shared.timestamps import format_timestamp, parse_timestamp
from tap_mega.shared.words import safe_name

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Json: t.TypeAlias = dict[str, t.Any]

MAX_INTEGER = 2**63
"""Whole numbers stay below: databases have 64 bits for one."""

MAX_LISTED_SLUGS = 10

FORMATS = ("date", "date-time")
"""Types that are a format of text in a JSON schema."""


class CustomFields:
    """The custom fields that get a column, and the values that did not fit."""

    def __init__(self, types: Mapping[str, str]) -> None:
        """Start with the setting `custom_field_types`: slugs and their types."""
        self._types = types
        self._unreadable: collections.Counter[str] = collections.Counter()
        self._slugs: set[str] = set()

    @property
    def columns(self) -> set[str]:
        """The names of the columns."""
        return {column(slug) for slug in self._types}

    def add_columns(self, schema: Json) -> None:
        """Add the columns to the schema of a lead."""
        for slug, kind in self._types.items():
            text = {"type": ["string", "null"], "format": kind}
            plain = {"type": [kind, "null"]}
            schema["properties"][column(slug)] = text if kind in FORMATS else plain

    def read(self, lead: Json) -> Json:
        """Return the values of the columns of a lead."""
        fields = lead.get("custom_fields")
        fields = fields if isinstance(fields, dict) else {}
        if self._types:
            self._slugs.update(fields)
        columns: Json = {}
        for slug, kind in self._types.items():
            value = fields.get(slug)
            read = columns[column(slug)] = read_as(kind, value)
            self._unreadable[slug] += value is not None and read is None
        return columns

    def without_column(self) -> str:
        """Return a line about the fields that have no column; empty if all have one."""
        slugs = sorted({safe_name(it) for it in self._slugs - self._types.keys()})
        if not slugs:
            return ""
        names = "', '".join(slugs[:MAX_LISTED_SLUGS])
        more = len(slugs) - MAX_LISTED_SLUGS
        rest = f" and {more:,} more" if more > 0 else ""
        return (
            f"Custom fields that have no column: '{names}'{rest}. "
            "`tap-mega --custom-fields` shows their types"
        )

    def warnings(self) -> Iterator[str]:
        """Yield a line for each field with values that did not fit its type."""
        for slug, count in self._unreadable.items():
            if count:
                name, kind = column(slug), self._types[slug]
                yield (
                    f"The custom field '{slug}' is not a valid '{kind}' in {count} "
                    f"leads, so '{name}' is null there. Correct the values in MEGA, or "
                    "change the type in the setting 'custom_field_types'. If the table "
                    "exists, drop the column before, and run a full refresh after that"
                )


def column(slug: str) -> str:
    """Return the name of the column of a custom field."""
    return f"custom_field_{slug}"


def read_as(kind: str, value: t.Any) -> str | decimal.Decimal | int | None:
    """Return a value in one of the types, or None if it cannot be read as that."""
    try:
        return READERS[kind](value)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return None


def _read_string(value: t.Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as JSON writes it
    if not isinstance(value, (str, int, decimal.Decimal)):
        raise TypeError
    return str(value)


def _read_decimal(value: t.Any) -> decimal.Decimal:
    if isinstance(value, bool):
        raise TypeError
    text = str(value)
    if not text.isascii() or "_" in text:  # Python would accept these
        raise ValueError
    return decimal.Decimal(text)


def _read_integer(value: t.Any) -> int:
    number = _read_decimal(value)
    if not -MAX_INTEGER <= number < MAX_INTEGER or number != int(number):
        raise ValueError
    return int(number)


def _read_number(value: t.Any) -> decimal.Decimal:
    number = _read_decimal(value)
    if not math.isfinite(float(number)):
        raise ValueError
    return number


def _read_boolean(value: t.Any) -> bool:
    return parse_boolean(str(value).strip())


def _read_date(value: t.Any) -> str:
    return dt.date.fromisoformat(value.strip()).isoformat()


def _read_date_time(value: t.Any) -> str:
    return format_timestamp(parse_timestamp(value.strip()))


READERS: dict[str, Callable[[t.Any], str | decimal.Decimal | int]] = {
    "string": _read_string,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_boolean,
    "date": _read_date,
    "date-time": _read_date_time,
}
