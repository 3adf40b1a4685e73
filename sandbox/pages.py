"""Queries and the pages that answer them."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from sandbox.cursors import Cursor, read_cursor
from sandbox.document import filter_names, lead_properties

PHONE = re.compile(r"[\d\s()+./-]+")
PHONE_DIGITS = 10
"""The vendor compares this many digits of a phone number, from the end."""

SPECIAL_CONDITIONS = {
    "stageId": "lead ->> '$.current_stage.id' = ?",
    "lead_line": "custom_fields ->> 'lead_line' = ?",
    "search": "(instr(name_and_email, ?) OR instr(phone_digits, ?))",
}
"""The SQL conditions of the filters whose names do not say what they compare."""

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
    """The response to a query. Each lead is the text of JSON."""

    leads: list[str]
    total: t.Any
    """A number. A fault can make it the JSON text of one."""
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
        total, more = self.total, json.dumps(rest)[1:]
        text = f'{{"leads":[{",".join(self.leads)}],"total":{total},{more}'
        # A surrogate escape of the fault `raw_lead` becomes a byte again.
        return text.encode(errors="surrogateescape")


def _condition(name: str) -> str:
    """Return the SQL condition of a filter, for rows of the table of leads."""
    if name in SPECIAL_CONDITIONS:
        return SPECIAL_CONDITIONS[name]
    if name.endswith("_since"):
        return f"{name.removesuffix('since')}at_us >= ?"
    if name in lead_properties():
        return f"lead ->> '{name}' = ?"
    msg = f"the document has the filter {name!r}; add it to SPECIAL_CONDITIONS"
    raise NotImplementedError(msg)


CONDITIONS = {name: _condition(name) for name in filter_names()}


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
