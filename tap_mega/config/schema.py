"""The settings of the tap, as a JSON schema. This module is data."""

from __future__ import annotations

import typing as t

from singer_sdk import typing as th

if t.TYPE_CHECKING:
    Schema: t.TypeAlias = dict[str, t.Any]

# In Python, `$` alone accepts a line feed at the end.
UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
TOKEN = rf"^(?!(mega_\.*|{UUID})$)[\x21-\x7e]+$(?!\n)"
"""Visible ASCII, but neither a placeholder nor a customer ID."""
TOKEN_TYPE = th.StringType(pattern=TOKEN)

PRINTABLE_ASCII = r"^[\x21-\x7e][\x20-\x7e]*$(?!\n)"

CREDENTIALS = ("auth_token", "customer_id")
"""Required, unless `customers` is set."""

MAX_SECONDS = 31_536_000
"""A year: the limit of settings that are seconds."""

MAX_DAYS = 3650
MAX_TRIES = 1000

FIELD_TYPES = ["string", "integer", "number", "boolean", "date", "date-time"]
"""The types that a column of a custom field can have."""


def _setting(
    name: str, kind: t.Any, description: str, *, title: str = "", **extra: t.Any
) -> th.Property[t.Any]:
    """Return a setting. Its title is its name in words, unless it has another one."""
    title = title or name.replace("_", " ").capitalize()
    return th.Property(name, kind, description=description, title=title, **extra)


