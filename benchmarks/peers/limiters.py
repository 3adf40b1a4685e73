"""Wait as a rate-limit library does, on a virtual clock: `limiters.py LIBRARY`.

Each line on stdin is the time at which a request is ready. The line that answers it is
the time at which the library lets the request go.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
import typing as t

from typing_extensions import override

if t.TYPE_CHECKING:
    from collections.abc import Callable

PER_MINUTE, PER_HOUR = 60, 1000
MINUTE, HOUR = 60, 3600
MIN_STEP_SECONDS = 0.000_001
"""A shorter step does not move a float that counts seconds since the epoch."""


class Clock:
    """The time in this process. Sleeping moves it."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds

    def install(self) -> None:
        """Replace the clock of Python. Libraries that are imported later use it."""
        vars(time).update(
            time=lambda: self.now,
            monotonic=lambda: self.now,
            monotonic_ns=lambda: round(self.now * 1e9),
            sleep=self.sleep,
        )


def pyrate_limiter(clock: Clock) -> Callable[[], object]:
    """Return what waits, as in the documentation of pyrate-limiter."""
    clock.install()
    from pyrate_limiter import (  # noqa: PLC0415 - after the clock
        InMemoryBucket,
        Limiter,
        Rate,
        SingleBucketFactory,
    )

    rates = [Rate(PER_MINUTE, MINUTE * 1000), Rate(PER_HOUR, HOUR * 1000)]
    # A thread would remove old requests, by the real time.
    factory = SingleBucketFactory(InMemoryBucket(rates), schedule_leak=False)
    limiter = Limiter(factory)
    return lambda: limiter.try_acquire("mega")


def limits(clock: Clock) -> Callable[[], object]:
    """Return what waits, with the moving windows of limits."""
    clock.install()
    from limits import parse_many  # noqa: PLC0415 - after the clock
    from limits.storage import MemoryStorage  # noqa: PLC0415
    from limits.strategies import MovingWindowRateLimiter  # noqa: PLC0415

    limiter = MovingWindowRateLimiter(MemoryStorage())
    items = parse_many(f"{PER_MINUTE}/minute;{PER_HOUR}/hour")

    def wait() -> None:
        while full := [item for item in items if not limiter.test(item)]:
            free_at = max(limiter.get_window_stats(item).reset_time for item in full)
            clock.sleep(max(free_at - clock.now, MIN_STEP_SECONDS))
        for item in items:
            limiter.hit(item)

    return wait


def aiolimiter(clock: Clock) -> Callable[[], object]:
    """Return what waits, as in the documentation of aiolimiter."""
    from aiolimiter import AsyncLimiter  # noqa: PLC0415 - only this one is installed

    loop = VirtualLoop(clock)
    limiters = (AsyncLimiter(PER_MINUTE, MINUTE), AsyncLimiter(PER_HOUR, HOUR))

    async def wait() -> None:
        for limiter in limiters:
            await limiter.acquire()

    return lambda: loop.run_until_complete(wait())


class VirtualSelector(selectors.SelectSelector):
    """Moves the clock instead of waiting."""

    def __init__(self, clock: Clock) -> None:
        """Start without files to wait for."""
        super().__init__()
        self._clock = clock

    @override
    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now."""
        self._clock.sleep(max(timeout or 0, MIN_STEP_SECONDS))
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on the virtual clock."""

    def __init__(self, clock: Clock) -> None:
        """Start with nothing to do."""
        super().__init__(VirtualSelector(clock))
        self._clock = clock

    @override
    def time(self) -> float:
        """Return the virtual time."""
        return self._clock.now


LIBRARIES = {
    "pyrate-limiter": pyrate_limiter,
    "limits": limits,
    "aiolimiter": aiolimiter,
}


def main(library: str) -> None:
    """Answer each line."""
    clock = Clock()
    wait = LIBRARIES[library](clock)
    for line in sys.stdin:
        clock.now = float(line)
        wait()
        print(repr(clock.now), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
