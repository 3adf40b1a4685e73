"""Many readers at once: turns, requests in flight, waits, limits and stop signals."""

from __future__ import annotations

import itertools
import threading
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.exceptions import FatalAPIError
from typing_extensions import override

from tap_mega.api.client import Request
from tap_mega.api.page import Page
from tap_mega.api.retry import Wait
from tap_mega.cli.trial import NoLimits
from tap_mega.shared.clock import Clock
from tap_mega.shared.errors import TemporaryError
from tap_mega.shared.stopping import StopFlag
from tap_mega.sync.scheduler import LimitReachedError, Scheduler
from testing.clock import FakeClock

if t.TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tap_mega.api.retry import Answer
    from tap_mega.sync.scheduler import Put

    Reader: t.TypeAlias = Generator[Request | Wait | object, Answer, None]

PAGE = Page([], [], None, None)
TIMEOUT_SECONDS = 60
"""Much more than a test takes: only a bug reaches it."""
REQUEST = Request({})


class Exchange:
    """A request, which knows whether it was given up."""

    is_given_up = False

    def give_up(self) -> None:
        """Note it."""
        self.is_given_up = True


def answer_at_once(_key: object, _request: Request, put: Put) -> Exchange:
    """Answer before the request is in flight."""
    put(PAGE)
    return Exchange()


def new_scheduler(
    start: Callable[[int, Request, Put], Exchange] = answer_at_once,
    timeout: float = TIMEOUT_SECONDS,
    **more: t.Any,
) -> Scheduler[int]:
    """Return a scheduler on a fake clock, without limits."""
    parts = {"limits": NoLimits(), "clock": FakeClock(), "stop": StopFlag(), **more}
    return Scheduler(t.cast("t.Any", start), timeout, **parts)


def reading(*steps: object) -> Reader:
    """Yield requests, each of whose answers is yielded, and other steps as they are."""
    for step in steps:
        answer = yield step
        if isinstance(step, Request):
            yield answer


def test_eight_requests_are_in_flight_together() -> None:
    """Each waits for seven others, and a ninth one waits for one of them."""
    together, lock = threading.Barrier(Scheduler.MAX_IN_FLIGHT), threading.Lock()
    in_flight, most = 0, 0

    def start(_key: int, _request: Request, put: Put) -> Exchange:
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)

        def answer() -> None:
            nonlocal in_flight
            together.wait(TIMEOUT_SECONDS)
            with lock:
                in_flight -= 1
            put(PAGE)

        threading.Thread(target=answer).start()
        return Exchange()

    count = 3 * Scheduler.MAX_IN_FLIGHT
    readers = {key: reading(REQUEST) for key in range(count)}
    turns = list(new_scheduler(start, clock=Clock()).turns(readers))
    assert turns.count((0, PAGE)) == 1
    assert [step for _, step in turns].count(PAGE) == count
    assert most == Scheduler.MAX_IN_FLIGHT


def test_readers_take_turns() -> None:
    """One that needs much does not delay one that needs little."""
    order = []

    def start(key: int, request: Request, put: Put) -> Exchange:
        order.append(key)
        return answer_at_once(key, request, put)

    scheduler = new_scheduler(start)
    scheduler.MAX_IN_FLIGHT = 1
    readers = {key: reading(*[REQUEST] * count) for key, count in enumerate([3, 1, 2])}
    assert len(list(scheduler.turns(readers))) == 3 + 1 + 2 + 3
    assert order == [0, 1, 2, 0, 2, 0]


Plan: t.TypeAlias = list[Page | Request | Wait | float | FatalAPIError]


def following(plan: Plan, clock: FakeClock) -> Reader:
    """Yield the steps of a plan; a number lets so many seconds pass.

    It fails if a wait was cut short, or an answer is not that of the request.
    """
    ready_at = clock.now
    for step in plan:
        if isinstance(step, FatalAPIError):
            raise step
        if isinstance(step, float):
            clock.now += step
            continue
        assert clock.now >= ready_at - 1e-6
        ready_at = clock.now + (step.seconds if isinstance(step, Wait) else 0)
        answer = yield step
        assert answer == (PAGE if isinstance(step, Request) else None)


