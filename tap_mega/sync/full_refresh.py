"""The rules for deleted leads: see docs/deleted-leads.md, which says why.

The API reports no deletion: a deleted lead just stops being listed. So each run
compares counts, and a full refresh reads all leads when leads are gone. Nothing here
sends a request, waits or writes.
"""

from __future__ import annotations

import datetime as dt
import typing as t

import msgspec

from tap_mega.shared.words import counted
from tap_mega.state.values import Refresh, earlier

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tap_mega.api.page import Page
    from tap_mega.api.retry import Steps
    from tap_mega.config.settings import Settings
    from tap_mega.state.values import Anchor, Part, Resume, Table

    Count: t.TypeAlias = Callable[..., Steps[int | None]]

MIN_LOOKBACK = dt.timedelta(seconds=60)
"""Leads whose `updated_at` is so close to the bookmark may not be visible yet."""

AGE_TOLERANCE = dt.timedelta(minutes=10)
"""A daily job does not start to the second."""

ALL_PERCENT = 100

MAX_CHECKS = 4
"""How many times a check counts at most, until two answers are equal."""

MAX_PROOFS = 4
"""How many times a proof counts at most: leads may be deleted between two requests."""


def lookback_of(settings: Settings) -> dt.timedelta:
    """Return how far before the bookmark a pass of changes starts."""
    return max(settings.lookback, MIN_LOOKBACK)


def know(part: Part, page: Page, lookback: dt.timedelta, *, edits: bool) -> Part:
    """Return the part after the leads of a page were written to the table.

    Args:
        part: The customer's part of the state.
        page: The page.
        lookback: As `lookback_of`.
        edits: Whether it is a page of changes.
    """
    if part.anchor:
        since = part.anchor.at
    elif part.refresh:
        since = part.refresh.since(lookback)
    else:
        return part
    pairs = zip(page.leads, page.created, strict=True)
    leads = [(lead["id"], it) for lead, it in pairs if it]
    return part.knowing(leads, since, edits=edits)


def check(part: Part, count: Count, lookback: dt.timedelta) -> Steps[Part]:
    """Compare the rows of the table with what the API lists, and move the anchor.

    Only two equal answers in a row are believed.

    Args:
        part: The customer's part of the state, with an anchor.
        count: Requests a total.
        lookback: As `lookback_of`.

    Returns:
        The part, which is due if leads are gone from the API or missing in the table.
        If no two answers are equal, it is as it was.
    """
    anchor = t.cast("Anchor", part.anchor)
    at = max(anchor.at, earlier(part.bookmark or anchor.at, lookback))
    created = (yield from count(created_since=anchor.at)) if part.has_more else None
    last = None
    for _ in range(MAX_CHECKS):
        counts = yield from _split_total(count, created_since=at)
        if counts is None:
            break
        listed, newer = counts
        expected = part.rows_before(at) or 0
        if created is not None:
            expected = anchor.rows + created - newer
        # Of the leads that were edited, any number may be imports with an old date.
        rows = min(max(listed, expected), expected + part.edited)
        if listed in {rows, last}:
            # The next pass of changes reads what was created since `at` again.
            return part.anchored(at, rows, is_due=rows != listed, has_more=False)
        last = listed
    return part


def _split_total(count: Count, **since: dt.datetime) -> Steps[tuple[int, int] | None]:
    """Return how many leads there are before a timestamp, and how many since.

    It returns None if the API does not say how many.
    """
    total, newer = (yield from count()), (yield from count(**since))
    return None if total is None or newer is None else (total - newer, newer)


def is_needed(
    parts: Iterable[Part], table: Table, settings: Settings, now: dt.datetime
) -> bool:
    """Return whether a full refresh begins now.

    Args:
        parts: The parts of all customers, none of which has an open refresh.
        table: What they share.
        settings: The settings, with the ages of a refresh.
        now: The time of the API.
    """
    parts = list(parts)
    if table.began is None or any(part.anchor is None for part in parts):
        return True
    age = now - table.began + AGE_TOLERANCE
    is_due = any(part.is_due for part in parts)
    return age >= settings.full_refresh_max_age or (
        is_due and age >= settings.full_refresh_min_age
    )


