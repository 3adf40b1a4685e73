"""A lead becomes a row: conformed to its schema, with the columns of custom fields."""

from __future__ import annotations

import typing as t

from tap_mega.records.conform import Conformer
from tap_mega.records.custom_fields import CustomFields

if t.TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    Json: t.TypeAlias = dict[str, t.Any]


class Rows:
    """Makes rows of leads."""

    def __init__(
        self,
        *,
        schema: Json,
        document: Json,
        mask: Mapping[t.Any, bool],
        types: Mapping[str, str],
        excluded: Collection[str] = (),
    ) -> None:
        self._custom_fields = CustomFields(types)
        self._conformer = Conformer(schema, document, mask, self._custom_fields.columns)

    def row(self, lead: Json, customer_id: str) -> Json:
        """Return the row of a lead, which changes in place."""
        columns = self._custom_fields.read(lead)
        self._conformer.conform(lead, columns, customer_id)
        return lead

    def warnings(self) -> list[str]:
        return [*self._custom_fields.warnings(), *self._conformer.warnings()]

    def infos(self) -> list[str]:
        line = self._custom_fields.without_column()
        return [line] if line else []
