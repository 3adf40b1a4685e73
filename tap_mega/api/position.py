"""How far a reader has come, and how it goes on if it loses its cursor."""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
import typing as t

from tap_mega.shared.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from tap_mega.api.page import Page

    Json: t.TypeAlias = dict[str, t.Any]

STEP_BACK = dt.timedelta(seconds=1)
"""How far before the last lead to start without a cursor.

An API that compares `updated_since` with rounded timestamps would lose a lead that
shares its `updated_at` with the last one.
"""

FIRST = dt.datetime.min.replace(tzinfo=dt.UTC)


class Position:
    """The last lead that was read, and the leads from the second before it.

    An import can give the same `updated_at` to more leads than a reader can page
    through before its cursor expires. So a position also counts the leads read since
    `since`, to resume by `offset`.
    """

    def __init__(self) -> None:
        """Start before the first lead."""
        self.last: dt.datetime | None = None
        """The `updated_at` of the last lead."""
        self._recent: dict[str, dt.datetime] = {}
        """The leads since `since`, in their order: `id` and `updated_at`."""
        self._resumed_at: dt.datetime | None = None
        self._read_earlier = 0
        """How many leads since `since` an earlier run read."""

    @classmethod
    def from_state(cls, state: Json) -> Position:
        """Return the position that an earlier run left in a state.

        Raises:
            KeyError, TypeError, ValueError: If it is not a position.
        """
        position = cls()
        position.last = position._resumed_at = parse_timestamp(state["updated_at"])
        position._recent = {str(state["id"]): position.last}
        position._read_earlier = max(0, int(state["offset"]) - 1)
        return position

    def to_state(self) -> Json:
        """Return the position for a state; empty before the first lead."""
        if self.last is None:
            return {}
        return {
            "updated_at": format_timestamp(self.last),
            "id": next(reversed(self._recent)),
            "offset": self.offset,
        }

    @property
    def since(self) -> dt.datetime | None:
        """The `updated_since` with which to start without a cursor."""
        return self.last and _step_back(self.last)

    @property
    def offset(self) -> int:
        """How many leads since `since` were read already."""
        return self._read_earlier + len(self._recent)

    def repeats(self, page: Page) -> int:
        """Return how many leads at the start of a page are not behind the position."""
        if self.last is None:
            return 0
        count = bisect.bisect_left(page.timestamps, self.last)
        leads = zip(page.leads, page.timestamps, strict=True)
        for number, (lead, timestamp) in enumerate(leads, start=1):
            if self._recent.get(lead["id"]) == timestamp:
                count = max(count, number)
        return count

    def overlaps(self, page: Page) -> bool:
        """Return whether a page has a lead that was already read, and has not changed.

        If a page at an `offset` has none, leads before it have moved, and the offset
        may have skipped others.
        """
        leads = zip(page.leads, page.timestamps, strict=True)
        return any(self._recent.get(lead["id"]) == time for lead, time in leads)

    def advance(self, page: Page) -> int:
        """Move to the end of a page, and return how many of its leads are new."""
        if not page.leads:
            return 0
        keys = [lead["id"] for lead in page.leads]
        known = self._recent.keys() & keys
        for key in known:
            del self._recent[key]
        last = page.timestamps[-1]
        self.last = last if self.last is None else max(self.last, last)
        since = _step_back(self.last)
        self._forget(since)
        start = bisect.bisect_left(page.timestamps, since)
        self._recent.update(zip(keys[start:], page.timestamps[start:], strict=True))
        return len(keys) - len(known)

    def _forget(self, since: dt.datetime) -> None:
        """Drop the leads before `since`."""
        if self._resumed_at and self._resumed_at < since:
            self._read_earlier = 0
        old = itertools.takewhile(lambda it: it[1] < since, self._recent.items())
        for key, _ in list(old):
            del self._recent[key]


def _step_back(timestamp: dt.datetime) -> dt.datetime:
    """Return the timestamp a second before, or the first one that there is."""
    return max(timestamp, FIRST + STEP_BACK) - STEP_BACK
