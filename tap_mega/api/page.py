"""A page of leads, parsed once from the bytes of a response."""

from __future__ import annotations

import re
import typing as t

from singer_sdk.exceptions import FatalAPIError
from singer_sdk.pagination import BaseAPIPaginator
from typing_extensions import override

from tap_mega.api.parser import Parser, split_list
from tap_mega.shared.timestamps import parse_timestamp

if t.TYPE_CHECKING:
    import datetime as dt

    import requests

    Lead: t.TypeAlias = dict[str, t.Any]

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

MAX_KEY_LENGTH = 255
"""Longer texts are no key. Databases such as MySQL need a limit for one.

The vendor's document has none, and does not promise UUIDs.
"""

MAX_TOTAL = 2**63
"""No total is as large as this."""


class Page(t.NamedTuple):
    """One response of the API: `LeadListResponse` in the vendor's document."""

    leads: list[Lead]
    timestamps: list[dt.datetime]
    """The `updated_at` of each lead, in UTC."""
    next_cursor: str | None
    total: int | None
    """The number of leads that match the filters, on all pages together."""
    rejected: tuple[str, ...] = ()
    """Which leads cannot be read and were left out, and why."""
    repaired: int = 0
    """How many texts and numbers were replaced, because no database stores them."""
    requested_at: float = 0.0
    """When the page was requested, in epoch seconds by our clock."""
    sent_at: float | None = None
    """The header `Date` of the response, in epoch seconds."""


def parse_page(body: bytes) -> Page:
    """Return the page that the body of a response holds.

    A body that is not a page, such as a proxy's HTML or a list without its cursor,
    must not pass for the last page. A lead that cannot be read is left out.

    Raises:
        ValueError: If the body is not a page of leads.
    """
    parser = Parser()
    try:
        content = _parse_body(parser, body)
        leads, cursor = content["leads"], content["next_cursor"]
        valid = isinstance(leads, list) and (cursor is None or bool(cursor.encode()))
    except (AttributeError, ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        msg = "the response was not a page of leads"
        raise ValueError(msg)
    good, timestamps, rejected = _sort_out(parser.repair(leads))
    total = content.get("total")
    if type(total) is not int or not 0 <= total < MAX_TOTAL:
        total = None
    return Page(good, timestamps, cursor, total, rejected, parser.repaired)


def _parse_body(parser: Parser, body: bytes) -> t.Any:
    """Return the content of a body; a lead that cannot be parsed is an error in it."""
    try:
        return parser.parse(body)
    except (ValueError, RecursionError):
        parser.repaired = 0
        rest, leads = split_list(body, "leads")
        return {**parser.parse(rest), "leads": [_parse(parser, it) for it in leads]}


def _parse(parser: Parser, lead: bytes) -> t.Any:
    try:
        return parser.parse(lead)
    except (ValueError, RecursionError) as error:
        return error


def _sort_out(
    leads: list[t.Any],
) -> tuple[list[Lead], list[dt.datetime], tuple[str, ...]]:
    """Return the leads that can be read, their timestamps, and why others cannot."""
    good, timestamps, rejected = [], [], []
    for number, lead in enumerate(leads, start=1):
        try:
            timestamp = parse_timestamp(lead["updated_at"])
            is_good = _has_id(lead)
        except (KeyError, TypeError, ValueError):
            is_good = False
        if is_good:
            good.append(lead)
            timestamps.append(timestamp)
        else:
            rejected.append(f"{_problem(lead)}: lead {number}{_name(lead)}")
    return good, timestamps, tuple(rejected)


def _problem(lead: t.Any) -> str:
    """Return what is wrong with a lead, without quoting it."""
    if isinstance(lead, RecursionError):
        return "nested too deeply"
    if isinstance(lead, ValueError):
        return "too many digits in a number, or not JSON"
    if not isinstance(lead, dict):
        return "not an object"
    return "no usable 'updated_at'" if _has_id(lead) else "no usable 'id'"


def _name(lead: t.Any) -> str:
    """Return the ID of a lead, if it is a UUID: other text may be personal data."""
    key = lead.get("id") if isinstance(lead, dict) else None
    is_uuid = isinstance(key, str) and UUID.fullmatch(key)
    return f" with the ID {key}" if is_uuid else ""


def _has_id(lead: Lead) -> bool:
    key = lead.get("id")
    return isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH


class CursorPaginator(BaseAPIPaginator[str | None]):
    """Follows `next_cursor` until it is null.

    An empty page that has a cursor is not the last one.
    """

    def __init__(self, start_value: str | None = None) -> None:
        """Start at the first page, which has no cursor, or at a cursor."""
        super().__init__(start_value)
        self._seen: set[int] = {hash(start_value)}

    def follow(self, page: Page) -> None:
        """Move on to the page behind this one.

        Raises:
            FatalAPIError: If the cursor is not new: the pages would never end.
        """
        self.advance(t.cast("requests.Response", page))

    @override
    def get_next(self, response: t.Any) -> str | None:
        cursor = t.cast("Page", response).next_cursor
        if cursor is not None and hash(cursor) in self._seen:
            msg = (
                "The API sent the same cursor twice in one sync, so its pages do not "
                "end. Run again. If the error stays, report it to MEGA's support"
            )
            raise FatalAPIError(msg)
        self._seen.add(hash(cursor))
        return cursor
