"""The endpoint without the network: rate limits, authentication and the page."""

from __future__ import annotations

import typing as t

from sandbox.customers import TOKEN_WITHOUT_SCOPE, Customer
from sandbox.document import LEADS_PATH, check_parameters
from sandbox.faulty_pages import Listing, faulty_page
from sandbox.pages import parse_query
from sandbox.rate_limits import RateLimit
from sandbox.responses import ApiError, Response, error_response

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.faults import Fault
    from sandbox.rate_limits import Limits
    from sandbox.request_log import Received

SCOPE = "public_api:leads:read"


class _Key(t.NamedTuple):
    customer: Customer
    rate_limit: RateLimit
    has_scope: bool = True


class Api:
    """GET /api/agents/crm/leads."""

    def __init__(
        self, customers: Sequence[Customer], clock: Callable[[], float]
    ) -> None:
        """Serve these customers. `clock` returns epoch seconds, for the rate limits."""
        self._clock = clock
        self._ids = {customer.customer_id for customer in customers}
        self._keys = {
            customer.auth_token: _Key(customer, RateLimit()) for customer in customers
        }
        self._keys[TOKEN_WITHOUT_SCOPE] = _Key(
            customers[0], RateLimit(), has_scope=False
        )
        # Every response of the vendor has rate-limit headers. Its limiter therefore
        # runs first and also counts requests without a valid key, most likely by the
        # address of the client. All clients of the sandbox have the same address.
        self._rate_limit_without_key = RateLimit()

    def find_customer(self, headers: t.Mapping[str, str]) -> str | None:
        """Return the id of the customer that sends these headers."""
        if key := self._keys.get(_bearer_token(headers)):
            return key.customer.customer_id
        id_ = headers.get("x-customer-id", "").lower()
        return id_ if id_ in self._ids else None

    def respond(
        self, request: Received, limits: Limits, fault: Fault, number: int
    ) -> Response:
        """Return the response to a request. `number` is its number in the script."""
        key = self._keys.get(_bearer_token(request.headers))
        rate_limit = key.rate_limit if key else self._rate_limit_without_key
        accepted, headers = rate_limit.count_request(limits, self._clock())
        if not accepted:
            return error_response(429, "rate limit exceeded", headers)
        try:
            _check_endpoint(request)
            customer = _check_access(key, request.headers.get("x-customer-id", ""))
            query = parse_query(check_parameters(request.query))
            page = faulty_page(Listing(customer.leads, query, fault, number)).json()
        except ApiError as error:
            return error_response(error.status, str(error), headers | error.headers)
        return Response(200, page, headers)


def _bearer_token(headers: t.Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _check_endpoint(request: Received) -> None:
    if request.path != LEADS_PATH:
        raise ApiError(404, f"the only endpoint is GET {LEADS_PATH}")
    if request.method != "GET":
        raise ApiError(405, f"{LEADS_PATH} only allows GET", Allow="GET")


def _check_access(key: _Key | None, customer_id: str) -> Customer:
    if key is None:
        raise ApiError(401, "the token is missing or invalid")
    if not customer_id:
        raise ApiError(401, "the header x-customer-id is missing")
    if not key.has_scope:
        raise ApiError(403, f"the token lacks the scope {SCOPE}")
    if customer_id.lower() != key.customer.customer_id:
        raise ApiError(403, "the token is locked to another customer")
    return key.customer