def follow(plans: list[Plan], clock: FakeClock) -> tuple[list[int], dict[int, object]]:
    """Read all plans by turns; return the pages of each, and how each ended."""
    pages, ends = [0] * len(plans), dict[int, object]()
    readers = {key: following(plan, clock) for key, plan in enumerate(plans)}
    for key, step in new_scheduler(clock=clock).turns(readers):
        assert key not in ends
        if isinstance(step, Page):
            pages[key] += 1
        else:
            ends[key] = step
    return pages, ends


days = st.lists(
    st.just(PAGE)
    | st.just(REQUEST)
    | st.builds(Wait, st.floats(0.01, 4000), st.just("quota"))
    | st.floats(0, 3)
    | st.builds(FatalAPIError),
    max_size=12,
)


def until_error(plan: Plan) -> Plan:
    """Return the part of a plan before its first error."""
    return list(itertools.takewhile(lambda it: not isinstance(it, FatalAPIError), plan))


@given(st.lists(days, max_size=6))
def test_turns_keep_each_wait_and_lose_no_time(plans: list[Plan]) -> None:
    """Each reader gives its pages, waits as long as it asks, and ends by itself.

    The whole takes no longer than the longest waits of one, and the requests of all.
    """
    clock = FakeClock(0)
    pages, ends = follow(plans, clock)
    alive = [until_error(plan) for plan in plans]
    assert pages == [sum(it is PAGE for it in plan) for plan in alive]
    failed = [isinstance(ends[key], FatalAPIError) for key in range(len(plans))]
    assert failed == [one != plan for one, plan in zip(alive, plans, strict=True)]
    busy = sum(it for plan in plans for it in plan if isinstance(it, float))
    waits = [sum(it.seconds for it in plan if isinstance(it, Wait)) for plan in plans]
    assert clock.now <= busy + max(waits, default=0) + 1e-6


def test_a_wait_ends_while_a_request_is_in_flight() -> None:
    """The first request is answered only when the reader that waits sends its own."""
    puts: list[Put] = []

    def start(_key: int, _request: Request, put: Put) -> Exchange:
        puts.append(put)
        if len(puts) > 1:
            for it in puts:
                it(PAGE)
        return Exchange()

    readers = {0: reading(REQUEST), 1: reading(Wait(0.01, ""), REQUEST)}
    turns = list(new_scheduler(start, clock=Clock()).turns(readers))
    assert turns[:2] == [(0, PAGE), (1, PAGE)]


def test_a_request_without_an_answer_is_given_up() -> None:
    """It is an error of its reader, and an answer that comes later is dropped."""
    exchanges, puts = [Exchange(), Exchange()], list[t.Any]()
    second = PAGE._replace(total=2)

    def start(_key: int, _request: Request, put: Put) -> Exchange:
        puts.append(put)
        if len(puts) > 1:
            assert exchanges[0].is_given_up
            puts[0](PAGE)
            put(second)
        return exchanges[len(puts) - 1]

    readers = {0: reading(REQUEST, REQUEST)}
    (_, error), *rest = new_scheduler(start, timeout=0).turns(readers)
    assert isinstance(error, TemporaryError)
    assert rest == [(0, second), (0, None)]
    assert not exchanges[1].is_given_up


def test_an_answer_counts_although_its_time_is_up() -> None:
    """A slow loader may block the run while the answer is there."""
    turns = list(new_scheduler(timeout=0).turns({0: reading(REQUEST)}))
    assert turns == [(0, PAGE), (0, None)]


class OneRequest(NoLimits):
    """Allows one request."""

    def __init__(self) -> None:
        """Start with none."""
        self.requests = 0

    @override
    def check(self, wait: Wait | None) -> None:
        """Count the requests."""
        assert wait is None
        self.requests += 1
        if self.requests > 1:
            raise LimitReachedError


def test_requests_in_flight_end_at_a_limit() -> None:
    """Their pages count; no other request starts."""
    readers = {key: reading(REQUEST, REQUEST) for key in range(2)}
    turns = new_scheduler(limits=OneRequest()).turns(readers)
    assert next(turns) == (0, PAGE)
    with pytest.raises(LimitReachedError):
        next(turns)
