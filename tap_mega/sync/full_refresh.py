"""A full-table sync: it may take several runs, and finds out if it read all leads.

A loader may remove the rows that were not in such a sync, if it read all leads.
"""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
import typing as t

from tap_mega.api.position import Position
from tap_mega.shared.timestamps import format_timestamp, from_epoch, parse_timestamp
from tap_mega.shared.words import counted
from tap_mega.state.bookmark import Start

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mega.api.page import Lead, Page
    from tap_mega.api.reader import Reader, Wait

    Json: t.TypeAlias = dict[str, t.Any]

MAX_DELETED_SHARE = 0.01
"""The share of leads that may be deleted during a sync. The rest must be read."""

DATE_PRECISION = dt.timedelta(seconds=1)
"""The header `Date` has whole seconds."""


class FullRefresh:
    """The full-table sync of one customer: a view of its part of the SDK's state.

    A lead that changes moves to the end of the order. So a run can resume where the one
    before it stopped. All these runs are one load, because their rows have the same
    version.

    The sync counts different leads. After an interruption, it does not count an older
    lead that changed after the sync began: an earlier run may have counted it. The IDs
    of one run take about 64 bytes per lead.
    """

    def __init__(
        self, part: Json, started_at: dt.datetime, columns: str, *, is_whole: bool
    ) -> None:
        """Look at a part of the state.

        Args:
            part: It has `refresh` if a sync is under way, `refreshed` if one was
                complete, and the `version` of the last one.
            started_at: When this run started.
            columns: Identifies what the rows look like. A sync with others starts over.
            is_whole: Whether the sync reads all leads that the API has.
        """
        self._part = part
        self._started_at = started_at
        self._columns = columns
        self._is_whole = is_whole
        self._state: Json = part.get("refresh", {})
        self.has_other_columns = self._state.get("columns", columns) != columns
        if self.has_other_columns:
            self._state = {}
        self._resumed: Position | None = None
        self._ids: set[int] = set()
        self._earlier: Json = {}
        self._last_page: Page | None = None
        self._rejected = 0
        self._left = 0
        self._end: Json = {}
        self.is_over = False
        """Whether all pages were read, and the total at the end is known."""
        self.gone: int | None = None
        """How many leads have disappeared since the last complete sync, if known."""

    @property
    def last_version(self) -> int:
        """The version of the last sync; 0 before the first one."""
        return t.cast("int", self._part.get("version", 0))

    def is_under_way(self, version: int) -> bool:
        """Return whether an earlier run began the sync with this version."""
        return self._state.get("version") == version

    @property
    def began_at(self) -> dt.datetime:
        """When the sync began, by the clock of the API if ours was ahead."""
        return parse_timestamp(self._state["started_at"])

    def begin(self, version: int) -> None:
        """Begin the sync with this version, or resume it."""
        if not self.is_under_way(version):
            self._state = {
                "version": version,
                "columns": self._columns,
                "started_at": format_timestamp(self._started_at),
                "read": 0,
                "rejected": 0,
                "total": None,
            }
        self._part["version"], self._part["refresh"] = version, self._state
        self._earlier = dict(self._state)
        if unfinished := self._state.get("unfinished"):
            self._resumed = Position.from_state(unfinished)

    def start(self, earliest: dt.datetime | None) -> Start:
        """Return where to start: at `earliest`, or where an earlier run stopped."""
        if self._resumed is None:
            return Start(earliest)
        unfinished = self._state["unfinished"]
        position = Position.from_state(unfinished)
        return Start(position.since, position, unfinished["cursor"])

    # How far it has come

    def advance(self, page: Page, reader: Reader) -> None:
        """Move to the end of a page that the reader has just yielded."""
        self._last_page = page
        self._compare_clocks(page)
        self._ids.update(hash(lead["id"]) for lead in self._countable(page))
        self._rejected = self._earlier["rejected"] + len(reader.rejected)
        self._left = reader.left
        if reader.since is None:
            self._add_total(page.total)
        position = reader.position.to_state()
        if page.next_cursor is not None and position:
            # The last page is not kept. So a run that resumes reads it again, and with
            # it what has changed meanwhile.
            self._part["refresh"] = self._state = {
                **self._state,
                "read": self._read,
                "rejected": self._rejected,
                "unfinished": {**position, "cursor": page.next_cursor},
            }

    @property
    def _read(self) -> int:
        """How many different leads were read, in all runs."""
        return t.cast("int", self._earlier["read"]) + len(self._ids)

    def _compare_clocks(self, page: Page) -> None:
        """Go by the clock of the API if ours is ahead."""
        if page.sent_at is not None:
            sent_at = from_epoch(page.sent_at)
            if sent_at + DATE_PRECISION <= self.began_at:
                self._state["started_at"] = format_timestamp(sent_at)

    def _countable(self, page: Page) -> Iterator[Lead]:
        """Return the leads of a page that certainly no earlier run has counted."""
        if self._resumed is None:
            return iter(page.leads)
        start = self._resumed.repeats(page)
        changed = max(start, bisect.bisect_left(page.timestamps, self.began_at))
        created = filter(self._is_new, page.leads[changed:])
        return itertools.chain(page.leads[start:changed], created)

    def _is_new(self, lead: Lead) -> bool:
        """Return whether a lead did not exist when an earlier run was there."""
        position = t.cast("Position", self._resumed)
        try:
            created_at = parse_timestamp(lead["created_at"])
        except (KeyError, TypeError, ValueError):
            return False
        return position.last is not None and created_at > position.last

    def _add_total(self, total: int | None) -> None:
        """Take the largest total that the API ever says: any of them may be wrong."""
        if total is not None:
            self._state["total"] = max(total, self._state["total"] or 0)

    # Whether it is complete

    def confirm(self, reader: Reader) -> Iterator[Wait]:
        """Get the total at the end, and yield the waits that this takes.

        The last page has it, unless the sync was resumed: its total then counts only
        the leads from there on.
        """
        if self._is_whole:
            page = self._last_page
            if page is None or reader.since is not None:
                page = yield from reader.count()
            self._add_total(page.total)
            if page.total is not None and page.sent_at is not None:
                at = from_epoch(page.sent_at)
                rows = max(page.total, self._read)  # Some may be deleted by now.
                end = {"at": format_timestamp(at), "total": rows}
                self._end = {**end, "columns": self._columns}
        self.is_over = True

    def problem(self) -> str:
        """Return why some leads may not have been read; empty if all were."""
        read, total = self._read, self._state["total"]
        if self._rejected:
            return f"{counted(self._rejected, 'lead')} could not be read"
        if total is None:
            return "the API did not say how many leads there are"
        if not read:
            return "the API sent no lead"
        differs = abs(total - read) > total * MAX_DELETED_SHARE
        if differs or self._left:
            total = max(total, read + self._left)
            different = counted(read, "different lead")
            return f"{different} were read, and the API said {total:,}"
        return ""

    def drop_if_incomplete(self) -> str:
        """Drop a sync that is over and did not read all leads. Return why."""
        problem = self.problem() if self.is_over and self._is_whole else ""
        if problem:
            self._state = {}
            del self._part["refresh"]
        return problem

    def end(self, *, is_activated: bool) -> None:
        """End a complete sync.

        If the loader has removed all other rows, keep how many there are.
        """
        if is_activated and self._end:
            self._part["refreshed"] = self._end
        del self._part["refresh"]

    # Whether another one is needed

    def is_due(self, max_age: dt.timedelta) -> bool:
        """Return whether no complete sync with these columns is younger than this."""
        last: Json = self._part.get("refreshed", {})
        if last.get("columns") != self._columns:
            return True
        return self._started_at - self._refreshed_at >= max_age

    @property
    def _refreshed_at(self) -> dt.datetime:
        return parse_timestamp(self._part["refreshed"]["at"])

    def count_gone(self, reader: Reader) -> Iterator[Wait]:
        """Find out how many leads have disappeared, and yield the waits it takes.

        This takes two requests. A lead that was imported since, with an old
        `created_at`, hides one that has disappeared.
        """
        there = (yield from reader.count()).total
        new = (yield from reader.count(created_since=self._refreshed_at)).total
        if there is not None and new is not None:
            self.gone = self._part["refreshed"]["total"] - (there - new)
