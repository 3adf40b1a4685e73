"""A few requests for each customer, for a person who waits for the result."""

from __future__ import annotations

import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.retry import Wait
from tap_mega.shared.timestamps import from_epoch
from tap_mega.shared.words import format_duration
from tap_mega.sync.customer import Job
from tap_mega.sync.scheduler import Scheduler

if t.TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from tap_mega.api.client import Request
    from tap_mega.api.page import Page
    from tap_mega.api.retry import Answer
    from tap_mega.shared.clock import Clock
    from tap_mega.streams import LeadsStream
    from tap_mega.sync.customer import CustomerSync

    Pages: t.TypeAlias = Generator[Request | Wait | Page, Answer, None]

MAX_TRIES = 3
MAX_WAIT_SECONDS = 5
"""Somebody waits for the result: a longer wait is a result by itself."""


class Postponed(t.NamedTuple):
    """A wait that is too long."""

    wait: Wait

    def line(self, what: str, clock: Clock) -> str:
        """Return what could not be done because of the wait, and when to run again."""
        time = from_epoch(clock.time() + self.wait.seconds)
        return (
            f"{what}: {self.wait.reason}. Run again at {time:%H:%M} UTC, in "
            f"{format_duration(self.wait.seconds)}"
        )


class NoLimits:
    """Waits are short, and need no line."""

    def check(self, wait: Wait | None) -> None:
        """Allow everything."""

    def announce(self, wait: Wait) -> float:
        """Return how long to wait."""
        return wait.seconds


def new_syncs(stream: LeadsStream, advice: str) -> Sequence[CustomerSync]:
    """Return the customers, each with a few tries and advice after the last one."""
    syncs = stream.new_syncs(Job())
    for sync in syncs:
        sync.retrier.max_tries = min(sync.retrier.max_tries, MAX_TRIES)
        sync.retrier.advice = advice
    return syncs


def try_each(
    stream: LeadsStream,
    syncs: Sequence[CustomerSync],
    pages: Callable[[CustomerSync], Pages],
) -> Iterator[tuple[CustomerSync, Page | Postponed]]:
    """Yield the pages of all customers, and keep their failures.

    Args:
        stream: The stream, whose settings are valid.
        syncs: The customers.
        pages: What to request for a customer. A long wait ends it.
    """
    tap = stream.tap
    with stream.sender() as send:
        scheduler: Scheduler[CustomerSync] = Scheduler(
            send,
            tap.settings.request_timeout,
            limits=NoLimits(),
            clock=tap.clock,
            stop=tap.stop,
        )
        steps = {sync: _without_long_waits(pages(sync)) for sync in syncs}
        for sync, step in scheduler.turns(steps):
            if isinstance(step, FatalAPIError):
                sync.failure = step
            elif step is not None:
                yield sync, t.cast("Page | Postponed", step)


def _without_long_waits(
    pages: Pages,
) -> Generator[Request | Wait | Page | Postponed, Answer, None]:
    """Yield what a reader yields, until a long wait."""
    answer: Answer = None
    while True:
        try:
            step = pages.send(answer)
        except StopIteration:
            return
        if isinstance(step, Wait) and step.seconds > MAX_WAIT_SECONDS:
            yield Postponed(step)
            return
        answer = yield step
