"""Check the settings. A line names the setting and what it must be, never its value.

The SDK's own messages quote the value, which may be a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import typing as t
from urllib.parse import urlsplit

from jsonschema import FormatChecker, validators
from requests import Request
from singer_sdk.plugin_base import JSONSchemaValidator

from tap_mega.config.schema import CREDENTIALS, PRINTABLE_ASCII, TOKEN, UUID
from tap_mega.shared.timestamps import parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jsonschema import ValidationError

    Schema: t.TypeAlias = dict[str, t.Any]

FORMATS = FormatChecker(formats=())

BATCH = "batch_config"

NO_BATCH = (
    f"The setting '{BATCH}' is not supported: remove it, and leads leave as RECORD "
    "messages"
)

REQUIREMENTS: dict[str, str] = {
    TOKEN: "text without white space; copy it again from where it is kept",
    PRINTABLE_ASCII: "plain text of one line",
    "uuid": "a UUID, such as 00000000-0000-4000-8000-000000000000",
    "date-time": "a date or date-time, such as 2026-01-31 or 2026-01-31T08:00:00Z",
    "uri": "an https URL, or an http URL of this machine (localhost, 127.0.0.1)",
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a JSON object",
    "string": "text",
}

HINTS: dict[str, dict[str, str]] = {
    TOKEN: {
        r"\s*": "the Personal Access Token, and is empty",
        r"mega_(\.*|.*…)": "the whole Personal Access Token, not a placeholder",
        r"(?i).*\bbearer\b.*": "the token alone, without 'Bearer'",
        UUID: "the Personal Access Token, and is a UUID: are the two swapped?",
    },
    "uuid": {"mega_.*": "a UUID, and is a token: are the two swapped?"},
    "uri": {".*[?#].*": "a URL without '?' and '#'"},
}
"""What the value must be, for each pattern that a wrong value may match."""

BOUNDS = {
    "exclusiveMinimum": "more than",
    "minimum": "at least",
    "maximum": "at most",
}


@FORMATS.checks("date-time", raises=ValueError)
def _is_timestamp(value: object) -> bool:
    return not isinstance(value, str) or bool(parse_timestamp(value))


@FORMATS.checks("uuid")
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(UUID, value))


@FORMATS.checks("uri", raises=ValueError)
def _is_safe_url(value: object) -> bool:
    if not isinstance(value, str):
        return True
    url = urlsplit(value)
    plain = not url.netloc.rpartition("@")[0] and not set("?#") & set(value)
    safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(value))
    # Each of these raises ValueError if the port or the host is not valid.
    _ = url.port, (url.hostname or "").encode("idna"), Request("GET", value).prepare()
    return bool(url.hostname) and plain and safe and not any(map(str.isspace, value))


def is_loopback(url: str) -> bool:
    """Return whether the host of a URL is this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _any_of(validator: t.Any, schemas: list[t.Any], *rest: t.Any) -> t.Any:
    """Ignore the bare string "null" in the SDK's list of schemas for `__else__`."""
    schemas = [it for it in schemas if it != "null"]
    return JSONSchemaValidator.VALIDATORS["anyOf"](validator, schemas, *rest)


Validator = validators.extend(  # type: ignore[no-untyped-call]
    JSONSchemaValidator, {"anyOf": _any_of}
)


def find_all_errors(
    config: dict[str, t.Any], schema: Schema, streams: Sequence[str]
) -> list[str]:
    """Fill in the defaults, and return a line for each reason not to run.

    Args:
        config: The settings.
        schema: The JSON schema of the settings.
        streams: The streams that a stream map can apply to.
    """
    return find_errors(config, schema) or [
        *([NO_BATCH] if BATCH in config else []),
        *find_credential_errors(config, schema),
        *find_unknown_streams(config, streams),
        *find_contradictions(config),
    ]


