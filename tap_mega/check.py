"""The option `--test` requests one page for each customer, and writes no record."""

from __future__ import annotations

import datetime as dt
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.progress import format_duration
from tap_mega.reader import Wait
from tap_mega.sync import raise_failures

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mega.clock import Clock
    from tap_mega.page import Page
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
    for step in without_long_waits(sync.pages(), clock):
        if isinstance(step, Wait):
            line = postpone("The credentials could not be checked", step, clock)
            if step.is_retry:
                raise FatalAPIError(line)
            return line
        break
    reader = sync.reader
    if reader.total is None:
        return "The credentials are valid"
    requests = -(-reader.total // reader.page_size)
    seconds = reader.rate_limiter.seconds_for(requests, clock.monotonic())
    return (
        f"The credentials are valid. There are {reader.total:,} leads. Reading all of "
        f"them takes {requests:,} requests and about {format_duration(seconds)}"
    )


def without_long_waits(
    steps: Iterator[Page | Wait], clock: Clock
) -> Iterator[Page | Wait]:
    """Yield pages, and sleep in between. A long wait is yielded, too, and is last."""
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
    time = dt.datetime.fromtimestamp(clock.time() + wait.seconds, dt.UTC)
    return (
        f"{what}: {wait.reason}. Run again at {time:%H:%M} UTC, in "
        f"{format_duration(wait.seconds)}"
    )
