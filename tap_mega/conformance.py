"""Whether a lead is already as its schema has it."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    Json: t.TypeAlias = dict[str, t.Any]
    Check: t.TypeAlias = Callable[[t.Any], bool]


def conforms_to(schema: Json) -> Check:
    """Return a function that tells whether type conformance would change an object.

    The SDK's leaves out what the schema does not name, and makes a boolean of what
    should be one. It looks at every value of every lead for that, which takes longer
    than to read and write them; here the names are compared, and a few values.

    Args:
        schema: The JSON schema of an object, such as that of the model `Lead`.

    Returns:
        What returns True for an object that may stay as it is.
    """
    properties: Json = schema["properties"]
    names = properties.keys()
    checks = [(name, check) for name in names if (check := _check(properties[name]))]

    def conforms(value: t.Any) -> bool:
        for name, check in checks:
            if not check(value.get(name)):
                return False
        return bool(value.keys() <= names)

    return conforms


def _check(schema: Json) -> Check | None:
    """Return what a property's value has to pass; None where it may be anything."""
    if "properties" in schema:
        conforms = conforms_to(schema)
        return lambda value: not isinstance(value, dict) or conforms(value)
    if "boolean" in schema["type"]:
        return lambda value: value is None or isinstance(value, bool)
    return None
