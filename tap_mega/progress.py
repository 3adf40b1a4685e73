"""How far a sync got, and how long it will take, for a person."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from tap_mega.quota import Clock, Quota

LINE_EVERY_SECONDS = 10
SECONDS_A_MINUTE = 60
MINUTES_AN_HOUR = 60


class Progress:
    """Counts the leads of a sync beside the total that the API reports."""

    def __init__(self, clock: Clock, quota: Quota, page_size: int) -> None:
        """Start counting now."""
        self.clock = clock
        self.quota = quota
        self.page_size = page_size
        self.read = 0
        self.pages = 0
        self._began = self._last_line = clock.monotonic()
        self._waited = 0.0
        self._read_before = 0
        self._total: int | None = None

    def restart(self) -> None:
        """Begin to page: the API's next total leaves out what is read already."""
        self._read_before = self.read

    def add_wait(self, seconds: float) -> None:
        """Leave a wait out of how fast the API and the loader are."""
        self._waited += seconds

    def add_page(self, leads: int, total: int | None) -> str | None:
        """Count a page, and return a line for the log when it is time for one.

        Args:
            leads: How many are on it.
            total: How many there are, says the API; None if it does not.
        """
        self.read += leads
        self.pages += 1
        if total is not None:
            self._total = self._read_before + total
        now = self.clock.monotonic()
        if now - self._last_line < LINE_EVERY_SECONDS:
            return None
        self._last_line = now
        return f"{self.summary()}, about {describe_duration(self._seconds_left())} left"

    @property
    def knows_total(self) -> bool:
        """Whether the API has told how many leads there are."""
        return self._total is not None

    def left(self) -> int:
        """Return how many leads are not read yet, as far as the API has told."""
        return max(0, (self._total or 0) - self.read)

    def summary(self) -> str:
        """Return what was read so far, of how much, and how fast."""
        seconds = self.clock.monotonic() - self._began
        rate = self.read / seconds if seconds else 0
        return (
            f"Read {self.read:,} of {self.read + self.left():,} leads "
            f"({self._share():.0%}) in {describe_duration(seconds)} "
            f"with {self.pages:,} pages, {rate:,.0f} leads a second"
        )

    def _share(self) -> float:
        total = self.read + self.left()
        return self.read / total if total else 1

    def _seconds_left(self) -> float:
        """Return the time that the quota asks for, or the API where it is slower."""
        now = self.clock.monotonic()
        left = -(-self.left() // self.page_size)
        at_this_speed = left * (now - self._began - self._waited) / self.pages
        return max(self.quota.seconds_for(left, now), at_this_speed)


def describe_duration(seconds: float) -> str:
    """Return a duration for a person, such as `1 h 5 min`, `3 min` or `42 s`."""
    if seconds < SECONDS_A_MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / SECONDS_A_MINUTE)
    if minutes < MINUTES_AN_HOUR:
        return f"{minutes} min"
    return f"{minutes // MINUTES_AN_HOUR:,} h {minutes % MINUTES_AN_HOUR} min"
