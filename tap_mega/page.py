"""A page of leads, parsed once from the bytes of a response."""

from __future__ import annotations

import decimal
import json
import typing as t

import msgspec
from singer_sdk.exceptions import FatalAPIError
from singer_sdk.pagination import BaseAPIPaginator
from typing_extensions import override

from tap_mega.timestamps import parse_timestamp

if t.TYPE_CHECKING:
    import datetime as dt

    import requests

    Lead: t.TypeAlias = dict[str, t.Any]

DECODER = msgspec.json.Decoder(float_hook=decimal.Decimal)


class Page(t.NamedTuple):
    """One response of the API: `LeadListResponse` in the vendor's document."""

    leads: list[Lead]
    timestamps: list[dt.datetime]
    """The `updated_at` of each lead, in UTC."""
    next_cursor: str | None
    total: int | None
    """The number of leads that match the filters, on all pages together."""


def parse_page(body: bytes) -> Page:
    """Return the page that the body of a response holds.

    A body that is not a page, such as a proxy's HTML or a list without its cursor,
    must not pass for the last page.

    Raises:
        ValueError: If the body is not a page of leads.
    """
    try:
        content = parse_json(body)
        leads, cursor = content["leads"], content["next_cursor"]
        timestamps = [parse_timestamp(lead["updated_at"]) for lead in leads]
        valid = isinstance(leads, list) and all(lead["id"] for lead in leads)
        valid = valid and (cursor is None or bool(cursor.encode()))
    except (AttributeError, ValueError, TypeError, KeyError, ArithmeticError):
        valid = False
    except RecursionError:
        valid = False
    if not valid:
        msg = "the response was not a page of leads"
        raise ValueError(msg)
    total = content.get("total")
    return Page(leads, timestamps, cursor, total if isinstance(total, int) else None)


def parse_json(text: bytes) -> t.Any:
    """Return the content of a JSON text. Numbers keep all their digits.

    Raises:
        ValueError: If the text is not JSON.
    """
    try:
        return DECODER.decode(text)
    except msgspec.DecodeError:  # msgspec refuses half an emoji, which JSON allows
        return json.loads(text, parse_float=decimal.Decimal)


class CursorPaginator(BaseAPIPaginator[str | None]):
    """Follows `next_cursor` until it is null.

    An empty page that has a cursor is not the last one.
    """

    def __init__(self) -> None:
        """Start at the first page, which has no cursor."""
        super().__init__(None)
        self._seen: set[int] = set()

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
