"""The option `--test` requests one page for each customer, and writes no record."""

from __future__ import annotations

import datetime as dt
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.progress import format_duration
from tap_mega.reader import Wait
from tap_mega.sync import raise_failures

if t.TYPE_CHECKING:
    from tap_mega.clock import Clock
    from tap_mega.streams import LeadsStream
    from tap_mega.sync import CustomerSync

MAX_TRIES = 3
MAX_WAIT_SECONDS = 5
"""Somebody waits for the result: a longer wait is a result by itself."""


def check_credentials(stream: LeadsStream, clock: Clock) -> None:
    """Log a line for each customer whose credentials the API accepts.

    Raises:
        FatalAPIError: If it does not accept those of some customers, with a line each.
    """
    syncs = stream.new_syncs()
    for sync in syncs:
        sync.reader.max_tries = min(sync.reader.max_tries, MAX_TRIES)
        try:
            sync.log.info("%s", _check(sync, clock))
        except FatalAPIError as error:
            sync.failure = error
    raise_failures(syncs)


def _check(sync: CustomerSync, clock: Clock) -> str:
    """Return what the first page of a customer tells.

    Raises:
        FatalAPIError: If there is none.
    """
    for step in sync.pages():
        if not isinstance(step, Wait):
            break
        if step.seconds > MAX_WAIT_SECONDS:
            return _postpone(step, clock)
        clock.sleep(step.seconds)
    reader = sync.reader
    if reader.total is None:
        return "The credentials are valid"
    requests = -(-reader.total // reader.page_size)
    seconds = reader.rate_limiter.seconds_for(requests, clock.monotonic())
    return (
        f"The credentials are valid. There are {reader.total:,} leads. Reading all of "
        f"them takes {requests:,} requests and about {format_duration(seconds)}"
    )


def _postpone(wait: Wait, clock: Clock) -> str:
    """Return when to check again.

    Raises:
        FatalAPIError: If a failure is the reason, and not the quota.
    """
    time = dt.datetime.fromtimestamp(clock.time() + wait.seconds, dt.UTC)
    line = (
        f"The credentials could not be checked: {wait.reason}. Run again at "
        f"{time:%H:%M} UTC, in {format_duration(wait.seconds)}"
    )
    if wait.is_retry:
        raise FatalAPIError(line)
    return line
