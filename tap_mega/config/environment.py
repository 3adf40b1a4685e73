"""Settings from environment variables: `TAP_MEGA_…`."""

from __future__ import annotations

import json
import math
import os
import re
import typing as t

from tap_mega.cli.logs import LEVEL_VARIABLES
from tap_mega.config.schema import properties_of
from tap_mega.config.validation import REQUIREMENTS, kind_of, unknown_names

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mega.config.validation import Schema

PREFIX = "TAP_MEGA_"

EXTRA = "TAP_MEGA__"
"""How variables of Meltano's extras begin, such as `TAP_MEGA__SELECT`."""

MELTANO = "MELTANO_EXTRACT"
"""Meltano sets `MELTANO_EXTRACT_X` beside each `TAP_MEGA_X` that it sets itself.

So it does for the parts of an object, for settings that do not exist, for its extras,
and for a plugin with another name that inherits from `tap-mega`.
"""

CUSTOM_FIELD_RULE = re.compile(r"!.+\.custom_fields\.(?P<slug>.+)")

TRUTHY = ("true", "1", "yes", "on")
FALSY = ("false", "0", "no", "off")


def read_environment(
    config: dict[str, t.Any], schema: Schema
) -> tuple[dict[str, t.Any], list[str]]:
    """Add the settings of the environment to others, which they replace.

    The SDK's own reader ends in a traceback if it cannot parse a value, reads `maybe`
    as false, and lets a `.env` file beside the installation overrule the variables.

    Args:
        config: The settings of files.
        schema: The JSON schema of the settings.

    Returns:
        The settings, and a line for each variable that cannot be parsed.
    """
    config, errors = dict(config), []
    for variable, (path, setting) in _variables(schema).items():
        if variable in os.environ:
            kind = kind_of(setting)
            try:
                _set(config, path, PARSERS[kind](os.environ[variable]))
            except ValueError:
                errors.append(f"{variable} must be {REQUIREMENTS[kind]}")
    return config, errors


def find_unknown_variables(schema: Schema) -> list[str]:
    """Return a line for each variable `TAP_MEGA_…` that somebody set for nothing."""
    of_meltano = tuple(
        name.removeprefix(MELTANO)
        for name in os.environ
        if name.startswith(f"{MELTANO}_")
    )
    known = [*_variables(schema), LEVEL_VARIABLES[0]]
    objects = [name for name in schema["properties"] if properties_of(name)]
    prefixes = [*(f"{PREFIX}{name.upper()}_" for name in objects), PREFIX]
    lines = []
    for name in sorted(os.environ):
        prefix = next(filter(name.upper().startswith, prefixes), None)
        if prefix and not name.startswith(EXTRA) and not name.endswith(of_meltano):
            similar = [it for it in known if it.startswith(prefix)]
            lines += [
                f"The variable '{name}' does not exist and is ignored{hint}"
                for _, hint in unknown_names([name], similar, prefix.lower())
            ]
    return lines


def find_useless_rules(config: dict[str, t.Any]) -> list[str]:
    """Return a line for each rule of Meltano's `select` that hides no custom field."""
    rules = re.findall(r'"([^"]*)"', os.environ.get(f"{MELTANO}__SELECT", ""))
    excluded = config.get("exclude_custom_fields") or ()
    return [
        f"The rule '{rule}' of 'select' has no effect, because the catalog lists no "
        "custom fields: use the setting 'exclude_custom_fields'"
        for rule in rules
        if (found := CUSTOM_FIELD_RULE.fullmatch(rule))
        and found["slug"] not in excluded
    ]


def _variables(schema: Schema) -> dict[str, tuple[list[str], Schema]]:
    """Return the setting of each variable, objects before the properties in them."""
    found = {}
    for name, setting in schema["properties"].items():
        found[f"{PREFIX}{name.upper()}"] = [name], setting
        for part, inner in properties_of(name).items():
            found[f"{PREFIX}{name.upper()}_{part.upper()}"] = [name, part], inner
    return found


def _set(config: dict[str, t.Any], path: list[str], value: t.Any) -> None:
    """Set a setting, or one property of it, which leaves the others."""
    name, *inner = path
    outer = config.get(name)
    if inner and (outer is None or isinstance(outer, dict)):
        value = {**(outer or {}), inner[0]: value}
    elif inner:
        return  # The validation says that the setting must be an object.
    config[name] = value


def parse_boolean(value: str) -> bool:
    """Return a boolean that is written as a word.

    Raises:
        ValueError: If it is not one of the words.
    """
    word = value.lower()
    if word not in (*TRUTHY, *FALSY):
        raise ValueError
    return word in TRUTHY


def _parse_number(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


PARSERS: dict[str, Callable[[str], t.Any]] = {
    "array": json.loads,
    "boolean": parse_boolean,
    "integer": int,
    "number": _parse_number,
    "object": json.loads,
    "string": str,
}
