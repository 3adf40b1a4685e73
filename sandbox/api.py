"""The endpoint, without the network: who asks, whether they may, and what they get."""

from __future__ import annotations

import typing as t

from sandbox.answers import Answer, refusal
from sandbox.document import CUSTOMER_ID, InvalidRequestError, check_parameters
from sandbox.pages import question_of
from sandbox.quota import Quota

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults import Fault
    from sandbox.leads import Leads
    from sandbox.quota import Limits

TOKEN = "mega_" + "0123456789abcdef" * 4
TOKEN_WITHOUT_SCOPE = "mega_" + "fedcba9876543210" * 4
SCOPE = "public_api:leads:read"


class Api:
    """GET /api/agents/crm/leads."""

    def __init__(self, leads: Leads, clock: Callable[[], float]) -> None:
        """Answer from these leads; `clock` gives epoch seconds, for the quota."""
        self._leads = leads
        self._clock = clock
        self._quotas = {TOKEN: Quota(), TOKEN_WITHOUT_SCOPE: Quota()}

    def answer(
        self,
        query: t.Mapping[str, str],
        headers: t.Mapping[str, str],
        limits: Limits,
        fault: Fault,
    ) -> Answer:
        """Return the answer to a request; header names are in lower case."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        quota = self._quotas.get(token) if scheme.lower() == "bearer" else None
        if quota is None:
            return refusal(401, "the token is missing or invalid")
        accepted, standing = quota.spend(limits, self._clock())
        if not accepted:
            return refusal(429, "rate limit exceeded", standing)
        refused = _refused(token, headers.get("x-customer-id"), standing)
        return refused or self._page(query, standing, fault)

    def _page(
        self, query: t.Mapping[str, str], standing: t.Mapping[str, str], fault: Fault
    ) -> Answer:
        try:
            question = question_of(check_parameters(query))
            fault.check(question)
        except InvalidRequestError as error:
            return refusal(400, str(error), standing)
        page = fault.spoil(self._leads.page(question), question)
        return Answer(200, page.json(), standing)


def _refused(
    token: str, customer: str | None, standing: t.Mapping[str, str]
) -> Answer | None:
    """Return why this token may not read this customer's leads, or None if it may."""
    if not customer:
        return refusal(401, "the header x-customer-id is missing", standing)
    if token == TOKEN_WITHOUT_SCOPE:
        return refusal(403, f"the token lacks the scope {SCOPE}", standing)
    if customer.lower() != CUSTOMER_ID:
        return refusal(403, "the token is locked to another customer", standing)
    return None
