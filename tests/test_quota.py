"""Test how the tap paces requests: it avoids 429 responses and wastes no time."""

from __future__ import annotations

import email.utils
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Fault, Limits, Sandbox
from tap_mega.api.rate_limit import RESET_MARGIN_SECONDS, RateLimiter
from testing.clock import FakeClock
from testing.least_times import (
    HOUR,
    MINUTE,
    PER_HOUR,
    PER_MINUTE,
    least_seconds_fixed,
    least_seconds_sliding,
)

if t.TYPE_CHECKING:
    from testing.harness import Command, Sync

START = 1_800_000_000
"""The start of an hour."""
IN_40_SECONDS = email.utils.formatdate(START + 40, usegmt=True)


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0, 40])
@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_a_long_sync_takes_the_least_time_and_gets_no_429(
    tap: Command, window: t.Literal["sliding", "fixed"], minutes: int
) -> None:
    """A sync of 2,300 pages gets no 429 and takes the least time, within 1 %."""
    start = START + minutes * MINUTE + 17
    clock = FakeClock(start)
    with Sandbox(leads=2300, clock=clock.time, limits=Limits(window=window)) as sandbox:
        run = tap(config={**sandbox.config(), "page_size": 1}, clock=clock)
        least = {
            "sliding": least_seconds_sliding(2300),
            "fixed": least_seconds_fixed(2300, start),
        }[window]
        assert run.code == 0
        assert {request.status for request in sandbox.requests} == {200}
        assert len(sandbox.requests) == len(run.records) == 2300
        assert clock.now - start <= least * 1.01


