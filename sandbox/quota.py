"""How many requests a key has: so many a minute and so many an hour."""

from __future__ import annotations

import bisect
import dataclasses
import typing as t

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
MICROSECONDS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of one key. The defaults are the vendor's, on its page rate-limits."""

    per_minute: int = 60
    """Requests a minute; 0 = no limit."""

    per_hour: int = 1000
    """Requests an hour; 0 = no limit."""

    window: t.Literal["sliding", "fixed"] = "sliding"
    """Any 60 s (3,600 s), or those that begin at the multiples of it since 1970."""

    speed: float = 1.0
    """How much faster the windows pass: at 60 a minute lasts a second."""

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
class _State:
    """How one window stands; times in microseconds."""

    limit: int
    remaining: int
    reset: int
    """Until it is fully refilled."""
    wait: int
    """Until the next request is accepted; 0 when it is now."""

    def tightness(self) -> tuple[float, int]:
        """Sort first the window with the smaller share left, then the longer wait."""
        return self.remaining / self.limit, -self.reset


class Quota:
    """The requests that one key has spent."""

    def __init__(self) -> None:
        """Start with nothing spent."""
        self._spent: list[int] = []

    def spend(self, limits: Limits, now: float) -> tuple[bool, dict[str, str]]:
        """Spend a request at `now` (epoch seconds) if the limits allow it.

        Returns whether they do, and the headers that tell the client how it stands. A
        request that is refused is not counted.
        """
        moment = round(now * MICROSECONDS)
        wait = max((state.wait for state in self._states(limits, moment)), default=0)
        if wait:
            headers = self._headers(limits, moment)
            return False, {**headers, "Retry-After": _seconds(wait)}
        longest = max((length for _, length in limits.windows()), default=0)
        del self._spent[: bisect.bisect_right(self._spent, moment - longest)]
        if longest:
            bisect.insort(self._spent, moment)
        return True, self._headers(limits, moment)

    def _headers(self, limits: Limits, moment: int) -> dict[str, str]:
        states = self._states(limits, moment)
        if not states:
            return {}
        tighter = min(states, key=_State.tightness)
        return {
            "RateLimit-Limit": str(tighter.limit),
            "RateLimit-Remaining": str(tighter.remaining),
            "RateLimit-Reset": _seconds(tighter.reset),
        }

    def _states(self, limits: Limits, moment: int) -> list[_State]:
        look = self._fixed if limits.window == "fixed" else self._sliding
        return [look(limit, length, moment) for limit, length in limits.windows()]

    def _sliding(self, limit: int, length: int, moment: int) -> _State:
        used = self._spent[bisect.bisect_right(self._spent, moment - length) :]
        remaining = max(0, limit - len(used))
        reset = used[-1] + length - moment if used else 0
        wait = 0 if remaining else used[-limit] + length - moment
        return _State(limit, remaining, reset, wait)

    def _fixed(self, limit: int, length: int, moment: int) -> _State:
        begin = moment - moment % length
        used = len(self._spent) - bisect.bisect_left(self._spent, begin)
        remaining = max(0, limit - used)
        reset = begin + length - moment if used else 0
        return _State(limit, remaining, reset, 0 if remaining else reset)


def _seconds(microseconds: int) -> str:
    """Return whole seconds, rounded up: the header has no fractions."""
    return str(-(-microseconds // MICROSECONDS))
