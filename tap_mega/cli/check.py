"""The option `--test` requests one page for each customer, and writes no record."""

from __future__ import annotations

import typing as t

from tap_mega.cli.trial import new_syncs, try_each
from tap_mega.shared.timestamps import from_epoch
from tap_mega.shared.words import counted, format_duration
from tap_mega.sync.customer import next_result, raise_failures
from tap_mega.sync.progress import why_no_leads

if t.TYPE_CHECKING:
    from tap_mega.cli.trial import Pages
    from tap_mega.streams import LeadsStream
    from tap_mega.sync.customer import CustomerSync
    from tap_mega.tap import TapMega

ADVICE = "Run --test again later"
NOT_CHECKED = "The credentials could not be checked"
VALID = "Customer %s: The credentials are valid, and the token may read leads%s"


def check_credentials(stream: LeadsStream) -> None:
    """Log a line for each customer whose credentials the API accepts.

    Raises:
        FatalAPIError: If it refuses the credentials of some customers, or they have no
            quota left, with a line each.
    """
    syncs = new_syncs(stream, ADVICE)
    for sync, page in try_each(stream, syncs, _first_page, NOT_CHECKED):
        what = _first_load(sync, page.took, stream.tap)
        stream.logger.info(VALID, sync.customer_id, what)
    raise_failures(syncs)


def _first_page(sync: CustomerSync) -> Pages:
    page = yield from next_result(sync.changes.pages(sync.since()))
    if page:
        yield page


def _first_load(sync: CustomerSync, per_request: float, tap: TapMega) -> str:
    """Return what a first load would read, according to the first page."""
    reader = sync.changes
    if reader.total is None:
        return ""
    if not reader.total:
        now = from_epoch(tap.clock.time())
        return f". {why_no_leads(tap.settings, [reader.since], now)}"
    requests = -(-reader.total // reader.page_size)
    by_quota = sync.retrier.rate_limiter.seconds_for(requests, tap.clock.monotonic())
    duration = format_duration(max(by_quota, requests * per_request))
    return (
        f". A first load reads {counted(reader.total, 'lead')} with "
        f"{counted(requests, 'request')}, in about {duration}"
    )
