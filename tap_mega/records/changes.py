"""The rows of `lead_changes`: one version of a lead, in a few columns."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    Json: t.TypeAlias = dict[str, t.Any]

COLUMNS = {
    "id": ("id",),
    "customer_id": ("customer_id",),
    "updated_at": ("updated_at",),
    "status": ("status",),
    "stage_id": ("current_stage", "id"),
    "stage_slug": ("current_stage", "slug"),
    "owner_id": ("owner", "id"),
    "score": ("score",),
    "qualified": ("qualified",),
}
"""The columns, and where in a lead their values are."""


def change_schema(lead: Json) -> Json:
    """Return the schema of the rows, from the vendor's schema of a lead."""
    properties: Json = {}
    for name, path in COLUMNS.items():
        part = lead
        for step in path:
            part = part["properties"][step]
        properties[name] = part
    required = [name for name in lead["required"] if name in COLUMNS]
    return {**lead, "properties": properties, "required": required}


def change_of(lead: Json) -> Json:
    """Return the row of a lead. What the lead does not have is null."""
    row: Json = {}
    for name, path in COLUMNS.items():
        value: t.Any = lead
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        row[name] = value
    return row
