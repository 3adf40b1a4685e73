"""HTTP responses: status, body and headers."""

from __future__ import annotations

import dataclasses
import gzip
import json
from email.utils import formatdate

GZIP_LEVEL = 1
MIN_GZIP_BYTES = 1000
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "authorization_error",
    404: "not_found_error",
    405: "invalid_request_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An error that the API answers with a status and a message."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        """Set the status, the message and additional headers of the response."""
        super().__init__(message)
        self.status = status
        self.headers = headers


class InvalidRequestError(ApiError):
    """An invalid request, which the API answers with 400."""

    def __init__(self, message: str) -> None:
        """Set the message."""
        super().__init__(400, message)


@dataclasses.dataclass(frozen=True)
class Response:
    """The response that the client gets."""

    status: int
    body: bytes
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = "application/json"

    def encode(self, date: float, accept_encoding: str) -> Response:
        """Return the response with all headers, compressed if the client accepts it."""
        headers = {
            **self.headers,
            "Date": formatdate(date, usegmt=True),
            "Content-Type": f"{self.content_type}; charset=utf-8",
        }
        if len(self.body) < MIN_GZIP_BYTES or not accepts_gzip(accept_encoding):
            return dataclasses.replace(self, headers=headers)
        body = gzip.compress(self.body, GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
        return dataclasses.replace(self, body=body, headers=headers)


def error_response(
    status: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error in the API's envelope."""
    error_type = ERROR_TYPES.get(status, "api_error")
    error = {"type": error_type, "code": status, "message": message}
    return Response(status, json.dumps({"error": error}).encode(), headers or {})


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip."""
    qualities = {}
    for item in accept_encoding.lower().split(","):
        coding, _, quality = item.partition(";")
        qualities[coding.strip()] = quality.replace(" ", "").removeprefix("q=") or "1"
    accepted = qualities.get("gzip", qualities.get("*", "0"))
    # A quality of zero can have up to three decimals.
    return accepted.strip("0.") != ""
