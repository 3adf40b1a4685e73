"""The endpoint without the network: rate limits, authentication and the page."""

from __future__ import annotations

import typing as t

from sandbox.document import CUSTOMER_ID, LEADS_PATH, check_parameters
from sandbox.pages import parse_query
from sandbox.rate_limits import RateLimit
from sandbox.responses import ApiError, Response, error_response

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults import Fault
    from sandbox.leads import Leads
    from sandbox.rate_limits import Limits
    from sandbox.received import Received

TOKEN = "mega_" + "0123456789abcdef" * 4
TOKEN_WITHOUT_SCOPE = "mega_" + "fedcba9876543210" * 4
SCOPE = "public_api:leads:read"


class Api:
    """GET /api/agents/crm/leads."""

    def __init__(self, leads: Leads, clock: Callable[[], float]) -> None:
        """Serve these leads. `clock` returns epoch seconds, for the rate limits."""
        self._leads = leads
        self._clock = clock
        self._rate_limits = {TOKEN: RateLimit(), TOKEN_WITHOUT_SCOPE: RateLimit()}
        # Every response of the vendor has rate-limit headers. Its limiter therefore
        # runs first and also counts requests without a valid key, most likely by the
        # address of the client. All clients of the sandbox have the same address.
        self._rate_limit_without_key = RateLimit()

    def respond(self, request: Received, limits: Limits, fault: Fault) -> Response:
        """Return the response to a request."""
        token = _bearer_token(request)
        rate_limit = self._rate_limits.get(token, self._rate_limit_without_key)
        accepted, headers = rate_limit.count_request(limits, self._clock())
        if not accepted:
            return error_response(429, "rate limit exceeded", headers)
        try:
            _check_endpoint(request)
            self._check_access(token, request.headers.get("x-customer-id", ""))
            page = self._page(request.query, fault)
        except ApiError as error:
            return error_response(error.status, str(error), headers | error.headers)
        return Response(200, page, headers)

    def _check_access(self, token: str, customer: str) -> None:
        if token not in self._rate_limits:
            raise ApiError(401, "the token is missing or invalid")
        if not customer:
            raise ApiError(401, "the header x-customer-id is missing")
        if token == TOKEN_WITHOUT_SCOPE:
            raise ApiError(403, f"the token lacks the scope {SCOPE}")
        if customer.lower() != CUSTOMER_ID:
            raise ApiError(403, "the token is locked to another customer")

    def _page(self, parameters: t.Mapping[str, str], fault: Fault) -> bytes:
        query = parse_query(check_parameters(parameters))
        fault.check_query(query)
        return fault.change_page(self._leads.page(query), query).json()


def _bearer_token(request: Received) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _check_endpoint(request: Received) -> None:
    if request.path != LEADS_PATH:
        raise ApiError(404, f"the only endpoint is GET {LEADS_PATH}")
    if request.method != "GET":
        raise ApiError(405, f"{LEADS_PATH} only allows GET", Allow="GET")