def read_page(
    part: Part, page: Page, resume: Resume | None, lookback: dt.timedelta
) -> Part:
    """Return the part after a page of the full refresh, whose leads are written."""
    refresh = t.cast("Refresh", part.refresh)
    since = refresh.since(lookback)
    created = [page.created[it] for it in page.new]
    read = Refresh(
        started_at=refresh.started_at,
        is_first=refresh.is_first,
        position=resume,
        read=refresh.read + len(page.new),
        unchanged=refresh.unchanged
        + sum(page.timestamps[it] < since for it in page.new),
        old=refresh.old + sum(it is not None and it < since for it in created),
        rejected=refresh.rejected + len(page.rejected),
    )
    return know(part.but(refresh=read), page, lookback, edits=False)


def prove(part: Part, count: Count, settings: Settings) -> Steps[str]:
    """Return why a refresh may not have read all leads; empty if it has.

    Imports and edits do not disturb the count of unchanged leads, and a constant error
    of the total cancels out. A lead that a cursor skipped is missing in the count.
    """
    refresh, missing = t.cast("Refresh", part.refresh), 0
    lookback = lookback_of(settings)
    if problem := _find_gap(part, refresh, settings):
        return problem
    for _ in range(MAX_PROOFS):
        since = refresh.since(lookback)
        counts = yield from _split_total(count, updated_since=since)
        if counts is None or (refresh.unchanged and not counts[0]):
            return "the API does not say how many leads there are"
        missing = counts[0] - refresh.unchanged
        if missing <= 0:
            return ""
    return f"{counted(missing, 'lead')} that the API counts were not read"


def _find_gap(part: Part, refresh: Refresh, settings: Settings) -> str:
    """Return why a refresh has certainly not read all that the table holds."""
    if refresh.rejected:
        return f"{counted(refresh.rejected, 'lead')} could not be read"
    may_be_empty = settings.full_refresh_max_removed_percent == ALL_PERCENT
    if refresh.read or part.anchor or may_be_empty:
        return ""
    return (
        "the API sent no lead. If it has none, set 'full_refresh_max_removed_percent' "
        f"to {ALL_PERCENT} for one run"
    )


def find_removals(part: Part, settings: Settings) -> str:
    """Return why a complete refresh must not remove rows; empty if it may.

    A token that sees fewer leads than before must not empty the table. Without an
    anchor, there are no counts to compare with.
    """
    refresh = t.cast("Refresh", part.refresh)
    rows = part.rows_before(refresh.since(lookback_of(settings)))
    gone = (rows or 0) - refresh.old
    maximum = settings.full_refresh_max_removed_percent
    if not rows or gone * 100 <= maximum * rows:
        return ""
    return (
        f"{gone:,} of {counted(rows, 'row')} ({gone * 100 // rows} %) would be "
        f"removed, more than the {maximum} % that the setting "
        "'full_refresh_max_removed_percent' allows. Check the rights of the token. If "
        "these leads are really deleted, raise the setting for one run"
    )


def finished(part: Part, lookback: dt.timedelta) -> Part:
    """Return the part after the last page of its refresh. A first load ends there."""
    if part.refresh is None or part.refresh.is_read:
        return part
    if part.is_loading:
        return complete(part, lookback)
    read = msgspec.structs.replace(part.refresh, is_read=True, position=None)
    return part.but(refresh=read)


def complete(part: Part, lookback: dt.timedelta) -> Part:
    """Return the part after its refresh: the table has the rows that it read."""
    if part.refresh is None:
        return part
    at, rows, more = part.refresh.since(lookback), part.refresh.old, part.has_more
    anchored = part.anchored(at, rows, is_due=False, has_more=more)
    return anchored.but(refresh=None)


def is_confirmed(part: Part) -> bool:
    """Return whether the open refresh, and the changes after it, were read to the end.

    A customer that was added during the refresh has loaded all of its leads since then.
    """
    if part.refresh is None:
        return part.anchor is not None
    return part.refresh.is_confirmed
