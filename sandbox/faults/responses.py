"""Faults that replace the API's response."""

from __future__ import annotations

import http
import typing as t

from sandbox.faults.quotes import quote
from sandbox.pages import Page
from sandbox.responses import Response, error_response

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults.fault import Fault
    from sandbox.leads import Leads
    from sandbox.received import Received

MESSAGE = "scripted by the sandbox"
HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>proxy</body></html>"


def faulty_response(fault: Fault, request: Received, leads: Leads) -> Response:
    """Return the response that a fault sends instead of the API's."""
    status = fault.option("status")
    if fault.kind == "quote":
        return error_response(status, quote(fault.option("quotes"), request, leads))
    return _RESPONSES[fault.kind](fault, status)


def _error(fault: Fault, status: int) -> Response:
    return error_response(status, MESSAGE, _retry_after(fault))


def _html(fault: Fault, status: int) -> Response:
    body = HTML.format(status).encode()
    return Response(status, body, _retry_after(fault), "text/html")


def _redirect(fault: Fault, status: int) -> Response:
    return Response(status, b"", {"Location": fault.location})


def _body(fault: Fault, status: int) -> Response:
    body = fault.body.encode(errors="surrogateescape")
    return Response(status, body, _retry_after(fault))


def _bomb(_fault: Fault, status: int) -> Response:
    if status == http.HTTPStatus.OK:
        return Response(status, Page([], 0, 20, 0, None).json())
    return error_response(status, MESSAGE)


def _retry_after(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}


_RESPONSES: dict[str, Callable[[Fault, int], Response]] = {
    "error": _error,
    "html": _html,
    "redirect": _redirect,
    "body": _body,
    "bomb": _bomb,
}
