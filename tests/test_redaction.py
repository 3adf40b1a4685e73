"""No message may bring a secret into the log."""

from __future__ import annotations

import io
import logging
import logging.config
import typing as t
from urllib.parse import quote, quote_plus, unquote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from singer_sdk import mapper

from tap_mega.cli.logs import silence_libraries
from tap_mega.shared.redaction import (
    MARK,
    Redactor,
    plain,
)
from testing.harness import own_process_settings

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "mega_0dF6a9b1c2d3e4f5a6b7c8d9e0f1a2b3"  # noqa: S105 - made up
RUN = 8

VISIBLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))
TOKENS = st.text(VISIBLE_ASCII, min_size=RUN, max_size=40)
VALUES = st.text(min_size=1, max_size=20).filter(
    lambda it: it.strip(" +") and plain(it) and MARK not in it
)


def encode_each_byte(text: str) -> str:
    """Percent-encode also what needs no encoding."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


ENCODINGS = [
    str,
    quote_plus,
    lambda it: quote(it, safe=""),
    lambda it: quote(quote(it)),
    encode_each_byte,
]
CASES = [str, str.upper, str.lower, str.swapcase]


def redact(text: str, token: str = TOKEN, **filters: str) -> str:
    """Return what the log would hold of a text."""
    return Redactor(token, filters).redact(text)


def holds_a_run(token: str, text: str) -> bool:
    """Return whether a text holds a run of a token, in letters of any size."""
    runs = (token[at : at + RUN] for at in range(len(token) - RUN + 1))
    return any(run.casefold() in text.casefold() for run in runs)


def surrounded(secrets: st.SearchStrategy[str]) -> Callable[..., t.Any]:
    """Give a test a secret, the text around it, an encoding, and a change of case."""
    text = st.text(max_size=20)
    encodings, cases = st.sampled_from(ENCODINGS), st.sampled_from(CASES)
    return given(secrets, text, text, encodings, cases)


@surrounded(TOKENS)
@example("abc%41efgh", "", "", str, str)
@example("ab++cdefgh", "x", "", quote_plus, str)
def test_no_token_survives(
    token: str,
    before: str,
    after: str,
    encode: Callable[[str], str],
    change: Callable[[str], str],
) -> None:
    """However it is encoded, and whatever is around it."""
    found = redact(before + encode(change(token)) + after, token)
    assert not holds_a_run(token, found)
    assert not holds_a_run(token, unquote_plus(found))


@given(
    TOKENS,
    st.data(),
    st.sampled_from(ENCODINGS),
    st.text(VISIBLE_ASCII + " \n\t\x00\u200b…é", max_size=3),
)
def test_no_run_of_a_damaged_token_survives(
    token: str, data: st.DataObject, encode: Callable[[str], str], inserted: str
) -> None:
    """A token that is cut, or that something was inserted into."""
    places = st.integers(min_value=0, max_value=len(token))
    start, end, place = (data.draw(places) for _ in range(3))
    for damaged in (token[start:end], token[:place] + inserted + token[place:]):
        found = redact(f"no such key: {encode(damaged)}!", token)
        assert not holds_a_run(token, found)


@surrounded(VALUES)
def test_no_filter_value_survives(
    value: str,
    before: str,
    after: str,
    encode: Callable[[str], str],
    change: Callable[[str], str],
) -> None:
    """Raw, percent-encoded or plus-encoded, in letters of any size."""
    found = redact(before + encode(change(value)) + after, search=value)
    for text in (found, unquote_plus(found)):
        assert value.casefold() not in text.casefold()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"no such key: {TOKEN}", "no such key: …"),
        (f"no such key: {TOKEN[:12]}", "no such key: …"),
        (f"no such key: {TOKEN[9:20]}x", "no such key: …x"),
        (f"no such key: {TOKEN[:10]}-{TOKEN[10:]}", "no such key: …-…"),
        (f"no such key: {encode_each_byte(TOKEN)}.", "no such key: …."),
        (f"no such key: {TOKEN[:7]}", f"no such key: {TOKEN[:7]}"),
        ("nothing for Ánna  müller", "nothing for …"),
        ("nothing for %C3%81nna+M%C3%BCller", "nothing for …"),
        ("nothing for ANNA MÜLLER", "nothing for … …"),
        ("lead anna+x@example.org is broken", "lead … is broken"),
        ("lead anna%40example.org is broken", "lead … is broken"),
        ("mailto:<a@b.c>, again", "… again"),
        ("half \ud83d an emoji", "half an emoji"),
        ("call +1 (646) 004-7514 now", "call +… now"),
        ("call 646.004.7514 now", "call … now"),
        ("1234567", "…"),
        ("limit must be 1 to 100", "limit must be 1 to 100"),
        ("123 456", "123 456"),
        ('broken: {"contact_name": "Zoë"} and more', "broken: …"),
        ("two\nlines\x00 and\u200b zero width", "two lines and zero width"),
        ("100 % of it", "100 % of it"),
    ],
)
def test_what_is_left_of_a_message(text: str, expected: str) -> None:
    """A person can still read what is wrong."""
    assert redact(text, search="Ánna Müller") == expected


def test_a_message_that_is_encoded_without_end_is_not_quoted() -> None:
    """Nobody can tell what is in it."""
    text = "x@example.org"
    for _ in range(9):
        text = quote(text, safe="")
    assert redact(text) == ""


def test_a_long_message_does_not_take_long() -> None:
    """An error body of 64 KiB is redacted in a moment, whatever is in it."""
    for unit in ("a", "1 ", "@", "%25", "a@", "{", TOKEN, "ﷺ"):
        redact(unit * (65536 // len(unit.encode())), search="a" * 20)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged; the configuration of the other tests comes back at the end."""
    with own_process_settings():
        yield io.StringIO()