def find_errors(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Fill in the defaults, and return a line for each setting that is not valid."""
    validator = Validator(schema, format_checker=FORMATS)
    return sorted(map(_format_error, validator.iter_errors(config)))


def find_credential_errors(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Return a line for each reason why it is not clear which customers to read."""
    given = [name for name in CREDENTIALS if name in config]
    customers = config.get("customers")
    if customers is None:
        return [_missing(name, schema) for name in CREDENTIALS if name not in given]
    if given:
        names = "' and '".join(given)
        return [f"The setting 'customers' replaces '{names}': set only one of them"]
    if not customers:
        return ["The setting 'customers' must have at least one customer"]
    columns = {name: [it[name].lower() for it in customers] for name in CREDENTIALS}
    return [
        f"The setting 'customers' has the same {name} at positions {first} and {second}"
        for name, values in columns.items()
        for second, value in enumerate(values, start=1)
        if (first := values.index(value) + 1) < second
    ]


def find_unknown_streams(
    config: dict[str, t.Any], streams: Sequence[str]
) -> Iterator[str]:
    """Yield a line for each map of no stream: it may be meant to hide data."""
    for name, mapping in (config.get("stream_maps") or {}).items():
        source = mapping.get("__source__") if isinstance(mapping, dict) else None
        if not {name, source} & {*streams, "__else__"}:
            use = "' or '".join(streams)
            msg = f"has '{name}', which is not a stream: use '{use}'"
            yield f"The setting 'stream_maps' {msg}"


def find_contradictions(config: dict[str, t.Any]) -> Iterator[str]:
    """Yield a line for each setting that contradicts another one."""
    types = config.get("custom_field_types", {})
    if types and not config["include_custom_fields"]:
        yield (
            "The setting 'custom_field_types' needs 'include_custom_fields' to be "
            "true. To have the columns alone, deselect the property 'custom_fields'"
        )
    for slug in sorted(set(types) & set(config.get("exclude_custom_fields", ()))):
        yield (
            f"The setting 'custom_field_types' has '{slug}', which "
            "'exclude_custom_fields' excludes: remove it from one of them"
        )
    if config["full_refresh_min_age_days"] > config["full_refresh_max_age_days"]:
        yield (
            "The setting 'full_refresh_min_age_days' must not be more than "
            "'full_refresh_max_age_days'"
        )
    start, end = (config.get(name) for name in ("start_date", "end_date"))
    if start and end and not parse_timestamp(start) < parse_timestamp(end):
        yield "The setting 'end_date' must be after 'start_date'"


def find_unknown(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Return a line for each top-level setting that does not exist."""
    return [
        f"The setting '{name}' does not exist and is ignored{hint}"
        for name, hint in unknown_names(config, [*schema["properties"], BATCH])
    ]


def unknown_names(
    names: Iterable[str], known: Iterable[str], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield each name that is not known, and a hint if it is similar to a known one.

    A prefix that all names share does not count as similar.
    """
    by_letters = {name.lower().removeprefix(prefix): name for name in known}
    for name in sorted(set(names) - set(by_letters.values())):
        letters = name.lower().removeprefix(prefix)
        similar = difflib.get_close_matches(letters, by_letters, n=1)
        hint = f"; did you mean '{by_letters[similar[0]]}'?" if similar else ""
        yield name, hint


def kind_of(schema: Schema) -> str:
    """Return the JSON type of a setting, apart from null."""
    types = schema.get("type", "object")
    return types if isinstance(types, str) else next(it for it in types if it != "null")


def _format_error(error: ValidationError) -> str:
    """Name the setting, such as `'filters.status'` or `'customers' (position 2)`."""
    schema = t.cast("Schema", error.schema)
    path = f"'{'.'.join(str(it) for it in error.path if isinstance(it, str))}'"
    for index in [it for it in error.path if isinstance(it, int)][:1]:
        path += f" (position {index + 1})"
    if error.validator == "required":
        name = error.message.split("'")[1]
        return f"The setting {path} lacks '{name}'"
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = ", ".join(sorted(set(t.cast("Schema", error.instance)) - set(known)))
        return f"The setting {path} has no '{unknown}', only {', '.join(known)}"
    return f"The setting {path} must be {_requirement(error, schema)}"


def _missing(name: str, schema: Schema) -> str:
    title = schema["properties"][name]["title"]
    return f"The setting '{name}' is missing: set it to the {title}"


def _requirement(error: ValidationError, schema: Schema) -> str:
    """Return what a value must be, in words."""
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if error.validator in {"format", "pattern"}:
        name, value = str(error.validator_value), str(error.instance)
        hints = HINTS.get(name, {}).items()
        found = (hint for wrong, hint in hints if re.fullmatch(wrong, value))
        return next(found, REQUIREMENTS[name])
    if error.validator == "minLength":
        return "text that is not empty"
    if error.validator in {"anyOf", "oneOf"}:
        return "of the shape that `tap-mega --about --format=json` shows"
    bounds = [f"{word} {schema[it]}" for it, word in BOUNDS.items() if it in schema]
    must = REQUIREMENTS[kind_of(schema)]
    return f"{must} of {' and '.join(bounds)}" if bounds else must
