"""Numbers, durations, lists and names in the words of messages."""

from __future__ import annotations

import re
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_PER_MINUTE = 60
MINUTES_PER_HOUR = 60
HOURS_PER_DAY = 24
MAX_DURATION_HOURS = 48
"""A duration that is longer is given in days."""

NAME = re.compile(r"[A-Za-z_][\w-]{0,63}", re.ASCII)
"""A name that a log may show."""


def safe_name(name: str) -> str:
    """Return a name that the API sends, or `…` if it may be data, such as an e-mail."""
    return name if NAME.fullmatch(name) else "…"


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as `1 lead` or `1,000 leads`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Return a duration for a person, such as `1 h 5 min`, `3 min` or `42 s`."""
    if round(seconds) < SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / SECONDS_PER_MINUTE)
    if minutes < MINUTES_PER_HOUR:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, MINUTES_PER_HOUR)
    if hours >= MAX_DURATION_HOURS:
        return f"{round(hours / HOURS_PER_DAY):,} days"
    return f"{hours} h {minutes} min"


def listed(items: Sequence[str], maximum: int) -> str:
    """Return the first items, and how many more there are: `a, b, and 3 more`."""
    more = len(items) - maximum
    rest = f", and {more:,} more" if more > 0 else ""
    return f"{', '.join(items[:maximum])}{rest}"


def plain(text: str) -> str:
    """Return a text in one line and printable."""
    return "".join(filter(str.isprintable, " ".join(text.split())))
