"""A plain SDK tap: `plain_tap.py --config CONFIG`.

It is written as https://sdk.meltano.com/en/latest/dev_guide.html teaches, and keeps the
SDK's defaults.
"""

from __future__ import annotations

import typing as t

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.pagination import JSONPathPaginator
from singer_sdk.schema.source import OpenAPISchema, StreamSchema
from typing_extensions import override

from tap_mega.openapi import FILE

if t.TYPE_CHECKING:
    from singer_sdk.helpers.types import Context


class LeadsStream(RESTStream[str]):
    """The stream of leads."""

    name = "leads"
    path = "/api/agents/crm/leads"
    primary_keys = ("id",)
    replication_key = "updated_at"
    is_sorted = True
    records_jsonpath = "$.leads[*]"
    schema: t.ClassVar[StreamSchema[str]] = StreamSchema(
        OpenAPISchema(FILE), key="Lead"
    )

    @property
    @override
    def url_base(self) -> str:
        """The base URL, from the setting `api_url`."""
        return str(self.config["api_url"])

    @property
    @override
    def authenticator(self) -> BearerTokenAuthenticator:
        """The authenticator with the token."""
        return BearerTokenAuthenticator(token=self.config["auth_token"])

    @property
    @override
    def http_headers(self) -> dict[str, str]:
        """The header with the customer."""
        return {"x-customer-id": self.config["customer_id"]}

    @override
    def get_new_paginator(self) -> JSONPathPaginator:
        """Return a paginator that follows the cursor."""
        return JSONPathPaginator("$.next_cursor")

    @override
    def get_url_params(
        self, context: Context | None, next_page_token: str | None
    ) -> dict[str, t.Any]:
        """Return the query parameters."""
        params: dict[str, t.Any] = {
            "sort_by": "updated_at",
            "sort_dir": "asc",
            "limit": 100,
            "include_custom_fields": "true",
        }
        if since := self.get_starting_timestamp(context):
            params["updated_since"] = since.isoformat()
        if next_page_token:
            params["cursor"] = next_page_token
        return params


class PlainTap(Tap):
    """The tap."""

    name = "tap-plain"
    config_jsonschema = th.PropertiesList(
        th.Property("auth_token", th.StringType, required=True, secret=True),
        th.Property("customer_id", th.StringType, required=True),
        th.Property("api_url", th.StringType, required=True),
    ).to_dict()

    @override
    def discover_streams(self) -> list[LeadsStream]:
        """Return the only stream."""
        return [LeadsStream(self)]


if __name__ == "__main__":
    PlainTap.cli()