def configure(stream: io.StringIO, *loggers: str) -> None:
    """Set a configuration that has these loggers log everything."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"x": {"class": "logging.StreamHandler", "stream": stream}},
            "loggers": {name: {"level": 1, "handlers": ["x"]} for name in loggers},
            "root": {"level": 1, "handlers": ["x"]},
        }
    )


def library_loggers() -> list[str]:
    """Return the loggers of urllib3 and requests."""
    names = list(logging.root.manager.loggerDict)
    return [it for it in names if it.startswith(("urllib3", "requests"))]


@pytest.mark.parametrize("order", ["before", "after"])
def test_no_log_configuration_brings_the_query_back(
    log: io.StringIO, order: str
) -> None:
    """Neither one that is set before the tap starts, nor one that is set later."""
    names = [*library_loggers(), mapper.logger.name]
    assert set(names) >= {"urllib3.connectionpool", "urllib3.connection", "requests"}
    if order == "before":
        configure(log, *names)
    silence_libraries()
    if order == "after":
        configure(log, *names)
    for name in names:
        logging.getLogger(name).debug("needle")
    for name in names[:-1]:
        logging.getLogger(name).warning("needle")
    assert log.getvalue() == ""
    mapper.logger.info("a stream map")
    assert "a stream map" in log.getvalue()


def test_many_taps_in_a_process_add_one_filter() -> None:
    """Each tap asks for it."""
    silence_libraries()
    before = logging.getLogger("urllib3.connectionpool").filters[:]
    silence_libraries()
    assert logging.getLogger("urllib3.connectionpool").filters == before


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot process Надежда Красильникова", "cannot process … …"),
        ("John Smith is not a lead", "… … is not a lead"),
        ("Invalid cursor: the limit is 100", "Invalid cursor: the limit is 100"),
        ("The API key of Zoë is unknown", "The API key of … is unknown"),
    ],
)
def test_no_name_survives(text: str, kept: str) -> None:
    """A capitalized word that no error message begins with may be of a name."""
    assert Redactor(64 * "0", {}).redact(text) == kept


def test_a_short_token_is_removed_as_a_whole() -> None:
    """A part of it may be a word."""
    assert redact("a sword", token="sword") == f"a {MARK}"  # noqa: S106 - made up
    assert redact("a word", token="sword") == "a word"  # noqa: S106 - made up


def test_seven_characters_of_a_token_stay() -> None:
    """Shorter runs would hide words."""
    assert redact("defghij", token="abcdefghij") == "defghij"  # noqa: S106 - made up
    assert redact("cdefghij", token="abcdefghij") == MARK  # noqa: S106 - made up
