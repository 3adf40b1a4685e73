"""Turns, requests in flight, and the one place that waits."""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import time
import typing as t
from collections import deque

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.client import Request
from tap_mega.api.network_errors import timed_out
from tap_mega.api.retry import Wait

if t.TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from tap_mega.api.retry import Answer
    from tap_mega.api.transport import Exchange
    from tap_mega.shared.clock import Clock
    from tap_mega.shared.stopping import StopFlag

K = t.TypeVar("K")
S = t.TypeVar("S")

Put: t.TypeAlias = "Callable[[Answer], object]"

WAKE_UP = -1
"""The ticket of an item that only ends a wait."""


class LimitReachedError(Exception):
    """A setting does not allow the next request, or the wait before it."""


class Limits(t.Protocol):
    """What a run may do, and what it logs while it waits."""

    def check(self, wait: Wait | None) -> None:
        """Raise `LimitReachedError` if the next request or wait is not allowed."""

    def announce(self, wait: Wait) -> float:
        """Log a wait, and return how many seconds of it pass until the next line."""


class Flight(t.NamedTuple, t.Generic[K]):
    """A request in flight."""

    key: K
    exchange: Exchange
    deadline: float
    """In real monotonic seconds."""


class Scheduler(t.Generic[K]):
    """Runs many readers once, with one request in flight for each.

    Each step of a reader is a `Request`, to which its page or error is sent back; a
    `Wait`; or anything else, which is passed on.
    """

    MAX_IN_FLIGHT = 8

    def __init__(
        self,
        start: Callable[[K, Request, Put], Exchange],
        timeout: float,
        *,
        limits: Limits,
        clock: Clock,
        stop: StopFlag,
    ) -> None:
        """Make a scheduler that has nothing to do.

        Args:
            start: Sends a request of a reader, and puts the answer from any thread.
            timeout: Real seconds that a request may take in all.
            limits: What is allowed. At a limit, requests in flight still end.
            clock: The clock for waits.
            stop: Whether a stop signal has arrived.
        """
        self._start, self._timeout = start, timeout
        self._limits, self._clock, self._stop = limits, clock, stop
        self._order = itertools.count()
        self._inbox: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()
        self._ready: deque[tuple[K, Answer]] = deque()
        self._pending: deque[tuple[K, Request]] = deque()
        self._waiting: list[tuple[float, int, K, Wait]] = []
        self._flights: dict[int, Flight[K]] = {}

    def turns(
        self, readers: Mapping[K, Generator[Request | Wait | S, Answer, None]]
    ) -> Iterator[tuple[K, S | FatalAPIError | None]]:
        """Yield the steps of all readers by turns, and the error or None at their end.

        Raises:
            Stopped: After a stop signal.
            LimitReachedError: At a limit.
        """
        self._stop.wake = lambda: self._inbox.put((WAKE_UP, None))
        self._ready += ((key, None) for key in readers)
        try:
            while self._ready or self._pending or self._waiting or self._flights:
                while self._ready:
                    yield from self._turn(readers)
                self._stop.raise_if_set()
                self._launch()
                if self._flights or self._waiting:
                    self._receive(*self._next_timeout())
        finally:
            for flight in self._flights.values():
                flight.exchange.give_up()

    def _turn(
        self, readers: Mapping[K, Generator[Request | Wait | S, Answer, None]]
    ) -> Iterator[tuple[K, S | FatalAPIError | None]]:
        """Advance a reader, and yield its step unless it is a request or a wait."""
        self._stop.raise_if_set()
        key, answer = self._ready.popleft()
        step = _advance(readers[key], answer)
        if isinstance(step, Request):
            self._pending.append((key, step))
        elif isinstance(step, Wait):
            at = self._clock.monotonic() + step.seconds
            heapq.heappush(self._waiting, (at, next(self._order), key, step))
        else:
            yield key, step
            if step is not None and not isinstance(step, FatalAPIError):
                self._ready.append((key, None))

    def _launch(self) -> None:
        """Start the requests that may start now.

        Raises:
            LimitReachedError: At a limit, as soon as no request is in flight.
        """
        while self._pending and len(self._flights) < self.MAX_IN_FLIGHT:
            try:
                self._limits.check(None)
            except LimitReachedError:
                if self._flights:
                    return
                raise
            (key, request), ticket = self._pending.popleft(), next(self._order)

            def put(answer: Answer, ticket: int = ticket) -> None:
                self._inbox.put((ticket, answer))

            exchange = self._start(key, request, put)
            deadline = time.monotonic() + self._timeout
            self._flights[ticket] = Flight(key, exchange, deadline)

    def _next_timeout(self) -> tuple[float, float | None]:
        """Return how long to wait, by the clock and in real time.

        Raises:
            LimitReachedError: If all readers have to wait for too long.
        """
        seconds = math.inf
        if self._waiting:
            seconds = max(0.0, self._waiting[0][0] - self._clock.monotonic())
        if self._flights:
            first = min(it.deadline for it in self._flights.values())
            return seconds, first - time.monotonic()
        if seconds:
            wait = self._waiting[0][-1]._replace(seconds=seconds)
            self._limits.check(wait)
            seconds = min(seconds, self._limits.announce(wait))
        return seconds, None

    def _receive(self, seconds: float, deadline: float | None) -> None:
        """Wait for an answer, a stop signal, or the end of a wait.

        Answers count before deadlines: while a slow loader blocks the run, they wait in
        the inbox.
        """
        item = self._clock.wait(self._inbox, seconds, deadline)
        while item:
            ticket, answer = item
            if flight := self._flights.pop(ticket, None):
                self._ready.append((flight.key, answer))
            item = None if self._inbox.empty() else self._inbox.get()
        self._expire(time.monotonic())
        now = self._clock.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append((heapq.heappop(self._waiting)[2], None))

    def _expire(self, now: float) -> None:
        """Give up the requests whose time is up."""
        for ticket, flight in list(self._flights.items()):
            if flight.deadline <= now:
                del self._flights[ticket]
                flight.exchange.give_up()
                self._ready.append((flight.key, timed_out(self._timeout)))


def _advance(
    reader: Generator[Request | Wait | S, Answer, None], answer: Answer
) -> Request | Wait | S | FatalAPIError | None:
    """Return the next step of a reader, the error that ended it, or None at its end."""
    try:
        return reader.send(answer)
    except StopIteration:
        return None
    except FatalAPIError as error:
        return error
