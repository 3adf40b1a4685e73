"""Test numbers, durations and lists in messages."""

from __future__ import annotations

import pytest

from tap_mega.shared.words import format_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (59, "59 s"), (59.4, "59 s"), (59.6, "1 min"), (60, "1 min")),
        *((89, "1 min"), (3569, "59 min"), (3570, "1 h 0 min"), (3600, "1 h 0 min")),
        *((7260, "2 h 1 min"), (47 * 3600, "47 h 0 min"), (60 * 3600, "2 days")),
        *((3.6e6, "42 days"), (10**8, "1,157 days")),
    ],
)
def test_a_duration_is_short(seconds: float, words: str) -> None:
    """It has seconds below a minute, minutes above, and two units at most."""
    assert format_duration(seconds) == words
