"""What may be set, and what is said of a setting that is wrong."""

from __future__ import annotations

import datetime as dt
import difflib
import ipaddress
import json
import math
import os
import re
import typing as t
from urllib.parse import urlsplit

from jsonschema import FormatChecker
from requests import Request
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.plugin_base import JSONSchemaValidator

if t.TYPE_CHECKING:
    from jsonschema import ValidationError

    Schema: t.TypeAlias = dict[str, t.Any]

TRUTHY = ("true", "1", "yes", "on")
FALSY = ("false", "0", "no", "off")

# In Python, `$` alone lets a last line feed through.
VISIBLE_ASCII = r"^[\x21-\x7e]+$(?!\n)"
PRINTABLE_ASCII = r"^[\x21-\x7e][\x20-\x7e]*$(?!\n)"

FIELD_TYPES = ["string", "integer", "number", "boolean", "date", "date-time"]
"""Types that a custom field can be read as."""

SETTINGS: Schema = th.PropertiesList(
    th.Property(
        "auth_token",
        th.StringType(pattern=VISIBLE_ASCII),
        required=True,
        secret=True,
        title="Personal Access Token",
        description=(
            "The Personal Access Token that MEGA issued, `mega_…`. It needs the scope "
            "`public_api:leads:read`."
        ),
    ),
    th.Property(
        "customer_id",
        th.UUIDType,
        required=True,
        title="Customer ID",
        description="The UUID of the customer that the token is locked to.",
    ),
    th.Property(
        "start_date",
        th.DateTimeType,
        title="Start date",
        description=(
            "The earliest `updated_at` to read when there is no bookmark: a date or a "
            "date-time, in UTC where it names no zone. Without it, all leads are read."
        ),
    ),
    th.Property(
        "include_custom_fields",
        th.BooleanType,
        default=True,
        title="Include custom fields",
        description=(
            "Whether to ask for `custom_fields`. Deselecting the property does the "
            "same as `false`."
        ),
    ),
    th.Property(
        "custom_field_types",
        th.ObjectType(additional_properties=th.StringType(allowed_values=FIELD_TYPES)),
        title="Custom field types",
        description=(
            "Custom fields that get a column of their own, `custom_field_SLUG`: an "
            "object of slugs, each with `string`, `integer`, `number`, `boolean`, "
            "`date` or `date-time`."
        ),
    ),
    th.Property(
        "filters",
        th.ObjectType(
            th.Property(
                "status",
                th.StringType(min_length=1),
                title="Status",
                description=(
                    "Only leads of this status, such as `active`, `won`, `lost`, "
                    "`nurture` or `archived`."
                ),
            ),
            th.Property(
                "stage_id",
                th.UUIDType,
                title="Stage ID",
                description="Only leads in the pipeline stage of this UUID.",
            ),
            th.Property(
                "search",
                th.StringType(min_length=1),
                title="Search",
                description=(
                    "Only leads whose name, e-mail or phone matches this text; for a "
                    "phone in any notation."
                ),
            ),
            th.Property(
                "created_since",
                th.DateTimeType,
                title="Created since",
                description="Only leads created at or after this date or date-time.",
            ),
            th.Property(
                "lead_line",
                th.StringType,
                allowed_values=["buyer", "seller"],
                title="Lead line",
                description="Only leads of this line: `buyer` or `seller`.",
            ),
            additional_properties=False,
        ),
        title="Filters",
        description=(
            "Which leads to read; the API does the filtering. A sync with other "
            "filters than its bookmark was made with starts over."
        ),
    ),
    th.Property(
        "lookback_seconds",
        th.IntegerType(minimum=0),
        default=60,
        title="Look-back",
        description=(
            "How many seconds before the bookmark a sync starts, for leads whose "
            "change was stored late."
        ),
    ),
    th.Property(
        "page_size",
        th.IntegerType(minimum=1, maximum=100),
        default=100,
        title="Page size",
        description=(
            "Leads a request. The API counts requests, so less than 100 is slower."
        ),
    ),
    th.Property(
        "requests_per_minute",
        th.IntegerType(minimum=0, maximum=1_000_000),
        default=60,
        title="Requests per minute",
        description=(
            "The pace to keep, by default the API's own limit; 0 for no pacing."
        ),
    ),
    th.Property(
        "requests_per_hour",
        th.IntegerType(minimum=0, maximum=1_000_000),
        default=1000,
        title="Requests per hour",
        description=(
            "The pace to keep, by default the API's own limit; 0 for no pacing."
        ),
    ),
    th.Property(
        "max_wait_seconds",
        th.IntegerType(minimum=0),
        default=3900,
        title="Longest wait",
        description=(
            "The longest single wait for quota, in seconds. Where more would be "
            "needed, the sync stops with a state that the next one resumes from."
        ),
    ),
    th.Property(
        "request_timeout",
        th.NumberType(exclusive_minimum=0, maximum=86400),
        default=60,
        title="Request time-out",
        description="After how many seconds without an answer a try has failed.",
    ),
    th.Property(
        "backoff_max_tries",
        th.IntegerType(minimum=1),
        default=10,
        title="Tries of a request",
        description=(
            "How often one request is tried that fails for any cause but quota."
        ),
    ),
    th.Property(
        "api_url",
        th.URIType,
        default="https://app.gomega.ai",
        title="API URL",
        description=(
            "Where the API is: an https URL, or an http URL of this machine, such as "
            "that of the sandbox."
        ),
    ),
    th.Property(
        "user_agent",
        th.StringType(pattern=PRINTABLE_ASCII),
        title="User agent",
        description=(
            "The User-Agent that requests carry. By default `tap-mega/` and the "
            "version."
        ),
    ),
    th.Property(
        "emit_activate_version_messages",
        th.BooleanType,
        default=False,
        title="Emit ACTIVATE_VERSION",
        description=(
            "Whether a full-table sync tells the loader, after its last row, to remove "
            "what it did not bring."
        ),
    ),
).to_dict()

