"""The rate limits of a key: requests per minute and per hour."""

from __future__ import annotations

import bisect
import dataclasses
import typing as t

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
MICROSECONDS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of one key. The defaults come from the vendor's page rate-limits."""

    per_minute: int = 60
    """Requests per minute. 0 means no limit."""

    per_hour: int = 1000
    """Requests per hour. 0 means no limit."""

    window: t.Literal["sliding", "fixed"] = "sliding"
    """Sliding: the last minute or hour. Fixed: from each full minute or hour."""

    speed: float = 1.0
    """How many times faster the windows pass. At 60, a minute lasts one second."""

    def windows(self) -> list[tuple[int, int]]:
        """Return (requests, length in microseconds) of each window that has a limit."""
        both = ((self.per_minute, MINUTE_SECONDS), (self.per_hour, HOUR_SECONDS))
        return [
            (limit, max(1, round(seconds * MICROSECONDS / self.speed)))
            for limit, seconds in both
            if limit
        ]


NO_LIMITS = Limits(per_minute=0, per_hour=0)


@dataclasses.dataclass(frozen=True)
class _Window:
    """The current state of one window. Times are in microseconds."""

    limit: int
    remaining: int
    reset: int
    """The time until the window is fully refilled."""
    wait: int
    """The time until the next request is accepted. 0 means that it is accepted now."""

    def tightness(self) -> tuple[float, int]:
        """Sort by the share that remains, then by the longer time until the reset."""
        return self.remaining / self.limit, -self.reset


class RateLimit:
    """Counts the requests of one key."""

    def __init__(self) -> None:
        """Start without requests."""
        self._timestamps: list[int] = []

    def count_request(self, limits: Limits, now: float) -> tuple[bool, dict[str, str]]:
        """Count a request at `now` (epoch seconds) if the limits accept it.

        Returns whether it is accepted, and the rate-limit headers of the response. A
        request that is not accepted does not count.
        """
        timestamp = round(now * MICROSECONDS)
        windows = self._windows(limits, timestamp)
        wait = max((window.wait for window in windows), default=0)
        if wait:
            headers = self._headers(limits, timestamp)
            return False, {**headers, "Retry-After": _seconds(wait)}
        longest = max((length for _, length in limits.windows()), default=0)
        del self._timestamps[
            : bisect.bisect_right(self._timestamps, timestamp - longest)
        ]
        if longest:
            bisect.insort(self._timestamps, timestamp)
        return True, self._headers(limits, timestamp)

    def _headers(self, limits: Limits, timestamp: int) -> dict[str, str]:
        windows = self._windows(limits, timestamp)
        if not windows:
            return {}
        tightest = min(windows, key=_Window.tightness)
        return {
            "RateLimit-Limit": str(tightest.limit),
            "RateLimit-Remaining": str(tightest.remaining),
            "RateLimit-Reset": _seconds(tightest.reset),
        }

    def _windows(self, limits: Limits, timestamp: int) -> list[_Window]:
        window = self._fixed if limits.window == "fixed" else self._sliding
        return [window(limit, length, timestamp) for limit, length in limits.windows()]

    def _sliding(self, limit: int, length: int, timestamp: int) -> _Window:
        start = bisect.bisect_right(self._timestamps, timestamp - length)
        used = self._timestamps[start:]
        remaining = max(0, limit - len(used))
        reset = used[-1] + length - timestamp if used else 0
        wait = 0 if remaining else used[-limit] + length - timestamp
        return _Window(limit, remaining, reset, wait)

    def _fixed(self, limit: int, length: int, timestamp: int) -> _Window:
        start = timestamp - timestamp % length
        used = len(self._timestamps) - bisect.bisect_left(self._timestamps, start)
        remaining = max(0, limit - used)
        reset = start + length - timestamp if used else 0
        return _Window(limit, remaining, reset, 0 if remaining else reset)


def _seconds(microseconds: int) -> str:
    """Return whole seconds, rounded up. The headers hold no fractions."""
    return str(-(-microseconds // MICROSECONDS))
