"""The customers of the sandbox. Each has its own key and its own leads."""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t
import uuid

from sandbox.document import CUSTOMER_ID
from sandbox.leads import Leads

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TOKEN = "mega_" + "0123456789abcdef" * 4
TOKEN_WITHOUT_SCOPE = "mega_" + "fedcba9876543210" * 4
"""Another key of the first customer."""


@dataclasses.dataclass(frozen=True)
class Customer:
    """A customer with its key and its leads."""

    customer_id: str
    auth_token: str
    leads: Leads


def make_customers(
    lead_counts: Iterable[int], seed: int, clock: Callable[[], float]
) -> list[Customer]:
    """Return a customer for each number of leads."""
    first_id = uuid.UUID(CUSTOMER_ID).int
    customers = []
    for index, count in enumerate(lead_counts):
        id_ = str(uuid.UUID(int=first_id + index))
        secret = hashlib.sha256(id_.encode()).hexdigest()
        token = f"mega_{secret}" if index else TOKEN
        leads = Leads(count, f"{seed} {index}" if index else seed, clock, id_)
        customers.append(Customer(id_, token, leads))
    return customers


def find_customer(customers: Sequence[Customer], which: int | str) -> Customer:
    """Return the customer with this index or id. Raises ValueError if there is none."""
    for index, customer in enumerate(customers):
        if str(which).lower() in {str(index), customer.customer_id}:
            return customer
    msg = f"there is no customer {which!r}; use an id or 0 to {len(customers) - 1}"
    raise ValueError(msg)
