"""Answers as they are sent: a status, a body and headers."""

from __future__ import annotations

import dataclasses
import json
import typing as t

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "authorization_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the client gets."""

    status: int
    body: bytes
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = "application/json"


def refusal(
    status: int, message: str, headers: t.Mapping[str, str] | None = None
) -> Answer:
    """Return an error in the API's envelope."""
    kind = ERROR_TYPES.get(status, "api_error")
    error = {"type": kind, "code": status, "message": message}
    return Answer(status, json.dumps({"error": error}).encode(), headers or {})
