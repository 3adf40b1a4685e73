"""The full-table sync of all customers: whether it is needed, and how it ends."""

from __future__ import annotations

import typing as t

from tap_mega.shared.words import counted
from tap_mega.sync.customer import raise_failures

if t.TYPE_CHECKING:
    import datetime as dt
    import logging
    from collections.abc import Collection, Sequence

    from tap_mega.sync.customer import CustomerSync
    from tap_mega.sync.full_refresh import FullRefresh
    from tap_mega.sync.run import Run


class TableRefresh:
    """The full-table sync of all customers. Their rows are in one table."""

    def __init__(self, refreshes: Collection[FullRefresh]) -> None:
        """Resume the sync that is under way, if there is one.

        Args:
            refreshes: One for each customer; none in an incremental sync.
        """
        self._refreshes = refreshes
        self.version = max((it.last_version for it in refreshes), default=0)
        """The version of the sync, or of the last one before `begin`."""
        last = [it for it in refreshes if it.last_version == self.version]
        # If it has ended for some customers, the loader may have removed rows for it.
        under_way = [it.is_under_way(self.version) for it in last]
        self._is_under_way = bool(under_way) and all(under_way)
        if self._is_under_way:
            self._begin()

    def resumed_from(self) -> dt.datetime | None:
        """Return when the sync began that this run resumes; None if it begins one."""
        if not self._is_under_way:
            return None
        return min(it.began_at for it in self._refreshes)

    def begin(self, now: dt.datetime) -> None:
        """Begin a sync, unless one is under way. Its version is the largest so far."""
        if not self._is_under_way:
            self.version = max(int(now.timestamp()), self.version + 1)
            self._begin()

    def _begin(self) -> None:
        for refresh in self._refreshes:
            refresh.begin(self.version)

    def is_needed(
        self,
        run: Run,
        syncs: Sequence[CustomerSync],
        max_age: dt.timedelta,
        log: logging.Logger,
    ) -> bool:
        """Return whether leads have disappeared, or the counts are not known.

        Args:
            run: Sends two requests per customer, unless a sync is under way, or the
                last complete one is too old.
            syncs: The customers.
            max_age: After this time, a sync is needed in any case.
            log: Where a line about the result goes.

        Raises:
            FatalAPIError: If the leads of a customer cannot be counted.
        """
        if self._is_under_way or any(it.is_due(max_age) for it in self._refreshes):
            return True
        run.count_gone()
        raise_failures(syncs)
        counts = [it.gone for it in self._refreshes if it.gone is not None]
        if len(counts) < len(self._refreshes):
            return True
        gone = sum(max(0, count) for count in counts)
        if gone:
            verb = "has" if gone == 1 else "have"
            log.info("%s %s disappeared: reading all", counted(gone, "lead"), verb)
        else:
            log.info("No lead has disappeared: there is nothing to refresh")
        return gone > 0

    def is_complete(self, syncs: Sequence[CustomerSync], *, warns: bool) -> bool:
        """Return whether all leads of all customers were read.

        A customer that was not complete starts over in the next run. One that stopped
        or failed resumes.

        Args:
            syncs: The customers.
            warns: Whether to log why a customer was not complete.
        """
        problems = [_drop_if_incomplete(sync, warns=warns) for sync in syncs]
        failed = any(problems) or any(sync.failure for sync in syncs)
        return not failed and all(it.is_over for it in self._refreshes)

    def end(self, *, is_activated: bool) -> None:
        """End a complete sync.

        Args:
            is_activated: Whether the loader has removed the rows that were not in it.
        """
        for refresh in self._refreshes:
            refresh.end(is_activated=is_activated)


def _drop_if_incomplete(sync: CustomerSync, *, warns: bool) -> str:
    """Drop the sync of a customer that did not read all leads, and return why."""
    problem = sync.refresh.drop_if_incomplete() if sync.refresh else ""
    if problem and warns and not sync.failure:
        sync.log.warning("No ACTIVATE_VERSION: %s", problem)
    return problem
