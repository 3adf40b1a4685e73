"""The option `--test` requests one page for each customer, and writes no record."""

from __future__ import annotations

import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.reader import Wait
from tap_mega.shared.timestamps import from_epoch
from tap_mega.shared.words import counted, format_duration
from tap_mega.sync.customer import raise_failures
from tap_mega.sync.no_leads import why_no_leads

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tap_mega.api.page import Page
    from tap_mega.api.reader import Reader
    from tap_mega.shared.clock import Clock
    from tap_mega.streams import LeadsStream
    from tap_mega.sync.customer import CustomerSync

MAX_TRIES = 3
MAX_WAIT_SECONDS = 5
"""Somebody waits for the result: a longer wait is a result by itself."""

ADVICE = "Run --test again later"


def check_credentials(stream: LeadsStream, clock: Clock) -> None:
    """Log a line for each customer whose credentials the API does not refuse.

    Raises:
        FatalAPIError: If it refuses those of some customers, with a line each.
    """

    def check(sync: CustomerSync) -> None:
        sync.reader.advice = ADVICE
        line = _check(sync, stream.config, clock)
        stream.logger.info("Customer %s: %s", sync.customer_id, line)

    syncs = stream.new_syncs()
    try_each(syncs, check)
    raise_failures(syncs)


def try_each(
    syncs: Sequence[CustomerSync], action: Callable[[CustomerSync], None]
) -> None:
    """Do something with each customer, at a few tries, and keep the failures."""
    for sync in syncs:
        sync.reader.max_tries = min(sync.reader.max_tries, MAX_TRIES)
        try:
            action(sync)
        except FatalAPIError as error:
            sync.failure = error


def _check(sync: CustomerSync, config: Mapping[str, t.Any], clock: Clock) -> str:
    """Return what the first page of a customer tells.

    Raises:
        FatalAPIError: If there is none.
    """
    for step in without_long_waits(sync.pages(), clock):
        if isinstance(step, Wait):
            return _postpone(step, clock)
        seconds = clock.time() - step.requested_at
        break
    what = _first_load(sync.reader, config, seconds, clock)
    return f"The credentials are valid, and the token may read leads{what}"


def _first_load(
    reader: Reader, config: Mapping[str, t.Any], per_request: float, clock: Clock
) -> str:
    """Return what a first load would read, as far as the first page tells."""
    if reader.total is None:
        return ""
    if not reader.total:
        now = from_epoch(clock.time())
        return f". {why_no_leads(config, [reader.since], now)}"
    requests = -(-reader.total // reader.page_size)
    by_quota = reader.rate_limiter.seconds_for(requests, clock.monotonic())
    duration = format_duration(max(by_quota, requests * per_request))
    return (
        f". A first load reads {counted(reader.total, 'lead')} with "
        f"{counted(requests, 'request')}, in about {duration}"
    )


def _postpone(wait: Wait, clock: Clock) -> str:
    """Return when to check again.

    A 429 says nothing about the credentials: an API may count a request before it
    checks the token.

    Raises:
        FatalAPIError: If a failure is the reason, and not the quota.
    """
    line = postpone("The credentials could not be checked", wait, clock)
    if wait.is_retry:
        raise FatalAPIError(line)
    return line


def without_long_waits(
    steps: Iterator[Page | Wait], clock: Clock
) -> Iterator[Page | Wait]:
    """Yield pages, and sleep in between. A long wait is yielded, and ends this."""
    for step in steps:
        if not isinstance(step, Wait):
            yield step
        elif step.seconds <= MAX_WAIT_SECONDS:
            clock.sleep(step.seconds)
        else:
            yield step
            return


def postpone(what: str, wait: Wait, clock: Clock) -> str:
    """Return what could not be done because of a wait, and when to run again."""
    time = from_epoch(clock.time() + wait.seconds)
    return (
        f"{what}: {wait.reason}. Run again at {time:%H:%M} UTC, in "
        f"{format_duration(wait.seconds)}"
    )
