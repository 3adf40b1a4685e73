"""Cursors: where in the order a page ended, for that order only."""

from __future__ import annotations

import base64
import json
import typing as t

from sandbox.document import InvalidRequestError

FURTHEST_MICROSECONDS = 2**62
"""Further from 1970 than any lead, either way."""


class Cursor(t.NamedTuple):
    """The last lead of a page, in the order that the page was asked in."""

    sort_by: str
    sort_dir: str
    microseconds: int
    id: str
    copy: int = 0
    """Makes two cursors of one position differ."""

    def text(self) -> str:
        """Return the cursor as the API sends it."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")


def start_of(sort_by: str, sort_dir: str) -> Cursor:
    """Return the cursor before the first lead of an order."""
    sign = -1 if sort_dir == "asc" else 1
    return Cursor(sort_by, sort_dir, sign * FURTHEST_MICROSECONDS, "")


def read_cursor(text: str, sort_by: str, sort_dir: str) -> Cursor:
    """Return the cursor that a client sent back with this order.

    Raises InvalidRequestError for one that is none, or that is of another order.
    """
    if sort_by == "last_interaction_at":
        msg = "cursor paging is not available with sort_by=last_interaction_at"
        raise InvalidRequestError(msg)
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = Cursor(*json.loads(decoded))
    except (ValueError, TypeError) as error:
        msg = "cursor is not one that this API has sent"
        raise InvalidRequestError(msg) from error
    if (cursor.sort_by, cursor.sort_dir) != (sort_by, sort_dir):
        msg = "cursor belongs to another sort_by or sort_dir"
        raise InvalidRequestError(msg)
    return cursor
