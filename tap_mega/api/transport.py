"""One HTTP exchange, in bounded time and of bounded size."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t
import weakref
from concurrent.futures import Future
from http import HTTPStatus
from weakref import WeakMethod

from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3 import HTTPConnectionPool

from tap_mega.api.client import TemporaryError
from tap_mega.api.network_errors import explain

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests
    from urllib3.connectionpool import ConnectionPool

    Watch: t.TypeAlias = Callable[[object], None]

KIB, MIB = 1024, 1024**2
MAX_BODY_BYTES = 64 * MIB
"""A page of 100 leads takes about 100 KB."""
MAX_ERROR_BODY_BYTES = 64 * KIB
CHUNK_BYTES = 64 * KIB

CONNECT_SHARE = 0.5
"""How much of the time one address of a host may take: it may have another one."""


class Response(t.NamedTuple):
    """A response that came completely."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    """Decompressed; empty if it is the body of an error and too large."""


class Transport:
    """Sends one request at a time, and keeps its connection open for the next.

    Each request is sent on a thread of its own. The caller waits for it until the time
    is up, whatever holds the thread: the DNS, a connection, a proxy, or a server that
    sends a byte now and then. Signals interrupt the caller at once, too.
    """

    def __init__(self, session: requests.Session, timeout: float) -> None:
        """Start without a connection.

        Args:
            session: Whose proxies and certificates to use.
            timeout: Seconds that a request may take in all.
        """
        self._session = session
        self._timeout = timeout
        self._connections = _Connections()

    def send(self, request: requests.PreparedRequest) -> Response:
        """Send a request, and return the response.

        Raises:
            TemporaryError: If there is no complete response in time.
            FatalAPIError: If there cannot be one.
        """
        response = Future[Response]()
        thread = threading.Thread(
            target=self._run,
            args=(self._connections, request, response),
            name="request",
            daemon=True,
        )
        thread.start()
        try:
            return response.result(self._timeout)
        except TimeoutError:
            msg = f"no complete response within {self._timeout:g} s"
            raise TemporaryError(msg) from None
        except TemporaryError:
            raise
        except Exception as error:  # noqa: BLE001 - each has an explanation
            raise explain(error, str(request.url)) from None

    def cut(self) -> None:
        """Cut off all connections: the next request gets a new one.

        A response to an earlier request cannot be taken for that of the next one.
        """
        self._connections.cut()
        self._connections = _Connections()

    def _run(
        self,
        connections: _Connections,
        request: requests.PreparedRequest,
        response: Future[Response],
    ) -> None:
        try:
            response.set_result(self._exchange(connections, request))
        except Exception as error:  # noqa: BLE001 - `send` raises it
            response.set_exception(error)

    def _exchange(
        self, connections: _Connections, request: requests.PreparedRequest
    ) -> Response:
        settings: dict[str, t.Any] = {
            **self._session.merge_environment_settings(
                str(request.url), {}, stream=True, verify=None, cert=None
            ),
            "timeout": (self._timeout * CONNECT_SHARE, None),
        }
        with connections.send(request, **settings) as response:
            return Response(response.status_code, response.headers, _read(response))


class _Connections(HTTPAdapter):
    """Connections that another thread can cut off, once and for all."""

    def __init__(self) -> None:
        """Start without any."""
        self._sockets = weakref.WeakSet[socket.socket]()
        self._is_cut = False
        self._lock = threading.Lock()
        super().__init__()

    def cut(self) -> None:
        """Cut off all connections, and each that is still to come."""
        with self._lock:
            self._is_cut = True
            sockets = list(self._sockets)
        for sock in sockets:
            _shut_down(sock)
        self.close()

    @override
    def get_connection_with_tls_context(
        self, *args: t.Any, **kwargs: t.Any
    ) -> ConnectionPool:
        """Return a pool whose connections show their sockets, also to a proxy."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if isinstance(pool, HTTPConnectionPool) and "sock" not in vars(
            pool.ConnectionCls
        ):
            pool.ConnectionCls = _watched(pool.ConnectionCls, WeakMethod(self._watch))
        return pool

    def _watch(self, sock: object) -> None:
        if not isinstance(sock, socket.socket):
            return
        with self._lock:
            self._sockets.add(sock)
            is_late = self._is_cut
        if is_late:
            _shut_down(sock)


def _watched(base: type, watch: WeakMethod[Watch]) -> t.Any:
    """Return a class of connections that shows each socket as soon as there is one.

    It may be before a proxy has built a tunnel, and again when TLS begins. The class
    must not keep the adapter alive: urllib3 closes connections when that is collected.
    """

    def get_sock(connection: object) -> object:
        return vars(connection).get("sock")

    def set_sock(connection: object, sock: object) -> None:
        vars(connection)["sock"] = sock
        if method := watch():
            method(sock)

    return type(base.__name__, (base,), {"sock": property(get_sock, set_sock)})


def _shut_down(sock: socket.socket) -> None:
    """End what another thread does with a socket; it closes the socket itself."""
    with contextlib.suppress(OSError):
        # That of a TLS socket would first drop its encryption.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read(response: requests.Response) -> bytes:
    """Return the body of a response. That of an error is only there to be quoted.

    Raises:
        TemporaryError: If it is larger than a page can be.
    """
    is_error = response.status_code >= HTTPStatus.MULTIPLE_CHOICES
    limit = MAX_ERROR_BODY_BYTES if is_error else MAX_BODY_BYTES
    body = bytearray()
    for chunk in response.iter_content(CHUNK_BYTES):
        body += chunk
        if len(body) <= limit:
            continue
        if is_error:
            return b""
        msg = f"the response was larger than {limit // MIB} MiB"
        raise TemporaryError(msg)
    return bytes(body)
