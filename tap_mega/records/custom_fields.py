"""Chosen custom fields, in typed columns of their own.

One slug may hold different types on different leads, and people type what they like.
So each column has the type that the setting says, and null for any other value.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import hashlib
import math
import re
import typing as t

from tap_mega.config.environment import BOOLEANS
from tap_mega.shared.timestamps import to_utc
from tap_mega.shared.words import counted

if t.TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    Json: t.TypeAlias = dict[str, t.Any]

MAX_INTEGER = 2**63
"""The limit of whole numbers: databases store them in 64 bits."""

PREFIX = "custom_field_"
COLUMN_NAME = re.compile(r"[a-z0-9_]+")
OTHER_CHARACTERS = re.compile(r"[^a-z0-9_]+")
MAX_COLUMN_BYTES = 63
"""PostgreSQL cuts longer names. Other databases allow more."""
DIGEST_LENGTH = 6

FORMATS = ("date", "date-time")
"""Types that are a format of text in a JSON schema."""

UNREADABLE = (
    "The custom field '{slug}' is not a valid '{kind}' in {leads}, so '{column}' is "
    "null there. Correct the values in MEGA, or change the type in the setting "
    "'custom_field_types'. For another type, drop the column first, and start over "
    "after that: see docs/state.md"
)


class CustomFields:
    """The custom fields that get a column, and those that are never sent."""

    def __init__(self, columns: Mapping[str, str], excluded: Collection[str]) -> None:
        """Start with nothing read.

        Args:
            columns: The slugs that get a column, and their types.
            excluded: The slugs that are never sent.
        """
        self._columns = [(slug, column(slug), kind) for slug, kind in columns.items()]
        self._excluded = frozenset(excluded)
        self._unreadable: collections.Counter[str] = collections.Counter()

    def read(self, lead: Json) -> Json:
        """Drop the excluded fields of a lead, and return the values of its columns."""
        fields = lead.get("custom_fields")
        if not isinstance(fields, dict):
            fields = None
        if (
            self._excluded
        ):  # A value that is not an object may hold them, so it is dropped.
            fields = fields and {
                slug: it for slug, it in fields.items() if slug not in self._excluded
            }
            lead["custom_fields"] = fields
        return {
            name: self._read_field(slug, kind, (fields or {}).get(slug))
            for slug, name, kind in self._columns
        }

    def _read_field(self, slug: str, kind: str, value: t.Any) -> t.Any:
        read = None if value is None else read_as(kind, value)
        self._unreadable[slug] += value is not None and read is None
        return read

    def warnings(self) -> Iterator[str]:
        """Yield a line for each field with values that could not be stored."""
        for slug, name, kind in self._columns:
            if count := self._unreadable[slug]:
                leads = counted(count, "lead")
                yield UNREADABLE.format(slug=slug, kind=kind, leads=leads, column=name)


def column(slug: str) -> str:
    """Return the name of the column of a custom field.

    Databases differ in which characters they allow, and in how long a name may be. So
    a slug that is long or has other characters is changed, and ends in a part of its
    hash.
    """
    name = f"{PREFIX}{slug}"
    if COLUMN_NAME.fullmatch(name) and len(name) <= MAX_COLUMN_BYTES:
        return name
    digest = hashlib.sha256(slug.encode(errors="surrogatepass")).hexdigest()
    end = f"_{digest[:DIGEST_LENGTH]}"
    plain = OTHER_CHARACTERS.sub("_", name.lower())
    return plain[: MAX_COLUMN_BYTES - len(end)] + end


def add_columns(schema: Json, types: Mapping[str, str]) -> None:
    """Add the columns of custom fields to the schema of a lead."""
    for slug, kind in types.items():
        text = {"type": ["string", "null"], "format": kind}
        plain = {"type": [kind, "null"]}
        schema["properties"][column(slug)] = text if kind in FORMATS else plain


def read_as(kind: str, value: t.Any) -> str | decimal.Decimal | int | None:
    """Return a value as one of the types, or None if that is impossible."""
    try:
        return READERS[kind](value)
    except (ValueError, TypeError, AttributeError, ArithmeticError, KeyError):
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


READERS: dict[str, Callable[[t.Any], str | decimal.Decimal | int]] = {
    "string": _read_string,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": lambda it: BOOLEANS[str(it).strip().lower()],
    "date": lambda it: dt.date.fromisoformat(it.strip()).isoformat(),
    "date-time": lambda it: to_utc(it.strip()),
}
