"""The sandbox limits requests per minute and per hour, like the vendor."""

from __future__ import annotations

import typing as t

import pytest

from sandbox import NO_LIMITS, Limits, Sandbox
from tests.test_sandbox import get

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """A sandbox with limits of 3 per minute and 7 per hour, at a full hour."""
    clock.now -= clock.now % 3600
    with Sandbox(leads=1, limits=Limits(3, 7), clock=clock.time) as sandbox:
        yield sandbox


def get_status(sandbox: Sandbox) -> tuple[int, ...]:
    """Return status, limit, remaining and reset, and Retry-After for a 429."""
    response = get(sandbox)
    names = ("Limit", "Remaining", "Reset")
    values = [response.headers[f"RateLimit-{name}"] for name in names]
    wait = [response.headers["Retry-After"]] if response.status_code == 429 else []
    return response.status_code, *map(int, values + wait)


def test_in_a_sliding_window_a_request_counts_for_60_seconds(
    api: Sandbox, clock: FakeClock
) -> None:
    """Retry-After waits for the oldest request to expire, Reset for the newest."""
    for wait, expected in (
        (0, (200, 3, 2, 60)),
        (10, (200, 3, 1, 60)),
        (10, (200, 3, 0, 60)),
        (10, (429, 3, 0, 50, 30)),
        (29, (429, 3, 0, 21, 1)),
        (1, (200, 3, 0, 60)),
    ):
        clock.now += wait
        assert get_status(api) == expected


def test_a_fixed_window_starts_at_the_full_minute(
    api: Sandbox, clock: FakeClock
) -> None:
    """The full limit is available again then."""
    api.limits = Limits(3, 7, window="fixed")
    clock.now += 50
    for remaining in (2, 1, 0):
        assert get_status(api) == (200, 3, remaining, 10)
    assert get_status(api) == (429, 3, 0, 10, 10)
    clock.now += 10
    assert get_status(api) == (200, 7, 3, 3540)


def test_the_tighter_window_is_reported(api: Sandbox, clock: FakeClock) -> None:
    """It has the smaller share left, or, if both are used up, the longer wait."""
    # 2 of 3 are left in the minute; in the hour 6 of 7, 5 of 7, 4 of 7 and so on.
    for limit in (3, 3, 7, 7, 7, 7, 7):
        assert get_status(api)[:2] == (200, limit)
        clock.now += 60
    assert get_status(api) == (429, 7, 0, 3600 - 60, 3600 - 7 * 60)


@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_a_request_after_retry_after_is_accepted(
    api: Sandbox, clock: FakeClock, window: t.Literal["sliding", "fixed"]
) -> None:
    """A second earlier it is rejected. A rejected request does not count."""
    api.limits = Limits(3, 7, window)
    clock.now += 0.25
    begin = clock.now
    for _ in range(29):
        status, *_, wait = get_status(api)
        if status == 429:
            for seconds, expected in ((wait - 1, 429), (1, 200)):
                clock.now += seconds
                assert get_status(api)[0] == expected
    assert clock.now - begin == pytest.approx(4 * 3600, abs=120)


def test_speed_shortens_the_windows(api: Sandbox, clock: FakeClock) -> None:
    """At a speed of 60, a minute lasts a second."""
    api.limits = Limits(3, 0, speed=60)
    assert [get_status(api)[0] for _ in range(4)] == [200, 200, 200, 429]
    clock.now += 1
    assert get_status(api)[0] == 200


def test_limits_can_change_while_it_runs(api: Sandbox) -> None:
    """Without limits, responses have no rate-limit headers."""
    assert [get_status(api)[0] for _ in range(4)] == [200, 200, 200, 429]
    api.limits = NO_LIMITS
    response = get(api)
    assert response.status_code == 200
    assert "RateLimit-Limit" not in response.headers


def test_a_lower_limit_waits_until_more_requests_expire(
    api: Sandbox, clock: FakeClock
) -> None:
    """All three requests must expire before a limit of one accepts the next."""
    for _ in range(3):
        get_status(api)
        clock.now += 10
    api.limits = Limits(1, 0)
    assert get_status(api) == (429, 1, 0, 50, 50)


def test_each_key_has_its_own_limits(api: Sandbox) -> None:
    """Requests without a known key share one more set of limits."""
    wrong = [{"Authorization": f"Bearer mega_wrong_{number}"} for number in range(4)]
    assert [get(api, it).status_code for it in wrong] == [401, 401, 401, 429]
    other = {"Authorization": f"Bearer {api.token_without_scope}"}
    assert [get(api, other).status_code for _ in range(4)] == [403, 403, 403, 429]
    assert get_status(api) == (200, 3, 2, 60)
    assert get(api, limit=0).headers["RateLimit-Remaining"] == "1"
