"""The customers of the settings, and their keys."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Mapping


class Customer(t.NamedTuple):
    """A customer of the API, and the key that is locked to it."""

    customer_id: str
    auth_token: str


def customers_of(config: Mapping[str, t.Any]) -> list[Customer]:
    """Return the customers of the settings: one, or those of `customers`."""
    pairs = config.get("customers") or [config]
    return [Customer(it["customer_id"], it["auth_token"]) for it in pairs]
