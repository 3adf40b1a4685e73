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

PRINTABLE_ASCII = r"^[\x21-\x7e][\x20-\x7e]*$(?!\n)"

CREDENTIALS = ("auth_token", "customer_id")
"""Required, unless `customers` is set."""

MAX_SECONDS = 31_536_000
"""A year: the limit of settings that are seconds."""

MAX_DAYS = 3650
MAX_TRIES = 1000

FIELD_TYPES = ["string", "integer", "number", "boolean", "date", "date-time"]
"""The types that a column of a custom field can have."""

SETTINGS: Schema = th.PropertiesList(
    th.Property(
        "auth_token",
        th.StringType(pattern=TOKEN),
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
        title="Customer ID",
        description="The UUID of the customer that the token is locked to.",
    ),
    th.Property(
        "customers",
        th.ArrayType(
            th.ObjectType(
                th.Property("customer_id", th.UUIDType, required=True),
                th.Property(
                    "auth_token",
                    th.StringType(pattern=TOKEN),
                    required=True,
                    secret=True,
                ),
                additional_properties=False,
            ),
        ),
        secret=True,
        title="Customers",
        description=(
            "Many customers in one run, instead of `customer_id` and `auth_token`: a "
            "list of objects, each with these two."
        ),
    ),
    th.Property(
        "start_date",
        th.DateTimeType,
        title="Start date",
        description=(
            "The earliest `updated_at` to read when there is no bookmark: a date or a "
            "date-time, in UTC if it names no zone. By default, all leads are read."
        ),
    ),
    th.Property(
        "end_date",
        th.DateTimeType,
        title="End date",
        description=(
            "Read only leads with an `updated_at` before this date or date-time, which "
            "must be after `start_date`."
        ),
    ),
    th.Property(
        "include_custom_fields",
        th.BooleanType,
        default=True,
        title="Include custom fields",
        description=(
            "Whether to read `custom_fields`. To keep only the columns of "
            "`custom_field_types`, leave this true and deselect the property."
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
        "exclude_custom_fields",
        th.ArrayType(th.StringType(min_length=1)),
        title="Exclude custom fields",
        description=(
            "Custom fields that are never sent, neither in `custom_fields` nor as "
            "columns: a list of slugs."
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
                    "Only leads with this status, such as `active`, `won`, `lost`, "
                    "`nurture` or `archived`."
                ),
            ),
            th.Property(
                "stage_id",
                th.UUIDType,
                title="Stage ID",
                description="Only leads in the pipeline stage with this UUID.",
            ),
            th.Property(
                "search",
                th.StringType(min_length=1),
                title="Search",
                description=(
                    "Only leads whose name, e-mail or phone matches this text. A "
                    "phone matches in any notation."
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
                description="Only leads with this lead line: `buyer` or `seller`.",
            ),
            additional_properties=False,
        ),
        title="Filters",
        description=(
            "Which leads to read. The API does the filtering. A sync starts over if "
            "the filters have changed since its bookmark was saved."
        ),
    ),
    th.Property(
        "lookback_seconds",
        th.IntegerType(minimum=0, maximum=MAX_SECONDS),
        default=60,
        title="Look-back",
        description=(
            "How many seconds before the bookmark a sync starts, to catch changes "
            "that the API stored late."
        ),
    ),
    th.Property(
        "page_size",
        th.IntegerType(minimum=1, maximum=100),
        default=100,
        title="Page size",
        description=(
            "Leads per request. The API counts requests, so less than 100 is slower."
        ),
    ),
    th.Property(
        "requests_per_minute",
        th.IntegerType(minimum=0, maximum=1_000_000),
        default=60,
        title="Requests per minute",
        description=(
            "Maximum requests per minute. The default is the API's limit; 0 turns "
            "pacing off."
        ),
    ),
    th.Property(
        "requests_per_hour",
        th.IntegerType(minimum=0, maximum=1_000_000),
        default=1000,
        title="Requests per hour",
        description=(
            "Maximum requests per hour. The default is the API's limit; 0 turns "
            "pacing off."
        ),
    ),
    th.Property(
        "max_wait_seconds",
        th.IntegerType(minimum=0, maximum=MAX_SECONDS),
        default=3900,
        title="Longest wait",
        description=(
            "Maximum seconds of a single wait for quota. If a longer one is needed, "
            "the run stops, and the next run resumes there."
        ),
    ),
    th.Property(
        "max_run_seconds",
        th.IntegerType(minimum=1, maximum=MAX_SECONDS),
        title="Longest run",
        description=(
            "Maximum seconds per run. The run stops before the next request, and the "
            "next run resumes there."
        ),
    ),
    th.Property(
        "request_timeout",
        th.NumberType(exclusive_minimum=0, maximum=86400),
        default=60,
        title="Request timeout",
        description="Maximum seconds per attempt, until the whole response is there.",
    ),
    th.Property(
        "backoff_max_tries",
        th.IntegerType(minimum=1, maximum=MAX_TRIES),
        default=10,
        title="Maximum tries",
        description=("Maximum attempts per request. Waiting for quota does not count."),
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
            "The User-Agent header of each request. The default is `tap-mega/` and the "
            "version."
        ),
    ),
    th.Property(
        "emit_activate_version_messages",
        th.BooleanType,
        default=False,
        title="Emit ACTIVATE_VERSION",
        description=(
            "Whether to find leads that were deleted or merged in MEGA, and let the "
            "loader remove their rows. No other job may write into the table."
        ),
    ),
    th.Property(
        "full_refresh_min_age_days",
        th.IntegerType(minimum=0, maximum=MAX_DAYS),
        default=1,
        title="Shortest time between full refreshes",
        description=(
            "With `emit_activate_version_messages`: after a full refresh has begun, "
            "the next one begins at least this many days later."
        ),
    ),
    th.Property(
        "full_refresh_max_age_days",
        th.IntegerType(minimum=1, maximum=MAX_DAYS),
        default=7,
        title="Longest time between full refreshes",
        description=(
            "With `emit_activate_version_messages`: after a full refresh has begun, "
            "the next one begins at most this many days later."
        ),
    ),
    th.Property(
        "full_refresh_max_removed_percent",
        th.IntegerType(minimum=0, maximum=100),
        default=20,
        title="Most rows that a full refresh removes",
        description=(
            "If a full refresh would remove more than this share of the rows, it "
            "removes none, and the run fails. This protects the table from a token "
            "that sees fewer leads."
        ),
    ),
    th.Property(
        "include_lead_changes",
        th.BooleanType,
        default=False,
        title="Include lead changes",
        description=(
            "Whether there is a second stream, `lead_changes`: each version of a lead "
            "that was read, in a few columns."
        ),
    ),
).to_dict()


def properties_of(name: str) -> dict[str, Schema]:
    """Return the properties of a setting that can be set one by one."""
    setting: Schema = SETTINGS["properties"].get(name, {})
    properties: dict[str, Schema] = setting.get("properties", {})
    return properties
