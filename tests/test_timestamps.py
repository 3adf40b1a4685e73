"""Test how timestamps are read, compared and written."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mega.shared.timestamps import parse_timestamp, to_utc

zones = st.integers(-23 * 60, 23 * 60).map(
    lambda minutes: dt.timezone(dt.timedelta(minutes=minutes))
)
moments = st.datetimes(
    dt.datetime(1, 1, 2),  # noqa: DTZ001 - `zones` adds the zone
    dt.datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=zones,
)


@given(moment=moments, digits=st.from_regex(r"[0-9]{0,12}", fullmatch=True))
def test_the_same_instant_is_written_in_utc(moment: dt.datetime, digits: str) -> None:
    """Any zone and any number of digits: the instant and the digits stay."""
    text, offset = moment.replace(tzinfo=None).isoformat(), moment.isoformat()[-6:]
    fraction = f".{digits}" if digits else ""
    sent = f"{text[:19]}{fraction}{offset}"
    written = to_utc(sent)
    assert parse_timestamp(written) == parse_timestamp(sent)
    assert written[19:] == f"{fraction}Z"
    assert to_utc(written) == written


def test_a_leap_second_is_between_its_neighbours() -> None:
    """It is later than the second before, and not later than the one after."""
    *before, first, second, after = (
        parse_timestamp(f"{it}Z")
        for it in (
            "2016-12-31T23:59:59",
            "2016-12-31T23:59:59.9",
            "2016-12-31T23:59:60",
            "2016-12-31T23:59:60.1",
            "2017-01-01T00:00:00",
        )
    )
    assert max(before) < first <= second < after


@pytest.mark.parametrize(
    "value",
    [
        *("", "tomorrow", "2026-02-30T10:00:00Z", "2026-07-01T10:00:00+24:00"),
        *("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", "2026-07-01T"),
    ],
)
def test_what_is_no_timestamp_is_an_error(value: str) -> None:
    """Neither a day that does not exist nor one out of range is read."""
    with pytest.raises(ValueError, match=r"."):
        to_utc(value)
