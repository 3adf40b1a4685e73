"""Faults that change the page of a response."""

from __future__ import annotations

import dataclasses
import typing as t

from sandbox.cursors import first_cursor
from sandbox.pages import CONDITIONS
from sandbox.responses import InvalidRequestError

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.cursors import Cursor
    from sandbox.faults import Fault
    from sandbox.leads import Leads
    from sandbox.pages import Page, Query


class Listing(t.NamedTuple):
    """A request for a page of leads, and the fault that happens to it."""

    leads: Leads
    query: Query
    fault: Fault
    number: int
    """The number of the request."""

    def page(self) -> Page:
        """Return the page without the fault."""
        return self.leads.page(self.query)

    def cursor(self) -> Cursor:
        """Return a cursor to this same page that the request did not have."""
        query = self.query
        position = query.after or first_cursor(query.sort_by, query.sort_dir)
        return position._replace(copy=position.copy + 1)


def faulty_page(listing: Listing) -> Page:
    """Return the page of a listing, with the fault.

    Raises InvalidRequestError if the fault refuses the query.
    """
    change = _CHANGES.get(listing.fault.kind)
    return change(listing) if change else listing.page()


def _empty_page(listing: Listing) -> Page:
    return dataclasses.replace(listing.page(), leads=[], next_cursor=listing.cursor())


def _repeat_cursor(listing: Listing) -> Page:
    page, cursor = listing.page(), listing.query.after
    return dataclasses.replace(page, next_cursor=cursor) if cursor else page


def _refuse_cursor(listing: Listing) -> Page:
    if listing.query.after:
        msg = "cursor is no longer accepted"
        raise InvalidRequestError(msg)
    return listing.page()


def _same_page(listing: Listing) -> Page:
    return dataclasses.replace(listing.page(), next_cursor=listing.cursor())


def _repeat_leads(listing: Listing) -> Page:
    page, query = listing.page(), listing.query
    if query.after is None:
        return page
    start = max(0, listing.leads.position(query) - query.limit)
    before = dataclasses.replace(query, after=None, offset=start)
    return dataclasses.replace(page, leads=listing.leads.page(before).leads)


def _early_end(listing: Listing) -> Page:
    page, value = listing.page(), listing.fault.option("value")
    kept = page.leads[: listing.fault.option("count")]
    total = page.total if value is None else value
    return dataclasses.replace(page, leads=kept, total=total, next_cursor=None)


def _total(listing: Listing) -> Page:
    page, off_by = listing.page(), listing.fault.off_by
    total = listing.fault.option("value") if off_by is None else page.total + off_by
    return dataclasses.replace(page, total=total)


def _raw_lead(listing: Listing) -> Page:
    page, lead = listing.page(), listing.fault.option("lead")
    return dataclasses.replace(page, leads=[*page.leads, lead])


def _cursor_lifetime(listing: Listing) -> Page:
    cursor, page = listing.query.after, listing.page()
    started = (cursor and cursor.started) or listing.number
    if listing.number - started > listing.fault.option("count"):
        return _refuse_cursor(listing)
    following = page.next_cursor and page.next_cursor._replace(started=started)
    return dataclasses.replace(page, next_cursor=following)


def _rounds_up(listing: Listing) -> Page:
    inclusive = CONDITIONS["updated_since"]
    exclusive = inclusive.replace(">=", ">")
    filters = tuple(
        (exclusive if condition == inclusive else condition, values)
        for condition, values in listing.query.filters
    )
    return listing.leads.page(dataclasses.replace(listing.query, filters=filters))


def _disorder(listing: Listing) -> Page:
    page = listing.page()
    return dataclasses.replace(page, leads=page.leads[::-1])


_CHANGES: dict[str, Callable[[Listing], Page]] = {
    "empty_page": _empty_page,
    "repeat_cursor": _repeat_cursor,
    "refuse_cursor": _refuse_cursor,
    "same_page": _same_page,
    "repeat_leads": _repeat_leads,
    "early_end": _early_end,
    "total": _total,
    "raw_lead": _raw_lead,
    "cursor_lifetime": _cursor_lifetime,
    "rounds_up": _rounds_up,
    "disorder": _disorder,
}
