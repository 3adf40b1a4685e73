"""Pace by the minute and by the hour, so that the API never has to refuse a request."""

from __future__ import annotations

import typing as t
from collections import deque

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600

MARGIN_SECONDS = 0.1
"""How much longer than a window we wait: the API's clock is not ours."""

RESET_MARGIN_SECONDS = 1
"""`RateLimit-Reset` is in whole seconds, and which way it is rounded is not said."""


class Clock(t.Protocol):
    """Where the time comes from. The module `time` is one; tests hand in another."""

    def time(self) -> float:
        """Return the seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def sleep(self, seconds: float, /) -> None:
        """Return after so many seconds."""


class Window:
    """One limit of the API: so many requests in so many seconds.

    A request counts for the window's whole length from when its answer was there. So
    no span of that length ever holds more requests than the limit, wherever the API's
    own windows begin, be they sliding or fixed.
    """

    def __init__(self, limit: int, seconds: int) -> None:
        """Make a window of `limit` requests in `seconds`, with none spent yet."""
        self.limit = limit
        self.seconds = seconds
        self._ends: deque[float] = deque(maxlen=limit)
        """When each of the last `limit` requests stops counting, oldest first."""

    def free_at(self) -> float:
        """Return the moment from which the next request has room."""
        return self._ends[0] if len(self._ends) == self.limit else 0

    def spend(self, now: float) -> None:
        """Count a request that was answered `now`."""
        self._ends.append(now + self.seconds + MARGIN_SECONDS)

    def refill(self, at: float) -> None:
        """Take note that no request so far will count any more from `at` on."""
        if self._ends and self._ends[-1] > at:
            self._ends = deque((min(end, at) for end in self._ends), self.limit)

    def copy(self) -> Window:
        """Return a window of the same limit with the same requests spent."""
        window = Window(self.limit, self.seconds)
        window._ends.extend(self._ends)  # its own class
        return window


class Quota:
    """The API's limits, and what is spent of them. Times are of one monotonic clock."""

    def __init__(self, per_minute: int, per_hour: int) -> None:
        """Make a quota of requests a minute and an hour; 0 is no limit."""
        limits = ((per_minute, MINUTE_SECONDS), (per_hour, HOUR_SECONDS))
        self._windows = [Window(*limit) for limit in limits if limit[0]]

    def __str__(self) -> str:
        """Return the limits in words: `60 requests a minute and 1000 an hour`."""
        names = {MINUTE_SECONDS: "a minute", HOUR_SECONDS: "an hour"}
        words = [f"{window.limit} {names[window.seconds]}" for window in self._windows]
        return " and ".join(words).replace(" a", " requests a", 1)

    def wait(self, now: float) -> float:
        """Return how many seconds from `now` the next request has to wait."""
        return max([0.0, *(window.free_at() - now for window in self._windows)])

    def spend(self, now: float) -> None:
        """Count a request that was answered `now`, well or not."""
        for window in self._windows:
            window.spend(now)

    def refill(self, limit: float, now: float, seconds: float) -> None:
        """Believe the API that a window is full again sooner than we could know.

        This is how the time is used that fixed windows leave: they begin when the
        clock says, not with our first request.

        Args:
            limit: `RateLimit-Limit`, the limit of the window that is meant.
            now: When the answer was there.
            seconds: `RateLimit-Reset`, the seconds until the window is full again.
        """
        for window in self._windows:
            # What takes no longer than a minute may be of the minute: the setting of
            # the hour can be the same number.
            shortest = MINUTE_SECONDS if window.seconds > MINUTE_SECONDS else 0
            if window.limit == limit and seconds > shortest:
                window.refill(now + seconds + RESET_MARGIN_SECONDS)

    def seconds_for(self, requests: int, now: float) -> float:
        """Return how many seconds so many requests take, were each answered at once."""
        if not self._windows:
            return 0
        longest = self._windows[-1]
        rounds, rest = divmod(requests, longest.limit)
        plan = Quota(0, 0)
        plan._windows = [window.copy() for window in self._windows]
        moment = now
        for _ in range(rest):
            moment += plan.wait(moment)
            plan.spend(moment)
        return moment - now + rounds * longest.seconds
