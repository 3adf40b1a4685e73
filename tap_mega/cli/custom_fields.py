"""The option `--custom-fields` shows which custom fields there are, and no value."""

from __future__ import annotations

import collections
import decimal
import json
import typing as t

from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.reader import Wait
from tap_mega.cli.check import postpone, try_each, without_long_waits
from tap_mega.records.custom_fields import READERS, read_as
from tap_mega.shared.errors import config_error
from tap_mega.shared.words import plain
from tap_mega.sync.customer import raise_failures

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_mega.api.page import Lead
    from tap_mega.shared.clock import Clock
    from tap_mega.streams import LeadsStream
    from tap_mega.sync.customer import CustomerSync

MAX_PAGES = 10
"""How many pages of each customer are read, a sixth of the quota of a minute."""

EXCLUDED = "Set the setting 'include_custom_fields' to true to read custom fields"

MIN_SHARE = 0.95
"""A type is proposed if so many of the values can be read as that."""

PROPOSALS = ("integer", "number", "boolean", "date", "date-time")
"""Types from narrow to wide. Any value that is not one of them is a `string`."""

JSON_TYPES = {
    bool: "boolean",
    int: "integer",
    decimal.Decimal: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


class Field:
    """What was seen of a custom field."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.values = 0
        """In how many leads it is not null."""
        self.types: set[str] = set()
        self._readable: collections.Counter[str] = collections.Counter()

    def add(self, value: object) -> None:
        """Count a value."""
        self.values += 1
        self.types.add(JSON_TYPES[type(value)])
        self._readable.update(
            kind for kind in READERS if read_as(kind, value) is not None
        )

    def share(self, kind: str) -> float:
        """Return which share of the values can be read as a type."""
        return self._readable[kind] / self.values

    def proposal(self) -> str:
        """Return the type to use: the narrowest one that fits nearly all values."""
        fits = (kind for kind in PROPOSALS if self.share(kind) >= MIN_SHARE)
        return next(fits, "string")


class Profile:
    """The custom fields of the leads that were read."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.leads = 0
        self._fields: dict[str, Field] = {}

    def add(self, leads: Sequence[Lead]) -> None:
        """Count the custom fields of leads."""
        self.leads += len(leads)
        for lead in leads:
            fields = lead.get("custom_fields")
            for slug, value in fields.items() if isinstance(fields, dict) else ():
                if value is not None:
                    self._fields.setdefault(slug, Field()).add(value)

    def lines(self) -> Iterator[str]:
        """Yield the table, and what to put into the settings."""
        if not self._fields:
            yield f"None of {self.leads:,} leads has a custom field."
            return
        fields = dict(sorted(self._fields.items()))
        head = ["slug", "leads", "types seen", *READERS]
        yield from _format_table(
            [head, *(self._row(slug, it) for slug, it in fields.items())]
        )
        yield ""
        yield f"'leads': how many of {self.leads:,} leads, spread evenly, have a value."
        yield "'string' to 'date-time': how many of the values can be read so."
        yield f"These types fit at least {_percent(MIN_SHARE)} of the values:"
        yield ""
        types = {slug: it.proposal() for slug, it in fields.items()}
        yield json.dumps({"custom_field_types": types}, indent=2)

    def _row(self, slug: str, field: Field) -> list[str]:
        shares = (_percent(field.share(kind)) for kind in READERS)
        leads = _percent(field.values / self.leads)
        return [plain(slug), leads, ", ".join(sorted(field.types)), *shares]


def profile_fields(stream: LeadsStream, clock: Clock) -> Iterator[str]:
    """Yield lines about the custom fields of all customers.

    Raises:
        ConfigValidationError: If the settings exclude custom fields.
        FatalAPIError: If leads of some customers could not be read, with a line each.
    """
    if not stream.config["include_custom_fields"]:
        raise config_error(EXCLUDED)
    profile, syncs = Profile(), stream.new_syncs()
    try_each(syncs, lambda sync: _read(sync, profile, clock))
    if profile.leads or not any(sync.failure for sync in syncs):
        yield from profile.lines()
    raise_failures(syncs)


def _read(sync: CustomerSync, profile: Profile, clock: Clock) -> None:
    """Read a sample of the leads of a customer.

    Raises:
        FatalAPIError: If the quota or a failure ends it early.
    """
    for step in without_long_waits(sync.sample(MAX_PAGES), clock):
        if isinstance(step, Wait):
            count = sync.reader.pages_read
            line = f"The custom fields could be read from {count} pages only"
            raise FatalAPIError(postpone(line, step, clock))
        profile.add(step.leads)


def _percent(share: float) -> str:
    """Return a share. 100 % means all, and 0 % means none."""
    return "<1 %" if 0 < share < 0.01 else f"{int(share * 100)} %"  # noqa: PLR2004


def _format_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
