"""Timestamps: ISO 8601 on the way in, the API's own notation on the way out."""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_to_datetime

LEAP_SECOND = re.compile(r"([T ]\d\d:\d\d):60(\.\d+)?", re.ASCII)
FRACTION = re.compile(r"[.,](\d+)", re.ASCII)


def parse_timestamp(value: str) -> dt.datetime:
    """Return an ISO 8601 date or date-time as a timestamp in UTC.

    A value without an offset is in UTC. Digits beyond microseconds are cut off.

    Raises:
        ValueError: If the value is not a date.
        TypeError: If the value is not text.
    """
    try:
        timestamp = dt.datetime.fromisoformat(value)
    except ValueError:
        timestamp = dt.datetime.fromisoformat(_common_notation(value))
    if timestamp.tzinfo is None:
        return timestamp.replace(tzinfo=dt.UTC)
    try:
        return timestamp.astimezone(dt.UTC)
    except OverflowError as error:  # 0001-01-01 in a zone east of Greenwich
        msg = f"{value} is out of range"
        raise ValueError(msg) from error


def _common_notation(value: str) -> str:
    """Return a value without the lower-case letters and leap seconds of RFC 3339.

    Python and many loaders accept neither. A leap second becomes the last microsecond
    before it, so that the order of timestamps stays.
    """
    return LEAP_SECOND.sub(r"\1:59.999999", value.upper())


def to_utc(value: str) -> str:
    """Return an ISO 8601 date or date-time as `2026-07-01T18:20:00.000Z`.

    The fraction keeps the digits that it has in the value.

    Raises:
        ValueError: As `parse_timestamp`.
        TypeError: As `parse_timestamp`.
    """
    timestamp = parse_timestamp(value)
    digits = FRACTION.search(_common_notation(value))
    fraction = f".{digits[1]}" if digits else ""
    return f"{timestamp.isoformat(timespec='seconds')[:-6]}{fraction}Z"


def format_timestamp(timestamp: dt.datetime) -> str:
    """Return a timestamp as the API writes it: `2026-07-01T18:20:00.000Z`.

    Microseconds are written only if there are any.
    """
    digits = "microseconds" if timestamp.microsecond % 1000 else "milliseconds"
    return timestamp.astimezone(dt.UTC).isoformat(timespec=digits)[:-6] + "Z"


def from_epoch(seconds: float) -> dt.datetime:
    """Return seconds since the epoch as a timestamp in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def parse_http_date(value: str) -> float | None:
    """Return an HTTP date as seconds since the epoch, or None if it is not one."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
