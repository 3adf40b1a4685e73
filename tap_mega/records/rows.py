"""Make a row of a lead: which parts it has, under which names and types."""

from __future__ import annotations

import collections
import itertools
import typing as t

from tap_mega.records.conform import COLUMN, Part
from tap_mega.records.custom_fields import CustomFields, add_columns, column
from tap_mega.shared.words import counted

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    Json: t.TypeAlias = dict[str, t.Any]
    Breadcrumb: t.TypeAlias = tuple[str, ...]

MAX_NAMES = 100
"""How many names of rescued properties are counted."""

MAX_LISTED_NAMES = 20

CHANGED = (
    "The vendor's document does not describe what the API sent: {names}. {place}. The "
    "API has changed: update tap-mega"
)
RESCUED = "It is in 'rescued_data'"
LOST = (
    "It was left out, because 'rescued_data' is not selected: make the catalog again "
    "with --discover, or select it"
)


def row_schema(lead: Json, types: Mapping[str, str]) -> Json:
    """Add the tap's own columns to the schema of a lead, and return it.

    Like `custom_fields`, `rescued_data` is an object without fixed properties.
    """
    add_columns(lead, types)
    lead["properties"][COLUMN] = {"type": ["object", "null"]}
    return lead


class Rows:
    """Makes rows of leads, and counts what did not fit."""

    def __init__(
        self,
        *,
        schema: Json,
        document: Json,
        mask: Mapping[Breadcrumb, bool],
        types: Mapping[str, str],
        excluded: Collection[str] = (),
    ) -> None:
        """Prepare for the schema of the rows.

        Args:
            schema: The schema of the rows: the catalog's, if there is one.
            document: The vendor's schema of a lead.
            mask: What is selected.
            types: The setting `custom_field_types`.
            excluded: The setting `exclude_custom_fields`.
        """
        names = schema["properties"].keys()
        columns = set(map(column, types))
        self._missing = sorted(columns - names)
        self._has_customer = "customer_id" in names
        self._rescues = COLUMN in names and mask["properties", COLUMN]
        self.reads_custom_fields = any(
            mask["properties", it] for it in ("custom_fields", *columns)
        )
        """Whether rows need the `custom_fields` of their leads."""
        self._custom_fields = CustomFields(
            {slug: kind for slug, kind in types.items() if column(slug) in names},
            excluded,
        )
        self._lead = Part(
            schema,
            document,
            # A page has no leads without a usable ID.
            lambda place: mask[place] and place != ("properties", "id"),
            added={COLUMN, *columns},
        )
        self._has_fields = bool(types or excluded)
        self._names: collections.Counter[str] = collections.Counter()
        self.rescued = 0
        """The number of leads with something in `rescued_data`."""

    def row(self, lead: Json, customer_id: str) -> Json:
        """Make a row of a lead, in place, and return it.

        Args:
            lead: The lead, as the API sent it.
            customer_id: The customer whose lead it is.
        """
        columns = self._custom_fields.read(lead) if self._has_fields else {}
        rescued = self._lead.conform(lead)
        if rescued:
            self.rescued += 1
            self._count(rescued)
        if self._has_customer and not lead.get("customer_id"):
            lead["customer_id"] = customer_id
        lead.update(columns)
        if self._rescues:
            lead[COLUMN] = rescued or None
        return lead

    def _count(self, rescued: Json) -> None:
        """Count a lead for each name that was rescued, up to a limit of names."""
        for name in set(itertools.islice(self._lead.names(rescued), MAX_NAMES)):
            if name in self._names or len(self._names) < MAX_NAMES:
                self._names[name] += 1

    def warnings(self) -> Iterator[str]:
        """Yield a line for each problem that a person should correct."""
        yield from self._custom_fields.warnings()
        if self._names:
            place = RESCUED if self._rescues else LOST
            counts = self._names.most_common()
            names = [f"'{name}' in {counted(n, 'lead')}" for name, n in counts]
            more = ", and more" if len(names) > MAX_LISTED_NAMES else ""
            listed = ", ".join(names[:MAX_LISTED_NAMES]) + more
            yield CHANGED.format(names=listed, place=place)
        if self._missing:
            missing = "', '".join(self._missing)
            yield f"Left out, because the schema does not have them: '{missing}'"
