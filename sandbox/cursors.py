"""Keyset cursors. A cursor holds a position and the sort order it belongs to."""

from __future__ import annotations

import base64
import json
import typing as t

from sandbox.document import InvalidRequestError

MAX_MICROSECONDS = 2**62
"""No lead has a timestamp this far from 1970, in either direction."""


class Cursor(t.NamedTuple):
    """The position of the last lead of a page, in the page's sort order."""

    sort_by: str
    sort_dir: str
    microseconds: int
    id: str
    copy: int = 0
    """A number that makes two cursors for the same position differ."""

    def text(self) -> str:
        """Return the cursor as the API sends it."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")


def first_cursor(sort_by: str, sort_dir: str) -> Cursor:
    """Return the cursor that comes before the first lead of a sort order."""
    sign = -1 if sort_dir == "asc" else 1
    return Cursor(sort_by, sort_dir, sign * MAX_MICROSECONDS, "")


def read_cursor(text: str, sort_by: str, sort_dir: str) -> Cursor:
    """Parse the `cursor` parameter of a request with this sort order.

    Raises InvalidRequestError if the text is not a cursor, or if the cursor belongs
    to another sort order.
    """
    if sort_by == "last_interaction_at":
        msg = "cursor paging is not available with sort_by=last_interaction_at"
        raise InvalidRequestError(msg)
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = Cursor(*json.loads(decoded))
    except (ValueError, TypeError) as error:
        msg = "cursor was not issued by this API"
        raise InvalidRequestError(msg) from error
    if (cursor.sort_by, cursor.sort_dir) != (sort_by, sort_dir):
        msg = "cursor belongs to another sort_by or sort_dir"
        raise InvalidRequestError(msg)
    return cursor
