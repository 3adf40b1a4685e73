"""Queries and the pages that answer them."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from sandbox.cursors import Cursor, read_cursor

PHONE = re.compile(r"[\d\s()+./-]+")
PHONE_DIGITS = 10
"""The vendor compares this many digits of a phone number, from the end."""

CONDITIONS = {
    "status": "status = ?",
    "stageId": "stage_id = ?",
    "lead_line": "lead_line = ?",
    "search": "(instr(name_and_email, ?) OR instr(phone_digits, ?))",
    "created_since": "created_at_us >= ?",
    "updated_since": "updated_at_us >= ?",
}
"""The SQL condition of each query parameter, for rows of the table of leads."""

Filter: t.TypeAlias = tuple[str, tuple[object, ...]]
"""An SQL condition and its values."""


@dataclasses.dataclass(frozen=True)
class Query:
    """The parsed parameters of a request."""

    filters: tuple[Filter, ...]
    sort_by: str
    sort_dir: str
    after: Cursor | None
    limit: int
    offset: int
    custom_fields: bool


@dataclasses.dataclass(frozen=True)
class Page:
    """The response to a query. Each lead is encoded as JSON."""

    leads: list[bytes]
    total: int | str
    """A number, or the JSON text of one."""
    limit: int
    offset: int
    next_cursor: Cursor | None

    def json(self) -> bytes:
        """Return the page as the API sends it."""
        rest = {
            "limit": self.limit,
            "offset": self.offset,
            "next_cursor": self.next_cursor and self.next_cursor.text(),
        }
        more = f'],"total":{self.total},{json.dumps(rest)[1:]}'
        return b'{"leads":[' + b",".join(self.leads) + more.encode()


def parse_query(parameters: t.Mapping[str, t.Any]) -> Query:
    """Return the query that the checked parameters of a request describe."""
    cursor, sort_by = parameters.get("cursor"), parameters["sort_by"]
    sort_dir = parameters["sort_dir"]
    return Query(
        filters=tuple(
            (condition, _values(name, parameters[name]))
            for name, condition in CONDITIONS.items()
            if name in parameters
        ),
        sort_by=sort_by,
        sort_dir=sort_dir,
        after=None if cursor is None else read_cursor(cursor, sort_by, sort_dir),
        limit=parameters["limit"],
        offset=parameters["offset"],
        custom_fields=parameters["include_custom_fields"],
    )


def _values(name: str, value: object) -> tuple[object, ...]:
    if name == "search":
        phone = digits(str(value)) if PHONE.fullmatch(str(value)) else ""
        return str(value).casefold(), phone[-PHONE_DIGITS:] or None
    return (value,)


def digits(text: str) -> str:
    """Return the digits of a text, such as a phone number."""
    return "".join(filter(str.isdecimal, text))
