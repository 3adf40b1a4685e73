"""Settings from environment variables: `TAP_MEGA_…`."""

from __future__ import annotations

import json
import math
import os
import typing as t

from tap_mega.config.validation import REQUIREMENTS, kind_of

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from tap_mega.config.validation import Schema

PREFIX = "TAP_MEGA_"

TRUTHY = ("true", "1", "yes", "on")
FALSY = ("false", "0", "no", "off")


def read_environment(schema: Schema) -> tuple[dict[str, t.Any], list[str]]:
    """Read settings from the environment.

    The SDK's own reader ends in a traceback if it cannot parse a value, reads `maybe`
    as false, and lets a `.env` file beside the installation overrule the variables.

    Args:
        schema: The JSON schema of the settings.

    Returns:
        The settings, and a line for each variable that cannot be parsed.
    """
    config: dict[str, t.Any] = {}
    errors = []
    for name, setting in schema["properties"].items():
        variable = f"{PREFIX}{name.upper()}"
        if variable in os.environ:
            kind = kind_of(setting)
            try:
                config[name] = PARSERS[kind](os.environ[variable])
            except ValueError:
                errors.append(f"{variable} must be {REQUIREMENTS[kind]}")
    return config, errors


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
