"""A few requests for each customer, for a person who waits for the result."""

from __future__ import annotations

import contextlib
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
"""A person waits for the result. A longer wait is reported as the result."""


class NoLimits:
    """Allow everything, and log nothing: waits are short."""

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
    failure: str,
) -> Iterator[tuple[CustomerSync, Page]]:
    """Yield the pages of all customers, and keep their failures.

    Args:
        stream: The stream, whose settings are valid.
        syncs: The customers.
        pages: What to request for a customer.
        failure: What to report as not done if a long wait ends the trial.
    """
    with stream.sender() as send:
        scheduler: Scheduler[CustomerSync] = Scheduler(
            send,
            stream.tap.settings.request_timeout,
            limits=NoLimits(),
            clock=stream.tap.clock,
            stop=stream.tap.stop,
        )
        steps = {
            it: _fail_at_long_wait(pages(it), failure, stream.tap.clock) for it in syncs
        }
        for sync, step in scheduler.turns(steps):
            if isinstance(step, FatalAPIError):
                sync.failure = step
            elif step is not None:
                yield sync, step


def _fail_at_long_wait(pages: Pages, failure: str, clock: Clock) -> Pages:
    """Yield what a reader yields, until a long wait."""
    answer: Answer = None
    with contextlib.suppress(StopIteration):
        while True:
            step = pages.send(answer)
            if isinstance(step, Wait) and step.seconds > MAX_WAIT_SECONDS:
                at = f"{from_epoch(clock.time() + step.seconds):%H:%M} UTC"
                when = f"{at}, in {format_duration(step.seconds)}"
                msg = f"{failure}: {step.reason}. Run again at {when}"
                raise FatalAPIError(msg)
            answer = yield step
