"""The option `--custom-fields` shows which custom fields exist, but no values."""

from __future__ import annotations

import collections
import json
import typing as t

from tap_mega.api.retry import RETRY_ADVICE
from tap_mega.cli.trial import new_syncs, try_each
from tap_mega.records.custom_fields import READERS, column, read_as
from tap_mega.shared.errors import config_error
from tap_mega.sync.customer import raise_failures

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from tap_mega.api.page import Lead
    from tap_mega.streams import LeadsStream

MAX_PAGES = 10
"""Pages to read per customer: a sixth of the quota per minute."""

EXCLUDED = "Set the setting 'include_custom_fields' to true to read custom fields"

NOT_READ = "Not all leads could be read"

MIN_SHARE = 0.95
"""A type is proposed if at least this share of the values can be read as it."""

PROPOSALS = ("integer", "number", "boolean", "date", "date-time")
"""Types from narrow to wide. Any value that is not one of them is a `string`."""


class Profile:
    """The custom fields of the leads that were read."""

    def __init__(self, excluded: Collection[str]) -> None:
        """Start with nothing read, and leave out excluded fields."""
        self.leads = 0
        self._excluded = excluded
        self._values: collections.Counter[str] = collections.Counter()
        """In how many leads a field is not null."""
        self._readable: collections.Counter[tuple[str, str]] = collections.Counter()
        """How many values of a field can be read as a type."""

    def add(self, leads: Sequence[Lead]) -> None:
        """Count the custom fields of leads."""
        self.leads += len(leads)
        for lead in leads:
            fields = lead.get("custom_fields")
            for slug, value in fields.items() if isinstance(fields, dict) else ():
                if value is not None and slug not in self._excluded:
                    kinds = [it for it in READERS if read_as(it, value) is not None]
                    self._values[slug] += 1
                    self._readable.update((slug, kind) for kind in kinds)

    def lines(self) -> Iterator[str]:
        """Yield the table, and what to put into the settings."""
        if not self._values:
            yield f"None of {self.leads:,} leads has a custom field."
            return
        slugs = sorted(self._values)
        head = ["slug", "column", "leads", *READERS]
        yield from _format_table([head, *map(self._row, slugs)])
        yield ""
        yield f"'leads': how many of {self.leads:,} leads, spread evenly, have a value."
        yield "'column': the name of its column, once the settings give it a type."
        yield "'string' to 'date-time': how many of the values can be read so."
        yield f"These types fit at least {_percent(MIN_SHARE)} of the values:"
        yield ""
        types = {slug: self._proposal(slug) for slug in slugs}
        yield json.dumps({"custom_field_types": types}, indent=2)

    def _row(self, slug: str) -> list[str]:
        """Return the cells of a field. Its slug can hold anything."""
        shares = [self._values[slug] / self.leads]
        shares += [self._share(slug, kind) for kind in READERS]
        return [_printable(slug), column(slug), *map(_percent, shares)]

    def _share(self, slug: str, kind: str) -> float:
        return self._readable[slug, kind] / self._values[slug]

    def _proposal(self, slug: str) -> str:
        """Return the type to use: the narrowest one that fits nearly all values."""
        fits = (it for it in PROPOSALS if self._share(slug, it) >= MIN_SHARE)
        return next(fits, "string")


def profile_fields(stream: LeadsStream) -> Iterator[str]:
    """Yield lines about the custom fields of all customers.

    Raises:
        ConfigValidationError: If the settings exclude custom fields.
        FatalAPIError: If leads of some customers could not be read, with a line each.
    """
    if not stream.config["include_custom_fields"]:
        raise config_error(EXCLUDED)
    profile = Profile(stream.config.get("exclude_custom_fields") or ())
    syncs = new_syncs(stream, RETRY_ADVICE)
    for _, page in try_each(stream, syncs, lambda it: it.sample(MAX_PAGES), NOT_READ):
        profile.add(page.leads)
    if profile.leads or not any(sync.failure for sync in syncs):
        yield from profile.lines()
    raise_failures(syncs)


def _printable(name: str) -> str:
    """Return a name in one line: a slug can hold anything."""
    return "".join(it if it.isprintable() else "?" for it in name)


def _percent(share: float) -> str:
    """Return a share. 100 % means all, and 0 % means none."""
    return "<1 %" if 0 < share < 0.01 else f"{int(share * 100)} %"  # noqa: PLR2004


def _format_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
