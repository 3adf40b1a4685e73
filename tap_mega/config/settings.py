"""The settings of a sync: typed, immutable, parsed once."""

from __future__ import annotations

import datetime as dt
import math
import typing as t
from urllib.parse import urlsplit, urlunsplit

from tap_mega.shared.timestamps import format_timestamp, parse_timestamp

if t.TYPE_CHECKING:
    from collections.abc import Mapping

PARAMETERS = {"stage_id": "stageId"}
"""Filters whose parameter has another name than the setting."""

TIMESTAMP_FILTERS = ("created_since",)


class Customer(t.NamedTuple):
    """A customer of the API, and the token that is locked to it."""

    customer_id: str
    auth_token: str


class Settings(t.NamedTuple):
    """The settings as typed values, with the defaults filled in."""

    customers: tuple[Customer, ...]
    has_many: bool
    """Whether the setting `customers` is used, even if it names only one."""
    api_url: str
    """Without a slash at its end; scheme and host in lower case."""
    start_date: dt.datetime | None
    end_date: dt.datetime | None
    filters: Mapping[str, str]
    """The parameters of the query, as they are sent."""
    lookback: dt.timedelta
    page_size: int
    requests_per_minute: int
    requests_per_hour: int
    max_wait_seconds: float
    request_timeout: float
    backoff_max_tries: int
    finds_deleted: bool
    """The setting `emit_activate_version_messages`."""
    full_refresh_min_age: dt.timedelta
    full_refresh_max_age: dt.timedelta
    full_refresh_max_removed_percent: int
    partial: tuple[str, ...]
    """The names of the settings that keep a sync from reading all leads."""
    max_run_seconds: float = math.inf

    @classmethod
    def parse(cls, config: Mapping[str, t.Any]) -> Settings:
        """Return the settings of a configuration that is valid."""
        customers = config.get("customers") or [config]
        start, end = config.get("start_date"), config.get("end_date")
        filters = config.get("filters", {})
        partial = [name for name in ("start_date", "end_date") if config.get(name)]
        as_given = {name: config[name] for name in cls._fields if name in config}
        return cls(
            **{
                **as_given,
                "customers": tuple(
                    Customer(it["customer_id"].lower(), it["auth_token"])
                    for it in customers
                ),
                "has_many": "customers" in config,
                "api_url": canonical_url(config["api_url"]),
                "start_date": parse_timestamp(start) if start else None,
                "end_date": parse_timestamp(end) if end else None,
                "filters": filter_parameters(filters),
                "lookback": dt.timedelta(seconds=config["lookback_seconds"]),
                "finds_deleted": config["emit_activate_version_messages"],
                "full_refresh_min_age": dt.timedelta(
                    days=config["full_refresh_min_age_days"]
                ),
                "full_refresh_max_age": dt.timedelta(
                    days=config["full_refresh_max_age_days"]
                ),
                "partial": (*partial, *(f"filters.{name}" for name in filters)),
            }
        )


def canonical_url(url: str) -> str:
    """Return a URL in the one spelling by which a state knows it."""
    scheme, host, path, *_ = urlsplit(url)
    return urlunsplit((scheme, host.lower(), path.rstrip("/"), "", ""))


def filter_parameters(filters: Mapping[str, str]) -> dict[str, str]:
    """Return the setting `filters` as parameters of the query."""
    params = {PARAMETERS.get(name, name): it for name, it in filters.items()}
    if "stageId" in params:
        params["stageId"] = params["stageId"].lower()
    for name in TIMESTAMP_FILTERS:
        if value := params.get(name):
            params[name] = format_timestamp(parse_timestamp(value))
    return params
