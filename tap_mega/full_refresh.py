"""Whether a loader may remove the rows that were not in a full-table sync."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from tap_mega.page import Page
    from tap_mega.reader import Reader

MAX_DELETED_SHARE = 0.01
"""The share of leads that may be deleted during a sync. The rest must be read."""


class Completeness:
    """Compares the number of different leads read with the totals of the API.

    A total can be wrong, and a lead can come twice. So the largest total counts, and
    each lead once. This takes about 64 bytes per lead.
    """

    def __init__(self, reader: Reader) -> None:
        """Start with nothing read."""
        self._reader = reader
        self._ids: set[int] = set()
        self._largest_total = 0

    def add(self, page: Page) -> None:
        """Count a page that the reader has just yielded."""
        self._ids.update(hash(lead["id"]) for lead in page.leads)
        self._largest_total = max(self._largest_total, self._reader.total or 0)

    def problem(self) -> str:
        """Return why some leads may not have been read; empty if all were."""
        read, reader = len(self._ids), self._reader
        missing = self._largest_total - read
        if reader.rejected:
            return f"{len(reader.rejected)} leads could not be read"
        if reader.total is None:
            return "the API did not say how many leads there are"
        if not read:
            return "the API sent no lead"
        if reader.left or missing > self._largest_total * MAX_DELETED_SHARE:
            total = max(self._largest_total, reader.total)
            return f"only {read} different leads of {total} were read"
        return ""
