"""Pacing by the minute and by the hour. It does no HTTP, and time is an argument."""

from __future__ import annotations

import typing as t
from collections import deque

from typing_extensions import override

from tap_mega.shared.words import counted

if t.TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
NAMES = {MINUTE_SECONDS: "minute", HOUR_SECONDS: "hour"}

MARGIN_SECONDS = 0.1
"""A request counts this much longer than its window: the API has its own clock."""

RESET_MARGIN_SECONDS = 1
"""`RateLimit-Reset` is in whole seconds, and the vendor does not say how it rounds."""


class Window:
    """One limit of the API: a number of requests in a number of seconds.

    A request counts for the whole length of the window, from its response on. So no
    span of that length holds more requests than the limit, whether the API's own
    windows slide or are fixed.
    """

    def __init__(self, limit: int, seconds: int) -> None:
        """Start a window of `limit` requests in `seconds`."""
        self.limit = limit
        self.seconds = seconds
        self._expiries: deque[float] = deque(maxlen=limit)
        """When each of the last `limit` requests stops counting, oldest first."""

    @override
    def __str__(self) -> str:
        """Return the limit in words, such as `60 requests per minute`."""
        return f"{counted(self.limit, 'request')} per {NAMES[self.seconds]}"

    def free_at(self) -> float:
        """Return the time at which the next request may be sent."""
        return self._expiries[0] if len(self._expiries) == self.limit else 0

    def record(self, now: float) -> None:
        """Count a request whose response came `now`."""
        self._expiries.append(now + self.seconds + MARGIN_SECONDS)

    def reset(self, at: float) -> None:
        """Let no request that was sent so far count after `at`."""
        expiries = (min(expiry, at) for expiry in self._expiries)
        self._expiries = deque(expiries, self.limit)

    def used(self, now: float) -> int:
        """Return how many requests count `now`."""
        return sum(expiry > now for expiry in self._expiries)

    def seconds_for(self, rounds: int, now: float) -> float:
        """Return how many seconds it takes from `now` to have room `rounds` times."""
        if not rounds:
            return 0
        first = next((it - now for it in self._expiries if it > now), self.seconds)
        return first + (rounds - 1) * self.seconds


class RateLimiter:
    """Tracks the API's limits and their use. All times come from one monotonic clock.

    It counts requests at their responses, and believes `RateLimit-Reset` where that is
    sooner than its own count.
    """

    def __init__(self, per_minute: int, per_hour: int) -> None:
        """Start with nothing used.

        Args:
            per_minute: Requests per minute; 0 means no limit.
            per_hour: Requests per hour; 0 means no limit.
        """
        limits = ((per_minute, MINUTE_SECONDS), (per_hour, HOUR_SECONDS))
        self._windows = [Window(*limit) for limit in limits if limit[0]]
        self._hour_limit: float | None = None
        """The API's hourly limit; None until a reset of over a minute reveals it."""

    def delay(self, now: float) -> float:
        """Return how many seconds from `now` the next request has to wait."""
        return max([0.0, *(window.free_at() - now for window in self._windows)])

    def strictest(self) -> Window:
        """Return the limit that the next request has to wait for longest."""
        return max(self._windows, key=Window.free_at)

    def record(self, now: float) -> None:
        """Count a request whose response came `now`, whatever it was."""
        for window in self._windows:
            window.record(now)

    def update(self, headers: Mapping[str, str], now: float) -> None:
        """Shorten a window if the API says that it resets sooner.

        Fixed windows start when the API's clock says, not at our first request. The
        limit in the headers is that of the API. Ours may be lower, to leave a share of
        the quota to another program.

        Args:
            headers: `RateLimit-Limit`, the limit of the window that is meant, and
                `RateLimit-Reset`, the seconds until that window is full again. If one
                is missing or not a number, nothing changes.
            now: When the response came.
        """
        limit = headers.get("RateLimit-Limit", "")
        reset = headers.get("RateLimit-Reset", "")
        if not (limit.isdecimal() and reset.isdecimal()):
            return
        if float(reset) > MINUTE_SECONDS:
            self._hour_limit = float(limit)
        is_hour = float(limit) == self._hour_limit
        for window in self._windows:
            if (window.seconds == HOUR_SECONDS) == is_hour:
                window.reset(now + float(reset) + RESET_MARGIN_SECONDS)

    def seconds_for(self, requests: int, now: float) -> float:
        """Return about how many seconds so many requests take from `now` on.

        It counts full windows only: a request takes no time of its own.
        """
        seconds, rest = 0.0, requests
        for window in reversed(self._windows):
            used = 0 if seconds else window.used(now)
            rounds, index = divmod(max(0, used + rest - 1), window.limit)
            seconds += window.seconds_for(rounds, now)
            rest = index + 1 if rounds else rest
        return seconds