SETTINGS: Schema = th.PropertiesList(
    _setting(
        "auth_token",
        TOKEN_TYPE,
        "The Personal Access Token that MEGA issued, `mega_…`. It needs the scope "
        "`public_api:leads:read`.",
        title="Personal Access Token",
        secret=True,
    ),
    _setting(
        "customer_id",
        th.UUIDType,
        "The UUID of the customer that the token is locked to.",
        title="Customer ID",
    ),
    _setting(
        "customers",
        th.ArrayType(
            th.ObjectType(
                th.Property("customer_id", th.UUIDType, required=True),
                th.Property("auth_token", TOKEN_TYPE, required=True, secret=True),
                additional_properties=False,
            ),
        ),
        "Many customers in one run, instead of `customer_id` and `auth_token`: a list "
        "of objects, each with these two.",
        secret=True,
    ),
    _setting(
        "start_date",
        th.DateTimeType,
        "The earliest `updated_at` to read: a date or a date-time, in UTC if it names "
        "no zone. If the bookmark is later, the sync starts there. By default, all "
        "leads are read.",
    ),
    _setting(
        "end_date",
        th.DateTimeType,
        "Read only leads with an `updated_at` before this date or date-time, which "
        "must be after `start_date`.",
    ),
    _setting(
        "include_custom_fields",
        th.BooleanType,
        "Whether to read `custom_fields`. To keep only the columns of "
        "`custom_field_types`, leave this true and deselect the property.",
        default=True,
    ),
    _setting(
        "custom_field_types",
        th.ObjectType(additional_properties=th.StringType(allowed_values=FIELD_TYPES)),
        "Custom fields that get a column of their own, `custom_field_SLUG`: an object "
        "of slugs, each with `string`, `integer`, `number`, `boolean`, `date` or "
        "`date-time`.",
    ),
    _setting(
        "exclude_custom_fields",
        th.ArrayType(th.StringType(min_length=1)),
        "Custom fields that are never sent, neither in `custom_fields` nor as "
        "columns: a list of slugs.",
    ),
    _setting(
        "filters",
        th.ObjectType(
            _setting(
                "status",
                th.StringType(min_length=1),
                "Only leads with this status, such as `active`, `won`, `lost`, "
                "`nurture` or `archived`.",
            ),
            _setting(
                "stage_id",
                th.UUIDType,
                "Only leads in the pipeline stage with this UUID.",
                title="Stage ID",
            ),
            _setting(
                "search",
                th.StringType(min_length=1),
                "Only leads whose name, e-mail or phone matches this text. A phone "
                "matches in any notation.",
            ),
            _setting(
                "created_since",
                th.DateTimeType,
                "Only leads created at or after this date or date-time.",
            ),
            _setting(
                "lead_line",
                th.StringType,
                "Only leads with this lead line: `buyer` or `seller`.",
                allowed_values=["buyer", "seller"],
            ),
            additional_properties=False,
        ),
        "Which leads to read. The API does the filtering. A sync starts over if the "
        "filters have changed since its bookmark was saved.",
    ),
    _setting(
        "lookback_seconds",
        th.IntegerType(minimum=0, maximum=MAX_SECONDS),
        "How many seconds before the bookmark a sync starts, to catch changes that "
        "the API stored late. With `emit_activate_version_messages`, at least 60.",
        title="Look-back",
        default=60,
    ),
    _setting(
        "page_size",
        th.IntegerType(minimum=1, maximum=100),
        "Leads per request. The API counts requests, so less than 100 is slower.",
        default=100,
    ),
    _setting(
        "requests_per_minute",
        th.IntegerType(minimum=0, maximum=1_000_000),
        "Maximum requests per minute. The default is the API's limit; 0 turns pacing "
        "off.",
        default=60,
    ),
    _setting(
        "requests_per_hour",
        th.IntegerType(minimum=0, maximum=1_000_000),
        "Maximum requests per hour. The default is the API's limit; 0 turns pacing "
        "off.",
        default=1000,
    ),
    _setting(
        "max_wait_seconds",
        th.IntegerType(minimum=0, maximum=MAX_SECONDS),
        "Maximum seconds of a single wait for quota. If a longer one is needed, the "
        "run stops, and the next run resumes there.",
        title="Longest wait",
        default=3900,
    ),
    _setting(
        "max_run_seconds",
        th.IntegerType(minimum=1, maximum=MAX_SECONDS),
        "Maximum seconds per run. The run stops before the next request, and the next "
        "run resumes there.",
        title="Longest run",
    ),
    _setting(
        "request_timeout",
        th.NumberType(exclusive_minimum=0, maximum=86400),
        "Maximum seconds per attempt, until the whole response has arrived.",
        default=60,
    ),
    _setting(
        "backoff_max_tries",
        th.IntegerType(minimum=1, maximum=MAX_TRIES),
        "Maximum attempts per request. Waiting for quota does not count.",
        title="Maximum tries",
        default=10,
    ),
    _setting(
        "api_url",
        th.URIType,
        "The URL of the API: an https URL, or an http URL of this machine, such as "
        "that of the sandbox.",
        title="API URL",
        default="https://app.gomega.ai",
    ),
    _setting(
        "user_agent",
        th.StringType(pattern=PRINTABLE_ASCII),
        "The User-Agent header of each request. The default is `tap-mega/` and the "
        "version.",
    ),
    _setting(
        "emit_activate_version_messages",
        th.BooleanType,
        "Whether to find leads that were deleted or merged in MEGA, and let the "
        "loader remove their rows. No other job may write into the table.",
        title="Emit ACTIVATE_VERSION",
        default=False,
    ),
    _setting(
        "full_refresh_min_age_days",
        th.IntegerType(minimum=0, maximum=MAX_DAYS),
        "With `emit_activate_version_messages`: after a full refresh has begun, the "
        "next one begins at least this many days later.",
        title="Shortest time between full refreshes",
        default=1,
    ),
    _setting(
        "full_refresh_max_age_days",
        th.IntegerType(minimum=1, maximum=MAX_DAYS),
        "With `emit_activate_version_messages`: after a full refresh has begun, the "
        "next one begins at most this many days later.",
        title="Longest time between full refreshes",
        default=7,
    ),
    _setting(
        "full_refresh_max_removed_percent",
        th.IntegerType(minimum=0, maximum=100),
        "If a full refresh would remove more than this share of a customer's rows, it "
        "removes none, and the run fails. This protects the table from a token that "
        "sees fewer leads.",
        title="Most rows that a full refresh removes",
        default=20,
    ),
    _setting(
        "include_lead_changes",
        th.BooleanType,
        "Whether to write a second stream, `lead_changes`: each version of a lead "
        "that was read, in a few columns.",
        default=False,
    ),
).to_dict()


def properties_of(name: str) -> dict[str, Schema]:
    """Return the properties of a setting that can be set one by one."""
    setting: Schema = SETTINGS["properties"].get(name, {})
    properties: dict[str, Schema] = setting.get("properties", {})
    return properties
