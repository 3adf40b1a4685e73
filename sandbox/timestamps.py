"""Timestamps as the API reads and writes them."""

from __future__ import annotations

import datetime as dt
import re

EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    re.ASCII | re.IGNORECASE,
)


def parse_timestamp(text: str) -> int:
    """Return the microseconds since 1970 of an RFC 3339 date-time.

    Raises ValueError if the text is not one. Leap seconds and the year 0 are not
    supported.
    """
    if not RFC_3339.fullmatch(text):
        msg = f"{text!r} is not a date-time"
        raise ValueError(msg)
    # RFC 3339 allows the letters in lower case, Python does not.
    return (dt.datetime.fromisoformat(text.upper()) - EPOCH) // MICROSECOND


def format_timestamp(milliseconds: int) -> str:
    """Format milliseconds since 1970 like the vendor's examples."""
    timestamp = EPOCH + dt.timedelta(milliseconds=milliseconds)
    return f"{timestamp.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"