LEAP_SECOND = re.compile(r"(T\d\d:\d\d):60")

FORMATS = FormatChecker(formats=["uuid"])

REQUIREMENTS: dict[str, str] = {
    VISIBLE_ASCII: "text without white space; copy it again from where it is kept",
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


@FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or bool(parse_moment(value))


@FORMATS.checks("uri", raises=ValueError)
def _is_safe_url(value: object) -> bool:
    if not isinstance(value, str):
        return True
    url = urlsplit(value)
    plain = url.netloc.rpartition("@")[0] + url.query + url.fragment == ""
    safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(value))
    # What follows raises ValueError where the port or the host is none.
    _ = url.port, (url.hostname or "").encode("idna"), Request("GET", value).prepare()
    return bool(url.hostname) and plain and safe and not any(map(str.isspace, value))


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine itself."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_moment(value: str) -> dt.datetime:
    """Return the moment in UTC that an ISO 8601 date or date-time names.

    One without an offset is in UTC already. Digits beyond the microsecond are cut off.

    Raises:
        ValueError: If it is no date.
    """
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        # RFC 3339 allows small letters, and a leap second, which Python does not know.
        moment = dt.datetime.fromisoformat(LEAP_SECOND.sub(r"\1:59", value.upper()))
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError as error:  # 0001-01-01 in a zone east of Greenwich
        msg = f"{value} is out of range"
        raise ValueError(msg) from error


def format_moment(moment: dt.datetime) -> str:
    """Return a moment as the API writes one: `2026-07-01T18:20:00.000Z`.

    Microseconds are written only where there are any.
    """
    digits = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.astimezone(dt.UTC).isoformat(timespec=digits)[:-6] + "Z"


def refusal(*lines: str) -> ConfigValidationError:
    """Return the error that the command tells as these lines, and no others."""
    return ConfigValidationError(lines[0], errors=list(lines))


