"""Faults that change the page of a response."""

from __future__ import annotations

import dataclasses
import typing as t

from sandbox.cursors import first_cursor
from sandbox.responses import InvalidRequestError

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults.fault import Fault
    from sandbox.leads import Leads
    from sandbox.pages import Page, Query


class Listing(t.NamedTuple):
    """A request for a page of leads, and the fault that happens to it."""

    leads: Leads
    query: Query
    fault: Fault

    def page(self) -> Page:
        """Return the page without the fault."""
        return self.leads.page(self.query)

    def cursor(self) -> str:
        """Return a cursor to this same page that the request did not have."""
        query = self.query
        position = query.after or first_cursor(query.sort_by, query.sort_dir)
        return position._replace(copy=position.copy + 1).text()


def faulty_page(leads: Leads, query: Query, fault: Fault) -> Page:
    """Return the page that answers a query, with the fault.

    Raises InvalidRequestError if the fault refuses the query.
    """
    listing = Listing(leads, query, fault)
    change = _CHANGES.get(fault.kind)
    return change(listing) if change else listing.page()


def _empty_page(listing: Listing) -> Page:
    return dataclasses.replace(listing.page(), leads=[], next_cursor=listing.cursor())


def _repeat_cursor(listing: Listing) -> Page:
    page, cursor = listing.page(), listing.query.after
    return dataclasses.replace(page, next_cursor=cursor.text()) if cursor else page


def _refuse_cursor(listing: Listing) -> Page:
    if listing.query.after:
        msg = "cursor is no longer accepted"
        raise InvalidRequestError(msg)
    return listing.page()


def _disorder(listing: Listing) -> Page:
    page = listing.page()
    return dataclasses.replace(page, leads=page.leads[::-1])


_CHANGES: dict[str, Callable[[Listing], Page]] = {
    "empty_page": _empty_page,
    "repeat_cursor": _repeat_cursor,
    "refuse_cursor": _refuse_cursor,
    "disorder": _disorder,
}
