"""How far a reader has come, and how it resumes without a cursor."""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
import typing as t

from tap_mega.state.values import FIRST, Resume, earlier

if t.TYPE_CHECKING:
    from tap_mega.api.page import Page

STEP_BACK = dt.timedelta(seconds=1)
"""How far before the last lead to start without a cursor.

An API that compares `updated_since` with rounded timestamps would lose a lead that
shares its `updated_at` with the last one.
"""

UPDATED_AT = "updated_at"
CREATED_AT = "created_at"


class Position:
    """The last lead that was read, and the leads from the second before it.

    An import can give the same timestamp to more leads than a reader can page through
    before its cursor expires. So a position also counts the leads read since `since`,
    to resume by `offset`.
    """

    def __init__(self, order: str = UPDATED_AT, resume: Resume | None = None) -> None:
        """Start before the first lead, or where an earlier run stopped.

        Args:
            order: The property by which the API sorts: `updated_at` or `created_at`.
            resume: The position in the state; None to start at the first lead.
        """
        self.order = order
        self.last: dt.datetime | None = None
        """The timestamp of the last lead, in this order."""
        self._recent: dict[str, dt.datetime] = {}
        """The leads since `since`, in their order: ID and timestamp."""
        self._resumed_at: dt.datetime | None = None
        self._read_earlier = 0
        """How many leads since `since` an earlier run read."""
        self._is_unsure = False
        """Whether the next page may hold leads that an earlier run read."""
        if resume:
            self.last = self._resumed_at = resume.at
            self._recent = {resume.id: resume.at}
            self._read_earlier = max(0, resume.offset - 1)

    @property
    def since(self) -> dt.datetime | None:
        """The timestamp to start from without a cursor."""
        return self.last and earlier(self.last, STEP_BACK)

    @property
    def offset(self) -> int:
        """How many leads since `since` were read already."""
        return self._read_earlier + len(self._recent)

    def resume(self, cursor: str | None) -> Resume | None:
        """Return the position for a state; None before the first lead."""
        if self.last is None:
            return None
        return Resume(self.last, next(reversed(self._recent)), self.offset, cursor)

    def keys(self, page: Page) -> list[dt.datetime]:
        """Return the timestamp of each lead of a page, in this order.

        A lead without a usable `created_at` has that of the lead before it.
        """
        if self.order == UPDATED_AT:
            return page.timestamps
        keys, last = [], self.last or FIRST
        for created_at in page.created:
            last = created_at or last
            keys.append(last)
        return keys

    def overlaps(self, page: Page) -> bool:
        """Return whether a page has a lead that was read before and has not moved.

        If a page at an `offset` has none, leads before it have moved, and the offset
        may have skipped others.
        """
        return self._find_known(page) > 0

    def restart(self, offset: int) -> None:
        """Note that the next page comes without a cursor, at an offset from `since`."""
        self._is_unsure = self._read_earlier > 0
        if not offset:
            self._read_earlier = 0

    def advance(self, page: Page) -> list[int]:
        """Move to the end of a page, and return the indices of its new leads."""
        if not page.leads:
            return []
        keys = self.keys(page)
        ids = [lead["id"] for lead in page.leads]
        start = self._skip_repeats(page, keys) if self._is_unsure else 0
        new = [it for it in range(start, len(ids)) if ids[it] not in self._recent]
        for key in self._recent.keys() & ids:
            del self._recent[key]
        self.last = keys[-1] if self.last is None else max(self.last, keys[-1])
        since = earlier(self.last, STEP_BACK)
        self._forget(since)
        first = bisect.bisect_left(keys, since)
        self._recent.update(zip(ids[first:], keys[first:], strict=True))
        return new

    def _find_known(self, page: Page) -> int:
        """Return the number of leads up to the last one that was read before."""
        known = 0
        pairs = zip(page.leads, self.keys(page), strict=True)
        for number, (lead, key) in enumerate(pairs, start=1):
            if self._recent.get(lead["id"]) == key:
                known = number
        return known

    def _skip_repeats(self, page: Page, keys: list[dt.datetime]) -> int:
        """Return how many leads an earlier run has read, or may have read."""
        known = self._find_known(page)
        skipped = known or bisect.bisect_right(keys, self.last or FIRST)
        self._is_unsure = not known and skipped == len(keys)
        return skipped

    def _forget(self, since: dt.datetime) -> None:
        """Drop the leads before `since`."""
        if self._resumed_at and self._resumed_at < since:
            self._read_earlier = 0
        old = itertools.takewhile(lambda it: it[1] < since, self._recent.items())
        for key, _ in list(old):
            del self._recent[key]
