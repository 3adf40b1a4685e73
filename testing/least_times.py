"""The least time that the vendor's limits allow, computed without the tap's code."""

from __future__ import annotations

MINUTE, HOUR = 60, 3600
PER_MINUTE, PER_HOUR = 60, 1000
LIMITS = ((PER_MINUTE, MINUTE), (PER_HOUR, HOUR))


def least_seconds_sliding(requests: int) -> float:
    """Return the least time for this number of requests with sliding windows."""
    sent: list[float] = []
    for number in range(requests):
        free = [
            sent[number - limit] + span for limit, span in LIMITS if number >= limit
        ]
        sent.append(max([0.0, *free]))
    return sent[-1]


def least_seconds_fixed(requests: int, start: float) -> float:
    """Return the least time with windows that start at full minutes and full hours."""
    now, sent = start, dict[tuple[int, int], int]()
    for _ in range(requests):
        while (full := _full_windows(sent, now)) > now:
            now = full
        for span in (MINUTE, HOUR):
            key = (span, int(now // span))
            sent[key] = sent.get(key, 0) + 1
    return now - start


def _full_windows(sent: dict[tuple[int, int], int], now: float) -> float:
    """Return the end of the last window that is full, or `now` if none is full."""
    ends = [
        (now // span + 1) * span
        for limit, span in LIMITS
        if sent.get((span, int(now // span)), 0) >= limit
    ]
    return max([now, *ends])
