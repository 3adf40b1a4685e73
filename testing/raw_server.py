"""A server that sends any bytes, over TCP or TLS, also as a proxy."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import typing as t

if t.TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from types import TracebackType

    Steps: t.TypeAlias = Iterator[bytes | float]
    Respond: t.TypeAlias = Callable[[int], Steps]

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER, on, 0 s: closing sends RST."""
END_OF_HEAD = b"\r\n\r\n"
TLS_HANDSHAKE = b"\x16"
"""The first byte of a client that expects TLS. It gets the response at once."""


def response(
    body: bytes = b"", *headers: str, status: int = 200, length: int | None = None
) -> bytes:
    """Return a response as it is sent."""
    length = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Some Words", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class RawServer:
    """Sends what a function yields for each request.

    The function gets the number of the request, from 1. It yields bytes to send and
    seconds to pause. The connection stays open for the next request if the function
    returns, is closed if it raises `EOFError`, and reset if `ConnectionResetError`.
    """

    def __init__(
        self,
        respond: Respond,
        tls: ssl.SSLContext | None = None,
        *,
        is_proxy: bool = False,
    ) -> None:
        """Listen on any port.

        Args:
            respond: The function.
            tls: The certificate of the server. None means plain HTTP.
            is_proxy: Whether the first request of a connection is a CONNECT, which is
                accepted. TLS starts after it.
        """
        self.requests: list[bytes] = []
        """The heads of the requests."""
        self.connections = 0
        self._respond, self._tls, self._is_proxy = respond, tls, is_proxy
        self._came = threading.Condition()
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def port(self) -> int:
        """The port."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The URL on this machine."""
        scheme = "https" if self._tls and not self._is_proxy else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> t.Self:
        """Start."""
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and close all connections."""
        self._stopped.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes `accept`
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def wait_for(self, number: int, seconds: float) -> bool:
        """Wait until so many requests came; False if they do not come in time."""
        with self._came:
            return self._came.wait_for(lambda: len(self.requests) >= number, seconds)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stopped.is_set():
                connection.close()
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="connection"
            )
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError, EOFError))
            stack.enter_context(connection)
            if self._is_proxy:
                self._answer(connection)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(stack.enter_context(connection))
            while not self._stopped.is_set():
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while not (head.endswith(END_OF_HEAD) or head.startswith(TLS_HANDSHAKE)):
            received = connection.recv(1)
            if not received:
                raise EOFError
            head += received
        with self._came:
            self.requests.append(head)
            self._came.notify_all()
        if self._is_proxy and head.startswith(b"CONNECT "):
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            return
        try:
            self._send(connection)
        except ConnectionResetError:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            raise

    def _send(self, connection: socket.socket) -> None:
        for step in self._respond(len(self.requests)):
            if isinstance(step, bytes):
                connection.sendall(step)
            elif self._stopped.wait(step):
                raise EOFError
