"""The errors of requests and settings."""

from __future__ import annotations

import types
import typing as t

from singer_sdk.exceptions import (
    ConfigValidationError,
    FatalAPIError,
    RetriableAPIError,
)

if t.TYPE_CHECKING:
    from collections.abc import Mapping


class RequestError(Exception):
    """A request failed. It keeps the headers and the time of the response, if any."""

    headers: Mapping[str, str] = types.MappingProxyType({})
    """Those of the response; empty if there was none."""
    arrived_at: float | None = None
    """When the response arrived, in monotonic seconds; None if there was none."""


class TemporaryError(RequestError, RetriableAPIError):
    """A request failed that may succeed later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """Keep the seconds that the API asks to wait; None if it does not say."""
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitedError(TemporaryError):
    """The API answered 429: the token has no quota left at present."""


class TooLargeError(TemporaryError):
    """A response was larger than the limit: a smaller page may not be."""


class RefusedError(RequestError, FatalAPIError):
    """The API refused a request, and would refuse it again."""


class BadRequestError(RefusedError):
    """The API answered 400: it does not accept the request as it is."""


def config_error(*lines: str) -> ConfigValidationError:
    """Return the error that the command logs as these lines, and no others."""
    return ConfigValidationError(lines[0], errors=list(lines))
