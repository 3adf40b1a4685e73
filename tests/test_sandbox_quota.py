"""The sandbox counts requests as the vendor does: by the minute and by the hour."""

from __future__ import annotations

import typing as t

import pytest

from sandbox import NO_LIMITS, Limits, Sandbox
from tests.test_sandbox import ask

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """A sandbox with an hour's limit of 7 and a minute's of 3; the hour is whole."""
    clock.now -= clock.now % 3600
    with Sandbox(leads=1, limits=Limits(3, 7), clock=clock.time) as sandbox:
        yield sandbox


def standing(sandbox: Sandbox) -> tuple[int, ...]:
    """Return status, limit, remaining, reset and, for 429, Retry-After."""
    answer = ask(sandbox)
    names = ("Limit", "Remaining", "Reset")
    told = [answer.headers[f"RateLimit-{name}"] for name in names]
    wait = [answer.headers["Retry-After"]] if answer.status_code == 429 else []
    return answer.status_code, *map(int, told + wait)


def test_a_sliding_minute_lets_each_request_go_after_60_seconds(
    api: Sandbox, clock: FakeClock
) -> None:
    """Retry-After is when the oldest one leaves; Reset is when the last one does."""
    stands = []
    for _ in range(4):
        stands.append(standing(api))
        clock.now += 10
    assert stands == [
        (200, 3, 2, 60),
        (200, 3, 1, 60),
        (200, 3, 0, 60),
        (429, 3, 0, 50, 30),
    ]
    clock.now += 19
    assert standing(api) == (429, 3, 0, 21, 1)
    clock.now += 1
    assert standing(api) == (200, 3, 0, 60)


def test_a_fixed_minute_begins_at_the_full_minute(
    api: Sandbox, clock: FakeClock
) -> None:
    """All of it is there again then."""
    api.limits = Limits(3, 7, window="fixed")
    clock.now += 50
    assert [standing(api) for _ in range(4)] == [
        (200, 3, 2, 10),
        (200, 3, 1, 10),
        (200, 3, 0, 10),
        (429, 3, 0, 10, 10),
    ]
    clock.now += 10
    assert standing(api) == (200, 7, 3, 3540)


def test_the_tighter_window_is_reported(api: Sandbox, clock: FakeClock) -> None:
    """The one with the smaller share left; when both are used up, the longer wait."""
    limits = []
    for _ in range(7):
        status, limit, *_ = standing(api)
        limits.append(limit)
        assert status == 200
        clock.now += 60
    # 2 of 3 are left in the minute; in the hour 6 of 7, 5 of 7, 4 of 7 and so on.
    assert limits == [3, 3, 7, 7, 7, 7, 7]
    assert standing(api) == (429, 7, 0, 3600 - 60, 3600 - 7 * 60)


@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_whoever_waits_as_told_is_accepted(
    api: Sandbox, clock: FakeClock, window: t.Literal["sliding", "fixed"]
) -> None:
    """A second less would not have been enough; a refused request is not counted."""
    api.limits = Limits(3, 7, window)
    clock.now += 0.25
    begin = clock.now
    for _ in range(29):
        status, *_, wait = standing(api)
        if status == 429:
            clock.now += wait - 1
            assert standing(api)[0] == 429
            clock.now += 1
            assert standing(api)[0] == 200
    assert clock.now - begin == pytest.approx(4 * 3600, abs=120)


def test_speed_makes_the_windows_shorter(api: Sandbox, clock: FakeClock) -> None:
    """At 60 a minute lasts a second."""
    api.limits = Limits(3, 0, speed=60)
    assert [standing(api)[0] for _ in range(4)] == [200, 200, 200, 429]
    clock.now += 1
    assert standing(api)[0] == 200


def test_limits_can_change_while_it_runs(api: Sandbox) -> None:
    """And without any, there is nothing to report."""
    assert [standing(api)[0] for _ in range(4)] == [200, 200, 200, 429]
    api.limits = NO_LIMITS
    answer = ask(api)
    assert answer.status_code == 200
    assert "RateLimit-Limit" not in answer.headers


def test_a_lower_limit_waits_for_more_requests_to_leave(
    api: Sandbox, clock: FakeClock
) -> None:
    """Of three requests all must have left before a limit of one accepts the next."""
    for _ in range(3):
        standing(api)
        clock.now += 10
    api.limits = Limits(1, 0)
    assert standing(api) == (429, 1, 0, 50, 50)


def test_each_key_has_its_own_quota(api: Sandbox) -> None:
    """Requests without a key that is known are not counted."""
    for _ in range(4):
        assert ask(api, {"Authorization": "Bearer mega_wrong"}).status_code == 401
    other = {"Authorization": f"Bearer {api.token_without_scope}"}
    assert [ask(api, other).status_code for _ in range(4)] == [403, 403, 403, 429]
    assert standing(api) == (200, 3, 2, 60)
    assert ask(api, limit=0).headers["RateLimit-Remaining"] == "1"