def find_errors(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Fill in the defaults, and return a line for each setting that is wrong.

    A line names the setting and what it must be, never the value: it may be a secret.
    """
    validator = JSONSchemaValidator(schema, format_checker=FORMATS)
    errors = sorted(validator.iter_errors(config), key=lambda error: list(error.path))
    return [_describe(error) for error in errors]


def find_unsafe_maps(config: dict[str, t.Any], stream: str) -> list[str]:
    """Return a line for each reason why `stream_maps` would not do what it says.

    It may be what hides e-mail addresses: leads must not leave as if it was not there.

    Args:
        config: The settings, of which nothing else is wrong.
        stream: The only stream that there is to map.
    """
    maps = config.get("stream_maps") or {}
    lines = [
        f"The setting 'stream_maps' has '{name}', which is no stream: name '{stream}'"
        for name, mapping in maps.items()
        if name not in {stream, "__else__"} and not _has_source(mapping, stream)
    ]
    if maps and config.get("batch_config"):
        lines.append(
            "The settings 'batch_config' and 'stream_maps' exclude each other: a BATCH "
            "file would hold the leads unmapped. Set only one"
        )
    return lines


def _has_source(mapping: t.Any, stream: str) -> bool:
    return isinstance(mapping, dict) and mapping.get("__source__") == stream


def find_idle_types(config: dict[str, t.Any]) -> list[str]:
    """Return a line where `custom_field_types` would never find a custom field."""
    line = (
        "The setting 'custom_field_types' needs 'include_custom_fields' to be true. To "
        "have the columns alone, deselect the property 'custom_fields'"
    )
    idle = config.get("custom_field_types") and not config["include_custom_fields"]
    return [line] if idle else []


def find_unknown(config: dict[str, t.Any], schema: Schema) -> list[str]:
    """Return a line for each top-level setting that does not exist."""
    known = list(schema["properties"])
    lines = []
    for name in sorted(set(config) - set(known)):
        similar = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean '{similar[0]}'?" if similar else ""
        lines.append(f"The setting '{name}' does not exist and is ignored{hint}")
    return lines


def read_environment(schema: Schema, prefix: str) -> tuple[dict[str, t.Any], list[str]]:
    """Read settings from the environment.

    The SDK's own reader ends in a traceback where a value cannot be parsed, reads
    `maybe` as false, and lets a `.env` beside the installation overrule the variables.

    Args:
        schema: The JSON schema of the settings.
        prefix: What the names of the variables begin with, such as `TAP_MEGA_`.

    Returns:
        The settings, and a line for each variable that cannot be read.
    """
    config: dict[str, t.Any] = {}
    errors = []
    for name, setting in schema["properties"].items():
        variable = f"{prefix}{name.upper()}"
        if variable in os.environ:
            kind = _kind(setting)
            try:
                config[name] = PARSERS[kind](os.environ[variable])
            except ValueError:
                errors.append(f"{variable} must be {REQUIREMENTS[kind]}")
    return config, errors


def _kind(schema: Schema) -> str:
    """Return the JSON type of a setting, apart from null."""
    types = schema.get("type", "object")
    kinds = [types] if isinstance(types, str) else types
    return next(kind for kind in kinds if kind != "null")


def _parse_boolean(value: str) -> bool:
    if value.lower() not in (*TRUTHY, *FALSY):
        raise ValueError
    return value.lower() in TRUTHY


def _parse_number(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


PARSERS: dict[str, t.Callable[[str], t.Any]] = {
    "array": json.loads,
    "boolean": _parse_boolean,
    "integer": int,
    "number": _parse_number,
    "object": json.loads,
    "string": str,
}


def _describe(error: ValidationError) -> str:
    schema = t.cast("Schema", error.schema)
    if error.validator == "required":
        name = error.message.split("'")[1]
        title = schema["properties"][name]["title"]
        return f"The setting '{name}' is missing: set it to the {title}"
    path = ".".join(map(str, error.path))
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = ", ".join(sorted(set(t.cast("Schema", error.instance)) - set(known)))
        return f"The setting '{path}' has no '{unknown}', only {', '.join(known)}"
    return f"The setting '{path}' must be {_requirement(error)}"


def _requirement(error: ValidationError) -> str:
    schema = t.cast("Schema", error.schema)
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if error.validator in {"format", "pattern"}:
        return REQUIREMENTS[str(error.validator_value)]
    if error.validator == "minLength":
        return "text that is not empty"
    if error.validator in {"anyOf", "oneOf"}:
        return "of the shape that `tap-mega --about --format=json` shows"
    return REQUIREMENTS[_kind(schema)] + _bounds(schema)


def _bounds(schema: Schema) -> str:
    words = {"exclusiveMinimum": "more than", "minimum": "at least"}
    bounds = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    if "maximum" in schema:
        bounds.append(f"at most {schema['maximum']}")
    return f" of {' and '.join(bounds)}" if bounds else ""
