"""HTTP exchanges: many at a time, each in bounded time and of bounded size."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import socket
import ssl
import threading
import time
import typing as t
import weakref
from http import HTTPStatus
from pathlib import Path

import urllib3
from requests.utils import (
    DEFAULT_CA_BUNDLE_PATH,
    get_auth_from_url,
    get_environ_proxies,
    select_proxy,
)
from singer_sdk.exceptions import FatalAPIError
from typing_extensions import override
from urllib3.connection import HTTPConnection, HTTPSConnection

from tap_mega.api.network_errors import explain, not_sendable, timed_out
from tap_mega.config.validation import is_loopback
from tap_mega.shared.errors import TemporaryError, TooLargeError, config_error

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    Read: t.TypeAlias = Callable[["Response"], t.Any]
    Put: t.TypeAlias = Callable[[t.Any], object]

KIB, MIB = 1024, 1024**2
MAX_BODY_BYTES = 64 * MIB
"""A page of 100 leads takes about 100 KB."""
MAX_ERROR_BODY_BYTES = 64 * KIB
CHUNK_BYTES = 64 * KIB

CONNECT_SHARE = 0.5
"""The share of the time for one address of a host: another one may answer."""

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The variables that the library requests reads, in its order."""


class Response(t.NamedTuple):
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    """Decompressed; empty if it is the body of an error that is too large."""


class Transport:
    """Sends requests, each on a thread and a connection of its own.

    A connection is kept for a later request if its response was good. No other one is
    used again, because its late response could be taken for that of another request.
    """

    def __init__(self, url: str, timeout: float) -> None:
        """Start without a connection.

        Args:
            url: The URL of the API.
            timeout: Seconds that a request may take in all.

        Raises:
            ConfigValidationError: If the environment names certificates that are
                missing.
        """
        self._url, self._timeout, self._tls = url, timeout, _tls_context(url)
        self._idle: list[_Line] = []

    def start(
        self, request: requests.PreparedRequest, read: Read, put: Put
    ) -> Exchange:
        """Send a request, and return at once.

        Args:
            request: The request.
            read: Makes the result from the response. An error that it raises is also a
                result, and ends the connection.
            put: Takes the result. Both are called on the thread of the request.
        """
        try:
            line = self._idle.pop()
        except IndexError:
            line = _Line(self._new_pool)
        exchange = Exchange(line, self._idle, put)
        threading.Thread(
            target=exchange.run,
            args=(request, read, self._timeout),
            name="request",
            daemon=True,
        ).start()
        return exchange

    def close(self) -> None:
        """Close the connections that no request uses."""
        while self._idle:
            self._idle.pop().close()

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        """Return a pool of connections to the API, by the environment's proxy.

        Raises:
            FatalAPIError: If the proxy cannot be used.
        """
        tls = self._tls
        try:
            if proxy := _find_proxy(self._url):
                manager: urllib3.PoolManager = urllib3.ProxyManager(
                    proxy,
                    proxy_headers=_proxy_headers(proxy),
                    proxy_ssl_context=tls,
                    ssl_context=tls,
                )
            else:
                manager = urllib3.PoolManager(ssl_context=tls)
            return manager.connection_from_url(self._url)
        except ValueError as error:
            raise not_sendable(error) from None


class Exchange:
    """One request and its response, on a thread of its own."""

    def __init__(self, line: _Line, idle: list[_Line], put: Put) -> None:
        """Take a line. It joins the idle ones after a good response."""
        self._line, self._idle, self._put = line, idle, put
        self._lock = threading.Lock()
        self._is_over = False

    def give_up(self) -> None:
        """Cut the connection. After this, no result is put."""
        with self._lock:
            if not self._is_over:
                self._is_over = True
                self._line.cut()

    def run(
        self, request: requests.PreparedRequest, read: Read, timeout: float
    ) -> None:
        """Send the request, and put the result, unless the request was given up."""
        is_good, result = False, None
        try:
            result = read(self._line.send(request, timeout))
            is_good = True
        except Exception as error:  # noqa: BLE001 - whoever gets the result raises it
            result = error
        with self._lock:
            is_good &= not self._is_over
            if is_good:
                self._idle.append(self._line)
            if not self._is_over:
                self._is_over = True
                self._put(result)
        if not is_good:
            self._line.close()


