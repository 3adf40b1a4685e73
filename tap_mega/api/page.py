"""A page of leads, parsed once from the bytes of a response."""

from __future__ import annotations

import decimal
import json
import re
import types
import typing as t

import msgspec
from singer_sdk.exceptions import FatalAPIError
from singer_sdk.pagination import BaseAPIPaginator
from typing_extensions import override

from tap_mega.shared.timestamps import from_epoch, parse_timestamp

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    import requests

    Lead: t.TypeAlias = dict[str, t.Any]

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

MAX_KEY_LENGTH = 255
"""Maximum length of an ID. Databases such as MySQL need a limit for a key.

The vendor's document has none, and does not promise UUIDs.
"""

MAX_TOTAL = 2**63
"""A total must be lower."""

MAX_EXPONENT = 307
"""A double holds any number below 10 to the power of 308."""

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, and halves of characters such as an emoji that was cut in two."""

Decoder = msgspec.json.Decoder

NO_PAGE = "the response was not a page of leads"


class Page(t.NamedTuple):
    """One response of the API: `LeadListResponse` in the vendor's document."""

    leads: list[Lead]
    timestamps: list[dt.datetime]
    """The `updated_at` of each lead, in UTC."""
    next_cursor: str | None
    total: int | None
    """The number of leads that match the filters, on all pages together."""
    rejected: tuple[str, ...] = ()
    """A text for each lead that was left out: which one, and why."""
    repaired: int = 0
    """How many texts and numbers were replaced, because no database stores them."""
    requested_at: float = 0.0
    """When the page was requested, in epoch seconds by our clock."""
    sent_at: float | None = None
    """The header `Date` of the response, in epoch seconds."""
    headers: Mapping[str, str] = types.MappingProxyType({})
    arrived_at: float = 0.0
    """When the response arrived, in monotonic seconds."""
    took: float = 0.0
    """How many seconds passed from the request to the response."""
    new: Sequence[int] = ()
    """The indices of the leads that the reader has not read before."""

    @property
    def started_at(self) -> dt.datetime:
        """When the page was requested, by the earlier of our clock and the API's.

        Later changes may be missing on the page.
        """
        sent_at = (
            self.requested_at if self.sent_at is None else self.sent_at - self.took
        )
        return from_epoch(min(self.requested_at, sent_at))

    @property
    def created(self) -> list[dt.datetime | None]:
        """The `created_at` of each lead, in UTC; None if it is not usable."""
        return [created_at(lead) for lead in self.leads]


def parse_page(body: bytes) -> Page:
    """Return the page that the body of a response holds.

    A body that is not a page, such as a proxy's HTML or a list without a cursor, must
    not be taken for the last page. A lead that cannot be read is left out.

    Raises:
        ValueError: If the body is not a page of leads.
    """
    parser = Parser()
    try:
        content = parser.parse(body)
        leads, cursor = content["leads"], content["next_cursor"]
        # A cursor with half a character cannot be sent back.
        valid = isinstance(leads, list) and (cursor is None or bool(cursor.encode()))
    except (AttributeError, ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        raise ValueError(NO_PAGE)
    good, timestamps, rejected = _sort_out(leads)
    total = content.get("total")
    if type(total) is not int or not 0 <= total < MAX_TOTAL:
        total = None
    good = parser.repair(good)
    return Page(good, timestamps, cursor, total, rejected, parser.repaired)


def created_at(lead: Lead) -> dt.datetime | None:
    """Return when a lead was created, in UTC; None if it has no usable `created_at`."""
    try:
        return parse_timestamp(lead["created_at"])
    except (KeyError, TypeError, ValueError):
        return None


def refuse(constant: str) -> t.NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON does not have.

    Raises:
        ValueError: Always.
    """
    msg = f"{constant} is not JSON"
    raise ValueError(msg)


class Parser:
    """Parses the JSON of one response. Numbers keep all their digits.

    It replaces what no database stores: half a character becomes U+FFFD, NUL is
    dropped, a number too small for a double becomes 0, and one too large becomes
    null.
    """

    def __init__(self) -> None:
        """Start with nothing replaced."""
        self.repaired = 0
        """How many texts and numbers were replaced."""
        self._has_odd_text = False

    def parse(self, text: bytes) -> t.Any:
        """Return the content of a JSON text.

        Raises:
            ValueError: If the text is not JSON, or has a number of 5,000 digits.
            RecursionError: If it is nested too deeply.
        """
        try:
            content = Decoder(float_hook=self._number).decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # msgspec refuses halves of a character, which JSON allows.
            self.repaired = 0
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
            items = [(self._text(key), key, it) for key, it in value.items()]
            # A repaired name must not replace one that is right.
            return {
                name: self._repair(it)
                for name, key, it in items
                if name == key or name not in value
            }
        return value

    def _text(self, text: str) -> str:
        repaired = UNSTORABLE.sub(lambda it: "\ufffd" if it[0] > "\0" else "", text)
        self.repaired += repaired != text
        return repaired


def _sort_out(
    leads: list[t.Any],
) -> tuple[list[Lead], list[dt.datetime], tuple[str, ...]]:
    """Return the leads that can be read, their timestamps, and why others cannot."""
    good, timestamps, rejected = [], [], []
    for number, lead in enumerate(leads, start=1):
        try:
            timestamp = parse_timestamp(lead["updated_at"])
            is_good = _has_id(lead)
        except (KeyError, TypeError, ValueError):
            is_good = False
        if is_good:
            good.append(lead)
            timestamps.append(timestamp)
        else:
            rejected.append(f"{_problem(lead)}: lead {number}{_name(lead)}")
    return good, timestamps, tuple(rejected)


def _problem(lead: t.Any) -> str:
    """Return what is wrong with a lead, without quoting it."""
    if not isinstance(lead, dict):
        return "not an object"
    return "no usable 'updated_at'" if _has_id(lead) else "no usable 'id'"


def _name(lead: t.Any) -> str:
    """Return the ID of a lead, if it is a UUID: other text may be personal data."""
    key = lead.get("id") if isinstance(lead, dict) else None
    is_uuid = isinstance(key, str) and UUID.fullmatch(key)
    return f" with the ID {key}" if is_uuid else ""


def _has_id(lead: Lead) -> bool:
    """Return whether a lead has a usable ID. A repaired one might be another lead's."""
    key = lead.get("id")
    return (
        isinstance(key, str)
        and 0 < len(key) <= MAX_KEY_LENGTH
        and not UNSTORABLE.search(key)
    )


class CursorPaginator(BaseAPIPaginator[str | None]):
    """Follows `next_cursor` until it is null.

    An empty page that has a cursor is not the last one.
    """

    def __init__(self) -> None:
        """Start at the first page, which has no cursor."""
        super().__init__(None)
        self._seen: set[int] = set()

    def follow(self, cursor: str | None) -> None:
        """Move to the page of a cursor; None ends the pages.

        Raises:
            FatalAPIError: If the cursor is not new: the pages would never end.
        """
        self.advance(t.cast("requests.Response", cursor))

    @override
    def get_next(self, response: t.Any) -> str | None:
        cursor = t.cast("str | None", response)
        if hash(cursor) in self._seen:
            msg = (
                "The API sent the same cursor twice in one sync, so its pages do not "
                "end. Run again. If the error stays, report it to MEGA's support"
            )
            raise FatalAPIError(msg)
        self._seen.add(hash(cursor))
        return cursor
