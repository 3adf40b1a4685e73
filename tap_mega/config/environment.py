"""Settings from environment variables: `TAP_MEGA_…`."""

from __future__ import annotations

import json
import os
import re
import typing as t

from tap_mega.cli.logs import LEVEL_VARIABLE
from tap_mega.config.schema import properties_of
from tap_mega.config.validation import REQUIREMENTS, kind_of, unknown_names

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_mega.config.validation import Schema

PREFIX = "TAP_MEGA_"

EXTRA = "TAP_MEGA__"
"""How variables of Meltano's extras begin, such as `TAP_MEGA__SELECT`."""

MELTANO = "MELTANO_EXTRACT"
"""Meltano sets `MELTANO_EXTRACT_X` beside each `TAP_MEGA_X` that it sets itself.

It also does so for the parts of an object, for settings that do not exist, for its
extras, and for a plugin with another name that inherits from `tap-mega`.
"""

CUSTOM_FIELD_RULE = re.compile(r'"(!.+\.custom_fields\.([^"]+))"')

BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def read_environment(
    config: dict[str, t.Any], schema: Schema
) -> tuple[dict[str, t.Any], list[str]]:
    """Add the settings of the environment. They replace those of files.

    The SDK's own reader ends in a traceback if it cannot parse a value, reads `maybe`
    as false, and lets a `.env` file beside the installation overrule the variables.

    Args:
        config: The settings from files.
        schema: The JSON schema of the settings.

    Returns:
        The settings, and a line for each variable that cannot be parsed.
    """
    config, errors = dict(config), []
    for variable, (name, part, setting) in _variables(schema).items():
        if variable in os.environ:
            kind = kind_of(setting)
            try:
                value = PARSERS[kind](os.environ[variable])
            except (KeyError, ValueError):
                errors.append(f"{variable} must be {REQUIREMENTS[kind]}")
            else:
                whole = {**(config.get(name) or {}), part: value} if part else value
                config[name] = whole
    return config, errors


def find_unknown_variables(schema: Schema) -> Iterator[str]:
    """Yield a line for each variable that is set, but names no setting."""
    of_meltano = [
        it[len(MELTANO) :] for it in os.environ if it.startswith(f"{MELTANO}_")
    ]
    known = [*_variables(schema), LEVEL_VARIABLE]
    objects = [name for name in schema["properties"] if properties_of(name)]
    prefixes = [*(f"{PREFIX}{name.upper()}_" for name in objects), PREFIX]
    for name in sorted(os.environ):
        prefix = next(filter(name.upper().startswith, prefixes), None)
        if prefix and not name.startswith(EXTRA) and not name.endswith((*of_meltano,)):
            similar = [it for it in known if it.startswith(prefix)]
            for _, hint in unknown_names([name], similar, prefix.lower()):
                yield f"The variable '{name}' does not exist and is ignored{hint}"


def find_useless_rules(config: dict[str, t.Any]) -> Iterator[str]:
    """Yield a line for each rule of Meltano's `select` that hides no custom field."""
    rules = CUSTOM_FIELD_RULE.findall(os.environ.get(f"{MELTANO}__SELECT", ""))
    for rule, slug in rules:
        if slug not in (config.get("exclude_custom_fields") or ()):
            yield (
                f"The rule '{rule}' of 'select' has no effect, because the catalog "
                "lists no custom fields: use the setting 'exclude_custom_fields'"
            )


def _variables(schema: Schema) -> dict[str, tuple[str, str, Schema]]:
    """Return the setting of each variable, objects before the properties in them."""
    found = {}
    for name, setting in schema["properties"].items():
        found[f"{PREFIX}{name.upper()}"] = name, "", setting
        for part, inner in properties_of(name).items():
            found[f"{PREFIX}{name.upper()}_{part.upper()}"] = name, part, inner
    return found


PARSERS: dict[str, Callable[[str], t.Any]] = {
    "array": json.loads,
    "boolean": lambda value: BOOLEANS[value.lower()],
    "integer": int,
    "number": float,
    "object": json.loads,
    "string": str,
}
