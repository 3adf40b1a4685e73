"""The state as immutable values, and how it changes: pure functions.

`sync/full_refresh.py` applies the rules of docs/deleted-leads.md to these values.
"""

from __future__ import annotations

import datetime as dt
import typing as t

import msgspec

if t.TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RECENT = 1000
"""How many new leads a part lists. If there are more, it says only that."""

FIRST = dt.datetime.min.replace(tzinfo=dt.UTC)

Count = t.Annotated[int, msgspec.Meta(ge=0)]
Timestamp = t.Annotated[dt.datetime, msgspec.Meta(tz=True)]


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """An immutable value in the state. Fields with their default are left out."""


class Resume(Value, frozen=True):
    """The last lead that was read in an order of the API, and where to go on."""

    at: Timestamp
    """The timestamp by which leads are sorted."""
    id: str
    offset: Count
    """How many leads were read since a second before `at`: see `api/position.py`."""
    cursor: str | None = None
    """The cursor of the next page; None to start without one."""


class Pass(Value, frozen=True):
    """A pass of changes that stopped before its end."""

    started_at: Timestamp
    position: Resume


class Anchor(Value, frozen=True):
    """The number of rows in the table whose lead was created before a time."""

    at: Timestamp
    rows: Count


class Refresh(Value, frozen=True):
    """A full refresh of one customer that is not activated yet."""

    started_at: Timestamp
    is_first: bool = False
    """Whether it is the first load, which ends without an activation."""
    position: Resume | None = None
    read: Count = 0
    """How many different leads were read."""
    unchanged: Count = 0
    """How many of them have not changed since `since`."""
    old: Count = 0
    """How many of them were created before `since`."""
    rejected: Count = 0
    """How many leads could not be read."""
    is_read: bool = False
    """Whether its last page was read."""
    is_confirmed: bool = False
    """Whether a pass of changes that began after its last page is complete."""

    def since(self, lookback: dt.timedelta) -> dt.datetime:
        """Return the time from which on a lead counts as changed."""
        return earlier(self.started_at, lookback)


class Part(Value, frozen=True):
    """A customer's part of the state."""

    bookmark: Timestamp | None = None
    """The `updated_at` up to which all changes were read; None before any was."""
    unfinished: Pass | None = None
    anchor: Anchor | None = None
    recent: dict[str, Timestamp] = {}
    """Leads in the table that were created since the anchor: ID and `created_at`."""
    has_more: bool = False
    """Whether there are more of them than `recent` can hold."""
    edited: Count = 0
    """How many older leads were read as a change since the anchor."""
    is_due: bool = False
    """Whether the last check found that leads are gone, or missing in the table."""
    refresh: Refresh | None = None

    @property
    def is_loading(self) -> bool:
        """Whether the first load is not complete."""
        return self.refresh is not None and self.refresh.is_first

    def rows_before(self, time: dt.datetime) -> int | None:
        """Return the known number of rows whose lead was created before a time.

        It returns None if there is no anchor.
        """
        if self.anchor is None:
            return None
        return self.anchor.rows + sum(it < time for it in self.recent.values())

    def but(self, **changes: t.Any) -> Part:
        """Return the part with other values."""
        return msgspec.structs.replace(self, **changes)

    def up_to(self, now: dt.datetime, tolerance: dt.timedelta) -> Part:
        """Return the part without timestamps in the future: another clock was wrong.

        Args:
            now: The time. The bookmark of the result is not later.
            tolerance: How far clocks may differ.
        """
        limit, changes = now + tolerance, dict[str, t.Any]()
        if self.anchor and self.anchor.at > limit:
            changes["anchor"] = None
        if self.bookmark is None or (
            self.unfinished and self.unfinished.started_at > limit
        ):
            changes["unfinished"] = None
        return self.but(bookmark=self.bookmark and min(self.bookmark, now), **changes)

    def given_up(self) -> Part:
        """Return the part without its full refresh, so that another one is due.

        A first load is kept.
        """
        return self if self.is_loading else self.but(refresh=None, is_due=True)

    def moved(self, to: dt.datetime, unfinished: Pass | None) -> Part:
        """Return the part with a bookmark that has moved, but never back."""
        later = to if self.bookmark is None else max(self.bookmark, to)
        return self.but(bookmark=later, unfinished=unfinished)

    def knowing(
        self,
        leads: Iterable[tuple[str, dt.datetime]],
        since: dt.datetime,
        *,
        edits: bool,
    ) -> Part:
        """Return the part after leads were written to the table.

        Args:
            leads: The ID and the `created_at` of each.
            since: Leads created since are `recent`; the anchor counts the others.
            edits: Whether the others were read as changes, and count as edited.
        """
        recent, edited, has_more = dict(self.recent), self.edited, self.has_more
        for key, created_at in leads:
            if created_at < since:
                edited += edits
            elif key in recent or len(recent) < MAX_RECENT:
                recent[key] = created_at
            else:
                has_more = True
        return self.but(recent=recent, edited=edited, has_more=has_more)

    def anchored(
        self, at: dt.datetime, rows: int, *, is_due: bool, has_more: bool
    ) -> Part:
        """Return the part with a new anchor, and the leads created since."""
        recent = {key: it for key, it in self.recent.items() if it >= at}
        anchor = Anchor(at, rows)
        return self.but(
            anchor=anchor,
            recent=recent,
            has_more=has_more,
            edited=0,
            is_due=is_due,
        )

    def without_deletions(self) -> Part:
        """Return the part for a job that does not look for deleted leads.

        A load that is not complete starts over: the bookmark is ahead of it. Without an
        anchor, a full refresh may be the first load.
        """
        if self.refresh and (self.is_loading or self.anchor is None):
            return Part()
        return Part(self.bookmark, self.unfinished)


class Table(Value, frozen=True):
    """What all customers share: their rows are in one table."""

    version: Count = 0
    """The highest version that any record has, or may have."""
    refresh_version: Count = 0
    """The version of the last full refresh that began."""
    is_closed: bool = True
    """Whether the last full refresh was activated or given up."""
    began: Timestamp | None = None
    """When the last full refresh began, or the first load."""

    def seen(self, version: int) -> Table:
        """Return the table with a version that is at least this one."""
        high = max(self.version, self.refresh_version, version)
        return msgspec.structs.replace(self, version=high)

    def up_to(self, limit: dt.datetime) -> Table:
        """Return the table without a `began` that lies in the future."""
        is_wrong = self.began is not None and self.began > limit
        return msgspec.structs.replace(self, began=None) if is_wrong else self

    def began_at(self, time: dt.datetime) -> Table:
        """Return the table whose first load began at a time."""
        return msgspec.structs.replace(self, began=time)

    def opened(self, now: dt.datetime) -> Table:
        """Return the table with a new full refresh.

        No record has the version just below that of the refresh.
        """
        version = max(self.version + 2, int(now.timestamp()))
        return Table(version, version, is_closed=False, began=now)

    def closed(self) -> Table:
        """Return the table without an open refresh."""
        return msgspec.structs.replace(self, is_closed=True)


def earlier(timestamp: dt.datetime, by: dt.timedelta) -> dt.datetime:
    """Return an earlier timestamp, but none before the first that Python has."""
    return timestamp - by if timestamp - FIRST > by else FIRST
