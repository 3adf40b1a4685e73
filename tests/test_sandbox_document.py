"""The sandbox conforms to the vendor's document, whatever the request."""

from __future__ import annotations

import base64
import json
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sandbox import Limits, Sandbox
from tests.test_sandbox import LIST_LEADS

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import Case as AnyCase
    from schemathesis import Response

    Case: t.TypeAlias = AnyCase[t.Any]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "authorization_error",
    429: "rate_limit_error",
}
TOKENS = [
    *(f"Bearer {Sandbox.token}", f"Bearer {Sandbox.token_without_scope}"),
    *(f"Basic {Sandbox.token}", "Bearer mega_wrong", "Bearer ", "", None),
]
some_cases = settings(max_examples=100, deadline=None, derandomize=True)
json_values: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["updated_at", "asc", ""]),
    lambda it: st.lists(it, max_size=6) | st.dictionaries(st.text(), it, max_size=2),
)


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    """A sandbox with 60 leads that accepts all requests."""
    with Sandbox(leads=60, limits=Limits(10**9, 0)) as sandbox:
        yield sandbox


def cases(mode: GenerationMode) -> st.SearchStrategy[Case]:
    """Return a strategy for requests that the document allows, or does not."""
    return LIST_LEADS.as_strategy(generation_mode=mode)


def send(case: Case, sandbox: Sandbox, token: str | None) -> Response:
    """Send a request and check the response against the document."""
    case.headers["Authorization"] = token
    response = case.call(base_url=sandbox.url, timeout=10)
    case.validate_response(response, checks=CHECKS)
    # The document lists the headers for 200 and 429; the vendor's page on rate limits
    # says that every response has them.
    names = {f"ratelimit-{name}" for name in ("limit", "remaining", "reset")}
    assert names <= response.headers.keys()
    assert ("retry-after" in response.headers) == (response.status_code == 429)
    if response.status_code != 200:
        error = response.json()["error"]
        assert error["type"] == ERROR_TYPES[response.status_code]
        assert error["code"] == response.status_code
    return response


@some_cases
@given(case=cases(GenerationMode.POSITIVE))
def test_valid_requests_get_a_page(api: Sandbox, case: Case) -> None:
    """A request that the document allows gets 200 and the documented page."""
    case.query.pop("cursor", None)
    case.query["offset"] = min(case.query.get("offset", 0), 10**18 - 1)
    case.headers["x-customer-id"] = api.customer_id
    response = send(case, api, TOKENS[0])
    assert response.status_code == 200


@some_cases
@given(case=cases(GenerationMode.NEGATIVE))
def test_invalid_requests_get_a_documented_response(api: Sandbox, case: Case) -> None:
    """A request that the document does not allow gets the error envelope."""
    send(case, api, TOKENS[0])


@some_cases
@given(value=json_values, others=st.lists(json_values, max_size=5))
def test_any_json_in_a_cursor_gets_400(
    api: Sandbox, value: object, others: list[object]
) -> None:
    """Only a cursor that the sandbox issued works."""
    for decoded in (value, ["updated_at", "asc", *others]):
        text = base64.urlsafe_b64encode(json.dumps(decoded).encode()).decode()
        case = LIST_LEADS.Case(query={"cursor": text.rstrip("=")[:7000]})
        case.headers["x-customer-id"] = api.customer_id
        assert send(case, api, TOKENS[0]).status_code == 400


@some_cases
@given(
    case=cases(GenerationMode.POSITIVE),
    token=st.sampled_from(TOKENS),
    is_customer=st.booleans(),
)
def test_any_credentials_get_a_documented_response(
    api: Sandbox, case: Case, token: str | None, *, is_customer: bool
) -> None:
    """Without valid credentials the status is 401 or 403."""
    if is_customer:
        case.headers["x-customer-id"] = api.customer_id
    status = send(case, api, token).status_code
    assert (status in {401, 403}) == (token != TOKENS[0] or not is_customer)


@some_cases
@given(case=cases(GenerationMode.POSITIVE), token=st.sampled_from(TOKENS))
def test_rate_limits_give_a_documented_response(case: Case, token: str | None) -> None:
    """Once the limit is reached, every request gets 429."""
    with Sandbox(leads=1, limits=Limits(1, 0)) as sandbox:
        send(case, sandbox, token)
        assert send(case, sandbox, token).status_code == 429
