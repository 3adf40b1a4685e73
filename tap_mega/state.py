"""Which bookmark a sync may start from."""

from __future__ import annotations

import datetime as dt
import typing as t

from singer_sdk.exceptions import ConfigValidationError

from tap_mega.settings import parse_moment

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    Bookmark: t.TypeAlias = dict[str, t.Any]

MAX_AHEAD = dt.timedelta(days=1)
"""A bookmark that is further ahead of our clock was not made by this tap."""


def find_bookmark(state: object, stream: str) -> Bookmark | None:
    """Return a stream's bookmark, empty where it has none yet.

    Args:
        state: The value of a STATE message, from wherever it was kept.
        stream: The name of the stream.

    Returns:
        The bookmark, or None if the state is of another shape than the SDK's:
        `{"bookmarks": {"leads": {…}}}`.
    """
    if not state:
        return {}
    bookmarks = state.get("bookmarks") if isinstance(state, dict) else None
    bookmark = bookmarks.get(stream, {}) if isinstance(bookmarks, dict) else None
    return bookmark if isinstance(bookmark, dict) else None


def find_problem(
    bookmark: Bookmark | None,
    replication_key: str,
    filters: Mapping[str, str | None],
    now: dt.datetime,
) -> str:
    """Return why a bookmark must not be used, or nothing where it may.

    Args:
        bookmark: What an earlier sync left, as from `find_bookmark`.
        replication_key: What the bookmark has to be of.
        filters: The setting of this sync.
        now: When it begins.

    Raises:
        ConfigValidationError: If the bookmark is no date.
    """
    if bookmark is None:
        return "is not of the shape {'bookmarks': {'leads': …}}"
    value = bookmark.get("replication_key_value")
    if value is None:
        return ""
    if bookmark.get("replication_key") != replication_key:
        return f"has a bookmark that is not of '{replication_key}'"
    if bookmark.get("filters", {}) != filters:
        return "was made with other filters, so leads that match now may be older"
    ahead = _parse(value) > now + MAX_AHEAD
    return "has a bookmark in the future, which would hide all changes" * ahead


def _parse(value: t.Any) -> dt.datetime:
    try:
        return parse_moment(value)
    except (TypeError, ValueError):
        msg = (
            "The bookmark in the state is no date: mend its 'replication_key_value', "
            "or leave out the state to read all leads again"
        )
        raise ConfigValidationError(msg, errors=[msg]) from None