def test_a_short_sync_does_not_wait(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """A sync that fits into the quota of a minute does not wait."""
    run = sync(page_size=5)
    assert run.code == 0
    assert len(sandbox.requests) == 50
    assert clock.sleeps == []


def test_a_fixed_window_ends_when_the_api_says(tap: Command) -> None:
    """The tap waits for the end of the API's minute, not for one of its own."""
    clock = FakeClock(START + 40)
    limits = Limits(window="fixed")
    with Sandbox(leads=PER_MINUTE + 1, clock=clock.time, limits=limits) as sandbox:
        run = tap(config={**sandbox.config(), "page_size": 1}, clock=clock)
    assert len(run.records) == PER_MINUTE + 1
    assert clock.sleeps == [20 + RESET_MARGIN_SECONDS]


def test_pacing_can_be_turned_off(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """If both limits are 0, no request waits."""
    sandbox.limits = Limits(per_minute=0, per_hour=0)
    assert sync(page_size=1, requests_per_minute=0, requests_per_hour=0).code == 0
    assert len(sandbox.requests) == 250
    assert clock.sleeps == []


@given(
    per_minute=st.integers(1, 8),
    per_hour=st.integers(1, 30),
    steps=st.lists(st.floats(0, 300), min_size=1, max_size=80),
)
def test_no_minute_and_no_hour_exceeds_its_limit(
    per_minute: int, per_hour: int, steps: list[float]
) -> None:
    """However long responses take, no minute and no hour exceeds its limit."""
    limiter, now, sent = RateLimiter(per_minute, per_hour), 0.0, list[float]()
    for seconds in steps:
        now += limiter.delay(now)
        sent.append(now)
        now += seconds
        limiter.record(now)
    for limit, span in ((per_minute, MINUTE), (per_hour, HOUR)):
        for first, later in zip(sent, sent[limit:], strict=False):
            assert later - first >= span


def rate_limit_headers(limit: int, reset: int) -> dict[str, str]:
    """Return the headers of a response that the tap reads."""
    return {"RateLimit-Limit": str(limit), "RateLimit-Reset": str(reset)}


def test_a_limit_of_one_delays_the_second_request() -> None:
    """The first one takes no time."""
    limiter = RateLimiter(per_minute=1, per_hour=0)
    assert [limiter.seconds_for(it, now=0) for it in range(4)] == [0, 0, 60, 120]


def test_a_reset_belongs_to_one_window_only() -> None:
    """A reset of the minute leaves the hour as it is, and the other way round."""
    minute, hour = RateLimiter(2, 0), RateLimiter(0, 2)
    for limiter in (minute, hour):
        limiter.record(0)
        limiter.record(0)
        limiter.update(rate_limit_headers(1000, 1800), now=0)
    waits = [minute.delay(0), hour.delay(0)]
    assert waits == [pytest.approx(60, abs=0.2), pytest.approx(1800, abs=1.1)]
    for limiter in (minute, hour):
        limiter.update(rate_limit_headers(60, 20), now=0)
    assert [minute.delay(0), hour.delay(0)] == [pytest.approx(20, abs=1.1), waits[1]]
    for limiter in (minute, hour):  # The hour's limit is known by now.
        limiter.update(rate_limit_headers(1000, 10), now=0)
    assert minute.delay(0) == pytest.approx(20, abs=1.1)
    assert hour.delay(0) == pytest.approx(10, abs=1.1)


def test_a_reset_in_a_minute_is_one_of_the_minute() -> None:
    """Only a longer one can be that of the hour."""
    hour = RateLimiter(0, 1)
    hour.record(0)
    hour.update(rate_limit_headers(60, 60), now=0)
    assert hour.delay(0) == pytest.approx(3600, abs=0.2)
    hour.update(rate_limit_headers(1000, 61), now=0)
    assert hour.delay(0) == 62


@pytest.mark.parametrize(
    "headers",
    [{}, {"RateLimit-Limit": "60"}, {"RateLimit-Reset": "5"}],
    ids=["none", "limit", "reset"],
)
def test_incomplete_rate_limit_headers_change_nothing(headers: dict[str, str]) -> None:
    """A reset is believed only beside the limit that it belongs to."""
    limiter = RateLimiter(1, 0)
    limiter.record(0)
    limiter.update(headers, now=0)
    assert limiter.delay(0) == pytest.approx(60, abs=0.2)


def test_the_predicted_time_matches_the_schedule() -> None:
    """`seconds_for` predicts the schedule and does not change it."""
    limiter = RateLimiter(PER_MINUTE, PER_HOUR)
    predicted = limiter.seconds_for(2300, now=0)
    assert predicted == pytest.approx(least_seconds_sliding(2300), rel=0.01)
    assert limiter.seconds_for(2300, now=0) == predicted


@pytest.mark.parametrize(
    ("used", "requests", "now", "seconds"),
    [
        *((0, 0, 20, 0), (0, 10, 20, 0), (0, 11, 20, 60), (0, 21, 20, 120)),
        *((9, 1, 20, 0), (9, 2, 20, 40.1), (10, 0, 20, 0), (10, 10, 20, 40.1)),
        *((10, 11, 20, 100.1), (10, 10, 60.1, 0), (10, 11, 60.1, 60)),
        *((0, 30, 20, 120), (0, 31, 20, 3600), (0, 40, 20, 3600), (0, 41, 20, 3660)),
        *((10, 21, 20, 3580.1), (10, 20, 20, 100.1)),
    ],
)
def test_full_windows_alone_take_time(
    used: int, requests: int, now: float, seconds: float
) -> None:
    """Requests take no time as long as the minute and the hour have room for them."""
    limiter = RateLimiter(per_minute=10, per_hour=30)
    for _ in range(used):
        limiter.record(now=0)
    assert limiter.seconds_for(requests, now) == pytest.approx(seconds)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["40", "40.0", "40, 40", IN_40_SECONDS])
def test_retry_after_is_obeyed(
    sandbox: Sandbox, clock: FakeClock, sync: Sync, header: str, status: int
) -> None:
    """In each notation. A proxy may join two headers. A 429 uses up no attempts."""
    sandbox.script(Fault("error", 2, status=status, retry_after=header))
    assert sync(backoff_max_tries=1 if status == 429 else 2).code == 0
    assert clock.sleeps == [40]


@pytest.mark.parametrize("header", [None, "", "soon", "-3", "0"])
def test_without_retry_after_waits_grow(
    sandbox: Sandbox, clock: FakeClock, sync: Sync, header: str | None
) -> None:
    """After a `Retry-After` of zero, the tap still waits a second."""
    sandbox.script(Fault("error", 1, 4, status=429, retry_after=header))
    assert sync().code == 0
    expected = [1, 1, 1, 1] if header == "0" else [1, 2, 4, 8]
    for wait, least in zip(clock.sleeps, expected, strict=True):
        assert least <= wait <= least + 1


def test_a_wait_is_logged(sandbox: Sandbox, sync: Sync) -> None:
    """A line a minute says how far the run is, which limit it waits for, and how long.

    Waits of a few seconds have no line.
    """
    sandbox.script(
        Fault("error", 1, status=429, retry_after=4),
        Fault("error", 3, status=429, retry_after=1800),
    )
    run = sync(requests_per_minute=4)
    lines = [it.split(" | ")[-1] for it in run.log.splitlines() if "Waiting" in it]
    no_quota = "the API answered 429: the token has no quota left"
    assert len(lines) == 30
    for minutes, line in zip(range(30, 0, -1), lines, strict=True):
        assert line.startswith("Read 100 of 250 leads (40 %), about ")
        assert line.endswith(
            f"Waiting {minutes} min: {no_quota}. Resuming at 08:30:04 UTC"
        )
    run = sync(requests_per_minute=2)
    lines = [it.split(" | ")[-1] for it in run.log.splitlines() if "Waiting" in it]
    assert lines == [
        (
            "Read 200 of 250 leads (80 %), about 1 min left. Waiting 1 min: the limit "
            "of 2 requests per minute is reached. Resuming at 08:31:04 UTC"
        )
    ]
    run = sync(requests_per_hour=1, page_size=90)
    assert "the limit of 1 request per hour is reached" in run.log


def test_the_time_left_knows_the_wait(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """It has the rest of a wait that the API asks for, and the quota after it."""
    sandbox.script(Fault("error", 2, status=429, retry_after=1800))
    run = sync(page_size=10, requests_per_minute=6)
    (first, *others) = [line for line in run.log.splitlines() if "Waiting 30" in line]
    # 24 pages are left. At the end of the wait, the minute is free again.
    assert "Read 10 of 250 leads (4 %), about 33 min left." in first
    assert not others
    assert clock.now == pytest.approx(START + 1800 + 3 * MINUTE, abs=1)


TOO_LONG = Fault("error", 2, None, status=429, retry_after=7200)


def test_a_wait_over_the_maximum_ends_an_incremental_sync(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """An incremental sync exits with 0, and logs how much is left."""
    sandbox.script(TOO_LONG)
    run = sync()
    assert run.code == 0
    assert clock.sleeps == []
    assert "max_wait_seconds" in run.log
    assert "About 150 leads are left for the next run" in run.log
    assert len(run.records) == 100


def test_a_wait_over_the_maximum_fails_without_progress(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """The run exits with 1 if it read nothing, and the state stays."""
    sandbox.script(TOO_LONG)
    state = sync().state
    sandbox.script(Fault("error", times=None, status=429, retry_after=7200))
    run = sync(state=state)
    assert (run.code, run.state, clock.sleeps) == (1, state, [])
    assert len(run.errors) == 1
    assert "max_wait_seconds" in run.errors[0]


def test_the_maximum_wait_can_be_set(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """With a higher `max_wait_seconds`, the tap accepts the same wait."""
    sandbox.script(Fault("error", 2, status=429, retry_after=7200))
    run = sync(max_wait_seconds=7200)
    assert run.code == 0
    assert sum(clock.sleeps) == 7200
    assert run.leads == sandbox.leads.all()


def test_the_maximum_wait_does_not_limit_retries(sandbox: Sandbox, sync: Sync) -> None:
    """With `max_wait_seconds: 0`, a failed request is still retried."""
    sandbox.script(Fault("error", 2, 3))
    run = sync(max_wait_seconds=0)
    assert run.code == 0
    assert run.leads == sandbox.leads.all()


@pytest.mark.parametrize(
    ("pace", "per_hour", "leads", "minutes"),
    [
        ({"requests_per_minute": 10, "requests_per_hour": 60}, 60, 200, 142),
        ({"requests_per_hour": 900}, 900, 2300, 88.5),
    ],
)
def test_a_lower_limit_is_kept(
    tap: Command, pace: dict[str, int], per_hour: int, leads: int, minutes: float
) -> None:
    """Even if it equals another limit of the API, whose reset is believed."""
    start = START + 40 * MINUTE + 17
    clock = FakeClock(start)
    with Sandbox(leads=leads, clock=clock.time, limits=Limits(window="fixed")) as api:
        run = tap(config={**api.config(), **pace, "page_size": 1}, clock=clock)
        assert (run.code, len(run.records)) == (0, leads)
        assert {it.status for it in api.requests} == {200}
        hours = [it.time // HOUR for it in api.requests]
        assert max(hours.count(hour) for hour in hours) == per_hour
        assert (clock.now - start) / MINUTE < minutes
