"""What a request asks for, and the page that it gets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import typing as t

from sandbox.cursors import Cursor, read_cursor

EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
PHONE = re.compile(r"[\d\s()+./-]+")
PHONE_DIGITS = 10
"""To the vendor, phones are the same when so many of their last digits are."""

CONDITIONS = {
    "status": "status = ?",
    "stageId": "stage_id = ?",
    "lead_line": "lead_line = ?",
    "search": "(instr(name_and_email, ?) OR instr(phone_digits, ?))",
    "created_since": "created_at_us >= ?",
    "updated_since": "updated_at_us >= ?",
}
"""Query parameter, and the condition that it puts on a row of the table of leads."""

Filter: t.TypeAlias = tuple[str, tuple[object, ...]]
"""A condition in SQL, and its values."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What a request asks for."""

    filters: tuple[Filter, ...]
    sort_by: str
    sort_dir: str
    after: Cursor | None
    limit: int
    offset: int
    custom_fields: bool


@dataclasses.dataclass(frozen=True)
class Page:
    """What a request gets; each lead is JSON."""

    leads: list[bytes]
    total: int
    limit: int
    offset: int
    next_cursor: str | None

    def json(self) -> bytes:
        """Return the page as the API sends it."""
        rest = {
            "total": self.total,
            "limit": self.limit,
            "offset": self.offset,
            "next_cursor": self.next_cursor,
        }
        more = json.dumps(rest)[1:].encode()
        return b'{"leads":[' + b",".join(self.leads) + b"]," + more


def question_of(parameters: t.Mapping[str, t.Any]) -> Question:
    """Return what the checked parameters of a request ask for."""
    cursor, sort_by = parameters.get("cursor"), parameters["sort_by"]
    sort_dir = parameters["sort_dir"]
    return Question(
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
        found = digits(str(value)) if PHONE.fullmatch(str(value)) else ""
        return str(value).casefold(), found[-PHONE_DIGITS:] or None
    if isinstance(value, dt.datetime):
        return (microseconds(value),)
    return (str(value),)


def microseconds(moment: dt.datetime) -> int:
    """Return the microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def digits(text: str) -> str:
    """Return the digits in a text, such as a phone number."""
    return "".join(filter(str.isdecimal, text))
