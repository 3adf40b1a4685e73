"""Faults that replace the API's response."""

from __future__ import annotations

import typing as t

from sandbox.responses import Response, error_response

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults.fault import Fault

HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>proxy</body></html>"


def faulty_response(fault: Fault) -> Response:
    """Return the response that a fault sends instead of the API's."""
    return _RESPONSES[fault.kind](fault, fault.option("status"))


def _error(fault: Fault, status: int) -> Response:
    return error_response(status, "scripted by the sandbox", _retry_after(fault))


def _html(fault: Fault, status: int) -> Response:
    body = HTML.format(status).encode()
    return Response(status, body, _retry_after(fault), "text/html")


def _redirect(fault: Fault, status: int) -> Response:
    return Response(status, b"", {"Location": fault.location})


def _body(fault: Fault, status: int) -> Response:
    body = fault.body.encode(errors="surrogateescape")
    return Response(status, body, _retry_after(fault))


def _retry_after(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}


_RESPONSES: dict[str, Callable[[Fault, int], Response]] = {
    "error": _error,
    "html": _html,
    "redirect": _redirect,
    "body": _body,
}
