"""Check the settings. A line names the setting and what it must be, never its value.

The SDK's own messages quote the value, which may be a secret.
"""

from __future__ import annotations

import ast
import difflib
import ipaddress
import json
import typing as t
from urllib.parse import urlsplit

from jsonschema import FormatChecker, validators
from requests import Request
from singer_sdk.plugin_base import JSONSchemaValidator

from tap_mega.config.schema import (
    CREDENTIALS,
    FOLDER_OR_URL,
    PRINTABLE_ASCII,
    VISIBLE_ASCII,
)
from tap_mega.shared.timestamps import parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jsonschema import ValidationError

    Schema: t.TypeAlias = dict[str, t.Any]

FORMATS = FormatChecker(formats=["uuid"])

REQUIREMENTS: dict[str, str] = {
    VISIBLE_ASCII: "text without white space; copy it again from where it is kept",
    PRINTABLE_ASCII: "plain text of one line",
    FOLDER_OR_URL: "a folder, or a URL such as file:///srv/batches",
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


@FORMATS.checks("date-time", raises=ValueError)
def _is_timestamp(value: object) -> bool:
    return not isinstance(value, str) or bool(parse_timestamp(value))


@FORMATS.checks("uri", raises=ValueError)
def _is_safe_url(value: object) -> bool:
    if not isinstance(value, str):
        return True
    url = urlsplit(value)
    plain = url.netloc.rpartition("@")[0] + url.query + url.fragment == ""
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


def _any_of(
    validator: t.Any, schemas: list[t.Any], instance: t.Any, schema: Schema
) -> Iterator[ValidationError]:
    """Ignore the bare text "null" that the SDK puts among the schemas of `__else__`."""
    schemas = [it for it in schemas if it != "null"]
    yield from JSONSchemaValidator.VALIDATORS["anyOf"](
        validator, schemas, instance, schema
    )


Validator = validators.extend(  # type: ignore[no-untyped-call]
    JSONSchemaValidator, {"anyOf": _any_of}
)


def find_errors(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Fill in the defaults, and return a line for each setting that is not valid."""
    validator = Validator(schema, format_checker=FORMATS)
    return sorted(map(_format_error, validator.iter_errors(config)))


def find_broken_text(settings: dict[str, t.Any], prefix: str = "") -> Iterator[str]:
    """Yield a line for each setting whose text no encoding can represent.

    JSON can hold half of an emoji, the escape `d83d`. A request or a file cannot.
    """
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from find_broken_text(value, f"{prefix}{name}.")
        text = name if isinstance(value, dict) else [name, value]
        try:
            json.dumps(text, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            yield f"The setting {prefix + name!a} must be text without half an emoji"


def find_credential_errors(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Return a line for each reason why it is not clear which customers to read.

    Args:
        config: The settings, each of which is valid by itself.
        schema: The schema of all settings.
    """
    given = [name for name in CREDENTIALS if name in config]
    customers = config.get("customers")
    if customers is None:
        return [_missing(name, schema) for name in CREDENTIALS if name not in config]
    if given:
        names = "' and '".join(given)
        return [f"The setting 'customers' replaces '{names}': set only one of them"]
    if not customers:
        return ["The setting 'customers' must have at least one customer"]
    return [
        f"The setting 'customers' has the same {name} at positions {first} and {second}"
        for name in CREDENTIALS
        for first, second in _repeated(it[name].lower() for it in customers)
    ]


def _repeated(values: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield the positions of each value that came before, counted from 1."""
    seen: dict[str, int] = {}
    for position, value in enumerate(values, start=1):
        first = seen.setdefault(value, position)
        if first != position:
            yield first, position


def find_unsafe_maps(config: dict[str, t.Any], streams: Sequence[str]) -> list[str]:
    """Return a line for each reason why `stream_maps` would not do what it says.

    A stream map may hide e-mail addresses: no lead may leave as if it did not exist.

    Args:
        config: The settings, which are valid otherwise.
        streams: The streams that a map can apply to.
    """
    maps = config.get("stream_maps") or {}
    names = "' or '".join(streams)
    lines = [
        f"The setting 'stream_maps' has '{name}', which is not a stream: use '{names}'"
        for name, mapping in maps.items()
        if name not in {*streams, "__else__"} and not _has_source(mapping, streams)
    ]
    if maps and config.get("batch_config"):
        lines.append(
            "The settings 'batch_config' and 'stream_maps' exclude each other: a BATCH "
            "file would hold the leads unmapped. Set only one"
        )
    return lines


def find_broken_maps(config: dict[str, t.Any]) -> list[str]:
    """Return a line for each reason why an expression of `stream_maps` cannot work."""
    known = config.get("stream_map_config") or {}
    lines, users = [], dict[str, list[str]]()
    for path, text in _expressions(config.get("stream_maps") or {}):
        tree = _parse_expression(text)
        if tree is None:
            lines.append(f"The setting '{path}' is not a valid expression")
            continue
        for name in _names_of_config(tree) - set(known):
            users.setdefault(name, []).append(f"'{path}'")
    for name, paths in sorted(users.items()):
        verb = "uses" if len(paths) == 1 else "use"
        who = f"{' and '.join(paths)} {verb}"
        lines.append(f"The setting 'stream_map_config' lacks '{name}', which {who}")
    return lines


def _expressions(maps: dict[str, t.Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting that is an expression, and the expression."""
    for stream, mapping in maps.items():
        for name, text in mapping.items() if isinstance(mapping, dict) else ():
            is_option = name.startswith("__") and name != "__filter__"
            if isinstance(text, str) and not is_option:
                yield f"stream_maps.{stream}.{name}", text


def _parse_expression(text: str) -> ast.Expr | None:
    """Return what the SDK evaluates; None if it is not an expression."""
    try:
        first = ast.parse(text).body[0]
    except (SyntaxError, IndexError, ValueError, RecursionError, MemoryError):
        return None
    return first if isinstance(first, ast.Expr) else None


def _names_of_config(tree: ast.Expr) -> set[str]:
    """Return the names in `config['…']`, unless the expression looks for them first."""
    names, looked_for = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(ast.Name("config"), ast.Constant(str(name))):
                names.add(name)
            case ast.Compare(ast.Constant(str(name)), _, [ast.Name("config")]):
                looked_for.add(name)
    return names - looked_for


def _has_source(mapping: t.Any, streams: Sequence[str]) -> bool:
    return isinstance(mapping, dict) and mapping.get("__source__") in streams


def find_unused_types(config: dict[str, t.Any]) -> list[str]:
    """Return a line if `custom_field_types` could never find a custom field."""
    line = (
        "The setting 'custom_field_types' needs 'include_custom_fields' to be true. To "
        "have the columns alone, deselect the property 'custom_fields'"
    )
    unused = config.get("custom_field_types") and not config["include_custom_fields"]
    return [line] if unused else []


def find_wrong_dates(config: dict[str, t.Any]) -> list[str]:
    """Return a line if `end_date` is not after `start_date`."""
    dates = [config.get(name) for name in ("start_date", "end_date")]
    if None in dates:
        return []
    start, end = map(parse_timestamp, t.cast("list[str]", dates))
    return [] if start < end else ["The setting 'end_date' must be after 'start_date'"]


def find_unknown(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Return a line for each top-level setting that does not exist."""
    return [
        f"The setting '{name}' does not exist and is ignored{hint}"
        for name, hint in unknown_names(config, schema["properties"])
    ]


def unknown_names(
    names: Iterable[str], known: Iterable[str], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield each name that is not known, and a hint if it is similar to a known one.

    A prefix that all names have makes none similar.
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
    kinds = [types] if isinstance(types, str) else types
    return next(kind for kind in kinds if kind != "null")


def _format_error(error: ValidationError) -> str:
    schema = t.cast("Schema", error.schema)
    path = _path(error)
    if error.validator == "required":
        name = error.message.split("'")[1]
        if not error.path:
            return _missing(name, schema)
        title = schema["properties"][name].get("title")
        inner = ".".join(map(str, [*error.path, name]))
        if not title:
            return f"The setting {path} lacks '{name}'"
        return f"The setting '{inner}' is missing: set it to the {title}"
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = ", ".join(sorted(set(t.cast("Schema", error.instance)) - set(known)))
        return f"The setting {path} has no '{unknown}', only {', '.join(known)}"
    return f"The setting {path} must be {requirement(error)}"


def _path(error: ValidationError) -> str:
    """Return what an error is about: `'filters.status'`, `'customers' (position 2)`."""
    names = [str(part) for part in error.path if isinstance(part, str)]
    positions = [part + 1 for part in error.path if isinstance(part, int)]
    position = f" (position {positions[0]})" if positions else ""
    return f"'{'.'.join(names)}'{position}"


def _missing(name: str, schema: Schema) -> str:
    title = schema["properties"][name]["title"]
    return f"The setting '{name}' is missing: set it to the {title}"


def requirement(error: ValidationError) -> str:
    """Return what a value must be, in words."""
    schema = t.cast("Schema", error.schema)
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if error.validator in {"format", "pattern"}:
        return REQUIREMENTS[str(error.validator_value)]
    if error.validator == "minLength":
        return "text that is not empty"
    if error.validator in {"anyOf", "oneOf"}:
        return "of the shape that `tap-mega --about --format=json` shows"
    return REQUIREMENTS[kind_of(schema)] + _bounds(schema)


def _bounds(schema: Schema) -> str:
    words = {"exclusiveMinimum": "more than", "minimum": "at least"}
    bounds = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    if "maximum" in schema:
        bounds.append(f"at most {schema['maximum']}")
    return f" of {' and '.join(bounds)}" if bounds else ""
