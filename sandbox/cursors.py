"""Keyset cursors. A cursor holds a position and the sort order it belongs to."""

from __future__ import annotations

import base64
import typing as t

import msgspec

from sandbox.responses import InvalidRequestError

MAX_INTEGER = 2**62
"""No lead has a timestamp this far from 1970, in either direction."""

Integer = t.Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class Cursor(t.NamedTuple):
    """The position of the last lead of a page, in the page's sort order."""

    sort_by: str
    sort_dir: str
    microseconds: Integer
    id: str
    copy: Integer = 0
    """A number that makes two cursors for the same position differ."""
    started: Integer = 0
    """The number of the request for the first page, if the cursor has a lifetime."""

    def text(self) -> str:
        """Return the cursor as the API sends it."""
        encoded = base64.urlsafe_b64encode(msgspec.json.encode(self))
        return encoded.decode().rstrip("=")


def first_cursor(sort_by: str, sort_dir: str) -> Cursor:
    """Return the cursor that comes before the first lead of a sort order."""
    sign = -1 if sort_dir == "asc" else 1
    return Cursor(sort_by, sort_dir, sign * MAX_INTEGER, "")


def read_cursor(text: str, sort_by: str, sort_dir: str) -> Cursor:
    """Parse the `cursor` parameter of a request with this sort order.

    Raises InvalidRequestError if the text is not a cursor, or if the cursor belongs
    to another sort order.
    """
    if sort_by == "last_interaction_at":
        msg = "cursor paging is not available with sort_by=last_interaction_at"
        raise InvalidRequestError(msg)
    cursor = _decode(text)
    if cursor is None or cursor.text() != text:
        msg = "cursor was not issued by this API"
        raise InvalidRequestError(msg)
    if (cursor.sort_by, cursor.sort_dir) != (sort_by, sort_dir):
        msg = "cursor belongs to another sort_by or sort_dir"
        raise InvalidRequestError(msg)
    return cursor


def _decode(text: str) -> Cursor | None:
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(decoded, type=Cursor)
    except (ValueError, msgspec.MsgspecError):
        return None
