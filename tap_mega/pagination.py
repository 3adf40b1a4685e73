"""Follow `next_cursor` from page to page."""

from __future__ import annotations

import decimal
import json
import typing as t
from functools import lru_cache

import msgspec
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError
from singer_sdk.pagination import BaseAPIPaginator

from tap_mega.settings import parse_moment

if t.TYPE_CHECKING:
    import datetime as dt

    import requests


DECODER = msgspec.json.Decoder(float_hook=decimal.Decimal)


class Page(t.NamedTuple):
    """What the API answers: `LeadListResponse` of the vendor's document."""

    leads: list[dict[str, t.Any]]
    moments: list[dt.datetime]
    """`updated_at` of each lead, in UTC."""
    next_cursor: str | None
    total: int | None
    """How many leads match the filters, on all pages together."""


@lru_cache(maxsize=1)
def read_page(response: requests.Response) -> Page:
    """Parse an answer, once however often it is asked for.

    Numbers keep all their digits. What is no page, such as a proxy's HTML with status
    200 or a list without its cursor, must not be taken for the last page.

    Raises:
        RetriableAPIError: If the answer is no page of leads.
    """
    try:
        body = parse_json(response.content)
        leads, cursor = body["leads"], body["next_cursor"]
        valid = isinstance(leads, list) and (cursor is None or isinstance(cursor, str))
        moments = [parse_moment(lead["updated_at"]) for lead in leads]
        valid = valid and all(lead["id"] for lead in leads)
        valid = valid and (cursor is None or bool(cursor.encode()))
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        valid = False
    if not valid:
        msg = "the answer was no page of leads"
        raise RetriableAPIError(msg, response)
    total = body.get("total")
    return Page(leads, moments, cursor, total if isinstance(total, int) else None)


def parse_json(text: bytes) -> t.Any:
    """Return what JSON holds; numbers keep all their digits.

    Raises:
        ValueError: If it is no JSON.
    """
    try:
        return DECODER.decode(text)
    except msgspec.DecodeError:  # of half an emoji too, which JSON may hold
        return json.loads(text, parse_float=decimal.Decimal)


class CursorPaginator(BaseAPIPaginator[str | None]):
    """Follows `next_cursor` until it is null.

    An empty page that has a cursor is not the last one.
    """

    def __init__(self) -> None:
        """Start before the first page, which has no cursor."""
        super().__init__(None)
        self._seen: set[int] = set()

    def continue_if_empty(self, response: requests.Response) -> bool:  # noqa: ARG002
        """Go on after an empty page: only the cursor tells the end."""
        return True

    def get_next(self, response: requests.Response) -> str | None:
        """Return the cursor of the next page, or None after the last.

        Raises:
            FatalAPIError: If the cursor came before: following it would never end.
        """
        cursor = read_page(response).next_cursor
        if cursor is not None and hash(cursor) in self._seen:
            msg = (
                "The API sent a cursor for the second time in one sync, so its pages "
                "have no end. Run again; if it stays so, tell MEGA's support"
            )
            raise FatalAPIError(msg)
        self._seen.add(hash(cursor))
        return cursor
