"""Chosen custom fields, in columns of their own that have a type.

One slug may hold different types on different leads, and people type what they like.
So each column has the type that the settings say, and null where a value is not that.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import math
import typing as t

from tap_mega.settings import FALSY, TRUTHY, format_moment, parse_moment

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Json: t.TypeAlias = dict[str, t.Any]

BIGINT = 2**63
"""What whole numbers stay below: databases have 64 bits for one."""

FORMATS = ("date", "date-time")
"""Types that in a JSON schema are a format of text."""


def column(slug: str) -> str:
    """Return the name of the column of a custom field; `custom_fields` is none."""
    return f"custom_field_{slug}"


def add_columns(schema: Json, types: Mapping[str, str]) -> None:
    """Put the columns into the schema of a lead.

    Args:
        schema: What to put them into.
        types: The setting `custom_field_types`.
    """
    for slug, kind in types.items():
        text = {"type": ["string", "null"], "format": kind}
        plain = {"type": [kind, "null"]}
        schema["properties"][column(slug)] = text if kind in FORMATS else plain


def fill_columns(
    leads: Iterable[Json], types: Mapping[str, str]
) -> collections.Counter[str]:
    """Put the values of the columns into leads.

    Returns:
        For each slug how many values could not be read as its type.
    """
    unreadable: collections.Counter[str] = collections.Counter()
    for lead in leads:
        fields = lead.get("custom_fields")
        fields = fields if isinstance(fields, dict) else {}
        for slug, kind in types.items():
            value = fields.get(slug)
            read = lead[column(slug)] = read_as(kind, value)
            unreadable[slug] += value is not None and read is None
    return unreadable


def read_as(kind: str, value: t.Any) -> str | decimal.Decimal | int | None:
    """Return a value in one of the types, or None where it cannot be read as that."""
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
    if not text.isascii() or "_" in text:  # which Python would read, too
        raise ValueError
    return decimal.Decimal(text)


def _read_integer(value: t.Any) -> int:
    number = _read_decimal(value)
    if not -BIGINT <= number < BIGINT or number != int(number):
        raise ValueError
    return int(number)


def _read_number(value: t.Any) -> decimal.Decimal:
    number = _read_decimal(value)
    if not math.isfinite(float(number)):
        raise ValueError
    return number


def _read_boolean(value: t.Any) -> bool:
    word = str(value).strip().lower()
    if word not in (*TRUTHY, *FALSY):
        raise ValueError
    return word in TRUTHY


def _read_date(value: t.Any) -> str:
    return dt.date.fromisoformat(value.strip()).isoformat()


def _read_date_time(value: t.Any) -> str:
    return format_moment(parse_moment(value.strip()))


READERS: dict[str, Callable[[t.Any], str | decimal.Decimal | int]] = {
    "string": _read_string,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_boolean,
    "date": _read_date,
    "date-time": _read_date_time,
}
