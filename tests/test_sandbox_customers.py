"""The sandbox can have many customers, each with its own key, leads and limits."""

from __future__ import annotations

import typing as t

import pytest

from sandbox import NO_LIMITS, Fault, Sandbox
from sandbox.document import CUSTOMER_ID
from tests.test_sandbox import get, ids, send

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.customers import Customer
    from testing.clock import FakeClock


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """A sandbox with three customers, who have 30, 5 and 0 leads."""
    with Sandbox(
        customers=3, leads=[30, 5, 0], limits=NO_LIMITS, clock=clock.time
    ) as sandbox:
        yield sandbox


def credentials(customer: Customer) -> dict[str, str]:
    """Return the headers of a customer's requests."""
    return {
        "Authorization": f"Bearer {customer.auth_token}",
        "x-customer-id": customer.customer_id,
    }


def statuses(sandbox: Sandbox, *customers: int) -> list[int]:
    """Send a request for each of these customers and return the statuses."""
    headers = [credentials(sandbox.customers[index]) for index in customers]
    return [send(sandbox, it).status_code for it in headers]


def test_customers_have_their_own_leads(api: Sandbox) -> None:
    """No lead of one customer is listed for another, even if they share an id."""
    for customer, count in zip(api.customers, (31, 6, 1), strict=True):
        customer.leads.add(1, id="shared")
        page = get(api, credentials(customer), limit=100).json()
        assert ids(page["leads"]) == ids(customer.leads.all())
        assert page["total"] == len(page["leads"]) == count
        assert {x["customer_id"] for x in page["leads"]} == {customer.customer_id}
    assert len({x["id"] for it in api.customers for x in it.leads.all()}) == 35 + 1


def test_the_first_customer_is_the_default_one(api: Sandbox) -> None:
    """It has the same credentials and leads as the only customer of a sandbox."""
    first = api.customers[0]
    assert (first.customer_id, first.auth_token) == (CUSTOMER_ID, Sandbox.token)
    assert api.customer_id == CUSTOMER_ID
    assert first.leads is api.leads


def test_customers_are_the_same_for_the_same_seed(clock: FakeClock) -> None:
    """Ids, keys, leads and their changes do not depend on the number of customers."""

    def make(customers: int, seed: int = 1) -> list[object]:
        with Sandbox(customers=customers, leads=3, seed=seed, clock=clock.time) as api:
            for it in api.customers:
                it.leads.change(2)
                it.leads.delete(1)
            return [(x.customer_id, x.auth_token, x.leads.all()) for x in api.customers]

    assert make(2) == make(4)[:2]
    assert make(2)[1] != make(2, seed=2)[1]


def test_requests_name_their_customer(api: Sandbox) -> None:
    """The token decides; without a valid one, the header does."""
    second, third = map(credentials, api.customers[1:])
    get(api, second)
    get(api, {**second, "x-customer-id": third["x-customer-id"]})
    get(api, {**second, "Authorization": "Bearer mega_wrong"})
    get(api, {"Authorization": None, "x-customer-id": "unknown"})
    id_ = api.customers[1].customer_id
    assert [x.customer for x in api.requests] == [id_, id_, id_, None]


@pytest.mark.parametrize("which", [1, "1", "00000000-0000-4000-8000-00000000CAFF"])
def test_a_fault_can_be_for_one_customer(api: Sandbox, which: int | str) -> None:
    """Only the requests of this customer count for it."""
    api.script(Fault("error", 2, customer=which, status=403), Fault("error", 6))
    expected = [200, 200, 200, 200, 403, 503, 200]
    assert statuses(api, 0, 0, 1, 0, 1, 1, 0) == expected


def test_leads_of_a_customer_can_be_changed_over_http(api: Sandbox) -> None:
    """The parameter `customer` is an index or an id. The default is the first."""
    for query in ({"customer": 1}, {"customer": api.customers[1].customer_id}, {}):
        assert send(api, method="POST", path="/sandbox/add", **query).ok
    assert [it.leads.count() for it in api.customers] == [31, 7, 0]


def test_an_unknown_customer_is_an_error(api: Sandbox) -> None:
    """The message names the valid indexes."""
    with pytest.raises(ValueError, match="no customer 3; use an id or 0 to 2"):
        api.script(Fault(customer=3))
    response = send(api, method="POST", path="/sandbox/change", customer="nobody")
    assert response.status_code == 400
    assert "no customer 'nobody'" in response.json()["error"]
