"""How a response is sent over the connection."""

from __future__ import annotations

import asyncio
import http
import socket
import struct
import typing as t

from aiohttp import web

if t.TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.faults import Fault
    from sandbox.responses import Response

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER, on, 0 s: closing sends RST and discards unsent data."""


class _Sent(web.StreamResponse):
    """Tells aiohttp that nothing is left to send on the connection."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send no headers."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send no body."""


async def send(
    request: web.Request, response: Response, fault: Fault
) -> web.StreamResponse:
    """Send a response, in the way of the fault."""
    if fault.kind in _SENDERS and request.transport:
        await _SENDERS[fault.kind](request.transport, response, fault)
        return _Sent()
    return web.Response(
        status=response.status, body=response.body, headers=response.headers
    )


async def send_nothing(request: web.Request, fault: Fault) -> web.StreamResponse:
    """Wait for ever, or close the connection with RST."""
    if fault.kind == "hang":
        await asyncio.Event().wait()
    if request.transport:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        request.transport.abort()
    return _Sent()


def _head(response: Response, **headers: str) -> bytes:
    """Return the status line and the headers as they are sent."""
    reason = http.HTTPStatus(response.status).phrase
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    lines += [
        f"{name}: {value}" for name, value in (response.headers | headers).items()
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def _truncate(
    transport: asyncio.Transport, response: Response, _fault: Fault
) -> None:
    length = len(response.body)
    transport.write(_head(response, **{"Content-Length": str(length)}))
    transport.write(response.body[: length // 2])


_SENDERS: dict[str, Callable[[asyncio.Transport, Response, Fault], Awaitable[None]]] = {
    "truncate": _truncate,
}
