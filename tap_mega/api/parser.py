"""JSON as a database can store it, and lists of which one item cannot be parsed."""

from __future__ import annotations

import decimal
import itertools
import json
import re
import typing as t

import msgspec

if t.TYPE_CHECKING:
    from collections.abc import Iterator

Decoder = msgspec.json.Decoder

MAX_EXPONENT = 307
"""A double holds any number below 10 to the power of 308."""

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, and halves of characters such as an emoji that was cut in two."""

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[\]{},]', re.DOTALL)
"""A text, or a quote that no other one follows, or a bracket or comma."""


class Parser:
    """Parses the JSON of one response. Numbers keep all their digits.

    It replaces what no database stores: halves of a character become U+FFFD, NUL is
    dropped, a number too small for a double becomes 0, and one too large null.
    """

    def __init__(self) -> None:
        """Start with nothing replaced."""
        self.repaired = 0
        """How many texts and numbers were replaced."""
        self._has_odd_text = False

    def parse(self, text: bytes) -> t.Any:
        """Return the content of a JSON text.

        Raises:
            ValueError: If the text is not JSON.
            RecursionError: If it is nested too deeply.
        """
        repaired = self.repaired
        try:
            content = Decoder(float_hook=self._number).decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # msgspec refuses halves of a character, which JSON allows.
            self.repaired = repaired
            content = json.loads(text, parse_float=self._number, parse_constant=refuse)
            self._has_odd_text = True
        self._has_odd_text |= rb"\u0000" in text
        return content

    def repair(self, value: t.Any) -> t.Any:
        """Return a parsed value with texts that can be stored."""
        return self._repair(value) if self._has_odd_text else value

    def _number(self, text: str) -> decimal.Decimal | None:
        try:
            number = decimal.Decimal(text)
        except decimal.InvalidOperation:  # more digits in the exponent than it can hold
            number = decimal.Decimal("0" if "e-" in text.lower() else "Infinity")
        if number.is_finite() and abs(number.adjusted()) <= MAX_EXPONENT:
            return number
        if number.is_zero() and "e" not in text.lower():
            return number
        self.repaired += 1
        return decimal.Decimal(0) if number.adjusted() < 0 or number.is_zero() else None

    def _repair(self, value: t.Any) -> t.Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self._repair(item) for item in value]
        if isinstance(value, dict):
            return {self._text(key): self._repair(it) for key, it in value.items()}
        return value

    def _text(self, text: str) -> str:
        repaired = UNSTORABLE.sub(lambda it: "\ufffd" if it[0] > "\0" else "", text)
        self.repaired += repaired != text
        return repaired


def refuse(constant: str) -> t.NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON does not have.

    Raises:
        ValueError: Always.
    """
    msg = f"{constant} is not JSON"
    raise ValueError(msg)


def split_list(text: bytes, name: str) -> tuple[bytes, list[bytes]]:
    """Cut a list out of a JSON object, without parsing its items.

    It works where one item breaks the parser: nested too deeply, or with a number of
    too many digits.

    Args:
        text: A JSON object.
        name: The name of the list in it.

    Returns:
        The object with the list empty, and the text of each item.

    Raises:
        ValueError: If the object has no such list.
    """
    start = _find_list(text, name)
    bounds, depth = [start], 1
    for token, position in _tokens(text, start):
        depth += (token in b"[{") - (token in b"]}")
        if depth == 1 and token == b",":
            bounds.append(position)
        elif depth == 0:
            bounds.append(position)
            break
    if depth:
        msg = "the list does not end"
        raise ValueError(msg)
    cuts = itertools.pairwise(bounds)
    items = [text[one:other].lstrip(b", \t\r\n") for one, other in cuts]
    items = items if any(items) else []
    return text[:start] + text[bounds[-1] :], items


def _find_list(text: bytes, name: str) -> int:
    """Return where the list starts, behind its bracket."""
    depth, key = 0, b""
    for token, position in _tokens(text, 0):
        if depth == 1 and token == b"[" and key == json.dumps(name).encode():
            return position + 1
        depth += (token in b"[{") - (token in b"]}")
        key = token
    msg = f"the object has no list {name}"
    raise ValueError(msg)


def _tokens(text: bytes, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield each text, bracket and comma, and where it is.

    Raises:
        ValueError: If a text does not end.
    """
    for match in TOKEN.finditer(text, start):
        if match[0] == b'"':
            msg = "a text does not end"
            raise ValueError(msg)
        yield match[0], match.start()