class _Line:
    """A connection to the API, which another thread can cut off."""

    def __init__(self, new_pool: Callable[[], urllib3.HTTPConnectionPool]) -> None:
        """Start without a connection."""
        self._new_pool = new_pool
        self.is_cut = False
        self.connection: HTTPConnection | None = None

    @functools.cached_property
    def _pool(self) -> urllib3.HTTPConnectionPool:
        """A pool that holds this connection only."""
        pool = self._new_pool()
        kind = _TLSConnection if pool.scheme == "https" else _Connection
        # A connection must not keep the line alive: when nothing needs the pool any
        # more, it closes its connection.
        new = functools.partial(kind, weakref.proxy(self))
        pool.ConnectionCls = t.cast("t.Any", new)
        return pool

    def send(self, request: requests.PreparedRequest, timeout: float) -> Response:
        """Send a request, and return the response.

        Raises:
            TemporaryError: If there is no complete response in time.
            FatalAPIError: If there cannot be a response.
        """
        deadline = time.monotonic() + timeout
        try:
            return self._send(request, timeout, deadline)
        except (TemporaryError, FatalAPIError):
            raise
        except Exception as error:  # noqa: BLE001 - each has an explanation
            if time.monotonic() >= deadline:
                raise timed_out(timeout) from None
            raise explain(error, str(request.url)) from None

    def _send(
        self, request: requests.PreparedRequest, timeout: float, deadline: float
    ) -> Response:
        with self._pool.urlopen(
            str(request.method),
            request.path_url,
            headers=request.headers,
            retries=False,
            assert_same_host=False,
            preload_content=False,
            timeout=urllib3.Timeout(connect=timeout * CONNECT_SHARE, read=timeout),
        ) as response:
            is_error = response.status >= HTTPStatus.MULTIPLE_CHOICES
            limit = MAX_ERROR_BODY_BYTES if is_error else MAX_BODY_BYTES
            body = bytearray()
            # `read` would wait for the whole chunk.
            while len(body) <= limit and (chunk := response.read1(CHUNK_BYTES)):
                body += chunk
                if time.monotonic() > deadline or self.is_cut:
                    raise timed_out(timeout)
            if len(body) > limit:
                if not is_error:
                    msg = f"the response was larger than {limit // MIB} MiB"
                    raise TooLargeError(msg)
                body.clear()
            return Response(response.status, response.headers, bytes(body))

    def cut(self) -> None:
        """Stop the thread that uses the connection, so that it sends nothing more."""
        self.is_cut = True
        sock = self.connection and self.connection.sock
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                # `shutdown` of a TLS socket would first drop its encryption.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        if self.connection:
            self.connection.close()


class _HTTPResponse(http.client.HTTPResponse):
    """A response that may follow others, such as 103 Early Hints."""

    @override
    def begin(self) -> None:
        """Read the heads of all responses up to the last one."""
        super().begin()
        while self.status < HTTPStatus.OK:  # Python skips 100 only.
            self.headers = t.cast("t.Any", None)
            super().begin()


class _Connection(HTTPConnection):
    """A connection that its line knows from the start."""

    response_class = _HTTPResponse

    def __init__(self, line: _Line, **options: t.Any) -> None:
        """Register with the line."""
        super().__init__(**options)
        self._line = line
        line.connection = self

    @override
    def connect(self) -> None:
        """Connect. With a slow DNS, this can exceed the time of the request.

        Raises:
            ConnectionAbortedError: If the line was cut in the meantime.
        """
        super().connect()
        if self._line.is_cut:
            raise ConnectionAbortedError


class _TLSConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


def _find_proxy(url: str) -> str | None:
    """Return the environment's proxy for a URL; None for this machine's own."""
    proxies = {} if is_loopback(url) else get_environ_proxies(url)
    proxy = select_proxy(url, proxies)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _proxy_headers(proxy: str) -> dict[str, str]:
    user, password = get_auth_from_url(proxy)
    basic_auth = f"{user}:{password}" if user else None
    return dict(urllib3.make_headers(proxy_basic_auth=basic_auth))


def _tls_context(url: str) -> ssl.SSLContext | None:
    """Return the certificates to trust: the environment's, or those of requests.

    Raises:
        ConfigValidationError: If the environment names certificates that are missing.
    """
    if not url.lower().startswith("https:"):
        return None
    names = [name for name in CA_VARIABLES if os.environ.get(name)]
    path = Path(os.environ[names[0]] if names else DEFAULT_CA_BUNDLE_PATH)
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError:
        msg = (
            f"The environment variable {names[0]} must name a file of certificates in "
            "the PEM format, or a folder of them"
        )
        raise config_error(msg) from None
