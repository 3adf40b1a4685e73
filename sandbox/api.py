"""The endpoint without the network: authentication, rate limits and the page."""

from __future__ import annotations

import typing as t

from sandbox.document import CUSTOMER_ID, InvalidRequestError, check_parameters
from sandbox.pages import parse_query
from sandbox.rate_limits import RateLimit
from sandbox.responses import Response, error_response

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults import Fault
    from sandbox.leads import Leads
    from sandbox.rate_limits import Limits

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

    def respond(
        self,
        parameters: t.Mapping[str, str],
        headers: t.Mapping[str, str],
        limits: Limits,
        fault: Fault,
    ) -> Response:
        """Return the response to a request. Header names are in lower case."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        rate_limit = (
            self._rate_limits.get(token) if scheme.lower() == "bearer" else None
        )
        if rate_limit is None:
            return error_response(401, "the token is missing or invalid")
        accepted, limit_headers = rate_limit.count_request(limits, self._clock())
        if not accepted:
            return error_response(429, "rate limit exceeded", limit_headers)
        denied = _check_access(token, headers.get("x-customer-id"), limit_headers)
        return denied or self._page(parameters, limit_headers, fault)

    def _page(
        self,
        parameters: t.Mapping[str, str],
        limit_headers: t.Mapping[str, str],
        fault: Fault,
    ) -> Response:
        try:
            query = parse_query(check_parameters(parameters))
            fault.check_query(query)
        except InvalidRequestError as error:
            return error_response(400, str(error), limit_headers)
        page = fault.change_page(self._leads.page(query), query)
        return Response(200, page.json(), limit_headers)


def _check_access(
    token: str, customer: str | None, limit_headers: t.Mapping[str, str]
) -> Response | None:
    """Return an error response, or None if the token may read this customer's leads."""
    if not customer:
        return error_response(401, "the header x-customer-id is missing", limit_headers)
    if token == TOKEN_WITHOUT_SCOPE:
        return error_response(403, f"the token lacks the scope {SCOPE}", limit_headers)
    if customer.lower() != CUSTOMER_ID:
        message = "the token is locked to another customer"
        return error_response(403, message, limit_headers)
    return None
