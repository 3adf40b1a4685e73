"""Remove tokens, filter values and personal data from text that is logged."""

from __future__ import annotations

import itertools
import operator
import re
import typing as t
import unicodedata
from urllib.parse import unquote

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Span: t.TypeAlias = tuple[int, int]

MARK = "…"
"""What stands in the place of anything that is removed."""

TOKEN_RUN_LENGTH = 8
"""A run of this many characters of the token is removed."""

MAX_ROUNDS = 5
"""A text that needs more rounds of decoding is dropped."""

SKIPPED = ("", " +")
"""Characters that a comparison skips: first none, then what a form puts for a space."""

WORD = re.compile(r"\S+")
DIGITS = re.compile(r"\d(?:\W{0,4}\d){6,}")
"""Seven digits or more, also in the notations of phone numbers."""

PUNCTUATION = ".,:;!?()[]<>'\"`" + MARK
NO_NAME = re.compile(
    "a|an|and|api|authorization|bad|bearer|cannot|cursor|customer|error|forbidden|https?|"
    "id|internal|invalid|is|iso|json|key|limit|missing|no|not|rate|request|scope|server|"
    "service|the|this|too|token|unauthorized|unavailable|unknown|url|utc|uuid|you|your",
    re.IGNORECASE,
)
"""Words that an error message may begin with. Any other capitalized word is removed."""

OBJECT = re.compile(r"\{.*")
"""The rest of a text from the first brace on: it may be a lead."""

NAME = re.compile(r"[A-Za-z_][\w-]{0,63}", re.ASCII)
"""A name that a log may show."""


class Redactor:
    """Removes the secrets of one customer, and what leads are known by, from a text."""

    def __init__(self, auth_token: str, filters: Mapping[str, str]) -> None:
        """Keep what to look for: `filters.search` may be a lead's e-mail address."""
        values = {form for value in filters.values() for form in (value, plain(value))}
        tokens = {auth_token, plain(auth_token)}
        self._needles = {skip: _needles(values, tokens, skip) for skip in SKIPPED}

    def redact(self, text: str) -> str:
        """Return a text in one line, without what no log may hold.

        It is decoded first, so that a percent-encoded secret is found, and stays so.
        """
        text = plain(text)
        hidden = bytearray(len(text))
        for start, end in itertools.chain(_find_personal(text), self._find(text)):
            hidden[start:end] = bytes([1]) * (end - start)
        groups = itertools.groupby(
            zip(hidden, text, strict=True), operator.itemgetter(0)
        )
        return "".join(
            MARK if is_hidden else "".join(character for _, character in group)
            for is_hidden, group in groups
        )

    def _find(self, text: str) -> Iterator[Span]:
        """Yield where a filter's value is, or a run of the token."""
        for skip, needles in self._needles.items():
            folded, places = _fold(text, skip)
            for needle in needles:
                for start in _occurrences(needle, folded):
                    yield places[start], places[start + len(needle) - 1] + 1


def safe_name(name: str) -> str:
    """Return a name that the API sends, or `…` if it may be data, such as an e-mail."""
    return name if NAME.fullmatch(name) else "…"


def plain(text: str) -> str:
    """Return a text in one line, printable, and without percent-encoding.

    Each step can uncover what another one removes, so they are repeated.
    """
    for _ in range(MAX_ROUNDS):
        decoded = unicodedata.normalize("NFKC", unquote(text))
        words = "".join(filter(str.isprintable, " ".join(decoded.split())))
        if words == text:
            return text
        text = words
    return ""


def _find_personal(text: str) -> Iterator[Span]:
    """Yield where e-mail addresses, long numbers, objects and names may be."""
    for pattern in (DIGITS, OBJECT):
        for match in pattern.finditer(text):
            yield match.span()
    for match in WORD.finditer(text):
        if "@" in match[0] or _may_be_name(match[0]):
            yield match.span()


def _may_be_name(word: str) -> bool:
    """Return whether a word may be of a person's name: capitalized, or not ASCII."""
    bare = word.strip(PUNCTUATION)
    return not bare.isascii() or (bare[:1].isupper() and not NO_NAME.fullmatch(bare))


def _needles(values: Iterable[str], tokens: Iterable[str], skip: str) -> set[str]:
    """Return what to look for in a folded text."""
    needles = {_fold(value, skip)[0] for value in values}
    for token in tokens:
        needles |= _runs(_fold(token, skip)[0])
    return needles - {""}


def _runs(token: str) -> set[str]:
    """Return each run of a token that is too long; a short token as a whole."""
    starts = range(max(1, len(token) - TOKEN_RUN_LENGTH + 1))
    return {token[start : start + TOKEN_RUN_LENGTH] for start in starts}


def _fold(text: str, skip: str) -> tuple[str, list[int]]:
    """Return a text in small letters, and for each character where it came from."""
    folded = [
        (part, place)
        for place, character in enumerate(text)
        if character not in skip
        for part in character.casefold()
    ]
    return "".join(part for part, _ in folded), [place for _, place in folded]


def _occurrences(needle: str, text: str) -> Iterator[int]:
    """Yield where a needle starts, also where it overlaps with itself."""
    start = text.find(needle)
    while start >= 0:
        yield start
        start = text.find(needle, start + 1)
