"""Which bookmark a sync may start from."""

from __future__ import annotations

import datetime as dt
import typing as t

from tap_mega.settings import format_moment, parse_moment, refusal

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    Bookmark: t.TypeAlias = dict[str, t.Any]

MAX_AHEAD = dt.timedelta(minutes=5)
"""How far clocks may differ; a bookmark further ahead of ours is not true."""

KEPT = ("replication_key", "replication_key_value", "filters")
"""What a bookmark consists of."""


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
    if not isinstance(bookmark, dict):
        return None
    return {name: bookmark[name] for name in KEPT if name in bookmark}


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


def use_bookmark(
    bookmark: Bookmark,
    filters: Mapping[str, str | None],
    now: dt.datetime,
) -> Bookmark:
    """Return a bookmark as the sync takes it over.

    It is of the filters of this sync, and no later than the sync itself: one a little
    ahead comes from another clock.
    """
    kept = {**bookmark, "filters": dict(filters)}
    if not filters:
        del kept["filters"]
    value = kept.get("replication_key_value")
    if value is not None and parse_moment(value) > now:
        kept["replication_key_value"] = format_moment(now)
    return kept


def _parse(value: t.Any) -> dt.datetime:
    try:
        return parse_moment(value)
    except (TypeError, ValueError):
        msg = (
            "The bookmark in the state is no date: mend its 'replication_key_value', "
            "or leave out the state to read all leads again"
        )
        raise refusal(msg) from None
