"""Describe network errors in plain words."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import typing as t

import urllib3
from singer_sdk.exceptions import FatalAPIError
from urllib3 import exceptions

from tap_mega.shared.errors import TemporaryError

if t.TYPE_CHECKING:
    Kinds: t.TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

PROXY = "the proxy in HTTPS_PROXY"

WORDS: tuple[tuple[Kinds, str], ...] = (
    (socket.gaierror, "the host name of {who} cannot be resolved{detail}"),
    (ConnectionRefusedError, "{who} refused the connection"),
    (ssl.SSLError, "the TLS connection to {who} failed{detail}"),
    (
        http.client.RemoteDisconnected,
        "{who} closed the connection without a response",
    ),
    (ConnectionError, "{who} reset the connection"),
    (exceptions.NewConnectionError, "{who} cannot be reached{detail}"),
    (
        (TimeoutError, exceptions.TimeoutError),
        "{who} did not accept the connection in time",
    ),
    (http.client.IncompleteRead, "the response was cut off"),
    (exceptions.DecodeError, "the response could not be decompressed"),
    (
        (http.client.HTTPException, exceptions.InvalidHeader),
        "the response was not valid HTTP",
    ),
    (OSError, "the connection to {who} failed{detail}"),
    (Exception, "the response was not valid HTTP"),
)
"""The first line that fits an error, or one of its causes, says what happened."""

TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")


def timed_out(seconds: float) -> TemporaryError:
    """Return the error of a request that exceeded its time."""
    return TemporaryError(f"no complete response within {seconds:g} s")


def not_sendable(error: Exception) -> FatalAPIError:
    """Return the error if the URL or the proxy cannot be used."""
    msg = (
        f"The request cannot be sent ({type(error).__name__}). Check the setting "
        "'api_url', and the proxy settings of the environment"
    )
    return FatalAPIError(msg)


def explain(error: Exception, url: str) -> Exception:
    """Return the error to raise instead of a network error.

    It does not quote the original text, which holds the query, and so the text of
    `filters.search`.

    Args:
        error: What a request to `url` raised.
        url: The URL of the request.
    """
    chain = _chain(error)
    proxied = any(isinstance(it, exceptions.ProxyError) for it in chain)
    who = PROXY if proxied else _host(url)
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(who, cause)
    return TemporaryError(_describe(chain, who))


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, the first cause last."""
    chain = [error]
    for it in chain:
        causes = (it.__cause__, it.__context__)
        chain += [cause for cause in causes if cause and cause not in chain]
    return chain


def _untrusted(who: str, error: ssl.SSLCertVerificationError) -> FatalAPIError:
    msg = (
        f"The certificate of {who} is not trusted: {error.verify_message}. If a "
        "certificate authority of your own issued it, set the environment variable "
        "REQUESTS_CA_BUNDLE to a file with the authority's certificate"
    )
    return FatalAPIError(msg)


def _describe(chain: list[BaseException], who: str) -> str:
    details = [detail for it in chain if (detail := _detail(it))]
    detail = f" ({details[-1]})" if details else ""
    return next(
        words.format(who=who, detail=detail)
        for kinds, words in WORDS
        if any(isinstance(it, kinds) for it in chain)
    )


def _detail(error: BaseException) -> str:
    """Return what the system says about an error, or an empty text."""
    if tunnel := TUNNEL_STATUS.search(str(error)):
        return f"status {tunnel[1]}"
    if isinstance(error, ssl.SSLError):
        return error.reason or ""
    return (isinstance(error, OSError) and error.strerror) or ""


def _host(url: str) -> str:
    parts = urllib3.util.parse_url(url)
    return f"{parts.scheme}://{parts.netloc}"
