"""Faults that change how a response is sent over the connection."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import socket
import struct
import typing as t
import zlib

from aiohttp import web
from typing_extensions import override

from sandbox.faulty_responses import MESSAGE
from sandbox.responses import error_response

if t.TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from sandbox.faults import Fault
    from sandbox.responses import Response

CHUNKED = "Transfer-Encoding: chunked"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GZIP_WINDOW_BITS = 31
LAST_CHUNK = b"0\r\n\r\n"
SPACES = b" " * 2**20
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER, on, 0 s: closing sends RST and discards unsent data."""


class _Sent(web.StreamResponse):
    """Tells aiohttp that nothing is left to send."""

    def __init__(self, *, closes: bool = True) -> None:
        """Close the connection or keep it open."""
        super().__init__()
        self._closes = closes

    @property
    @override
    def keep_alive(self) -> bool:
        """Whether the connection stays open."""
        return not self._closes

    @override
    async def prepare(self, request: web.BaseRequest) -> None:
        """Send no headers."""

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        """Send no body."""


async def send(
    request: web.Request, response: Response, fault: Fault
) -> web.StreamResponse:
    """Send a response, in the way of the fault."""
    if fault.kind in _SENDERS and request.transport:
        await _SENDERS[fault.kind](request.transport, response, fault)
        return _Sent(closes=fault.kind != "late")
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


async def _truncate(
    transport: asyncio.Transport, response: Response, _fault: Fault
) -> None:
    transport.write(_head(response, _length(response)))
    transport.write(response.body[: len(response.body) // 2])


async def _two_lengths(
    transport: asyncio.Transport, response: Response, _fault: Fault
) -> None:
    half = f"Content-Length: {len(response.body) // 2}"
    transport.write(_head(response, _length(response), half) + response.body)


async def _late(transport: asyncio.Transport, response: Response, fault: Fault) -> None:
    headers = {name: response.headers[name] for name in ("Date", "Content-Type")}
    error = error_response(fault.option("status"), MESSAGE, headers)
    transport.write(_head(error, _length(error)) + error.body)
    await asyncio.sleep(fault.option("seconds"))
    transport.write(_head(response, _length(response)) + response.body)


async def _bomb(transport: asyncio.Transport, response: Response, fault: Fault) -> None:
    """Send the body with white space in front, compressed piece by piece."""
    transport.write(_head(response, "Content-Encoding: gzip", CHUNKED))
    gzip = zlib.compressobj(level=9, wbits=GZIP_WINDOW_BITS)
    padding = fault.option("size") - len(response.body)
    for start in range(0, padding, len(SPACES)):
        transport.write(_chunk(gzip.compress(SPACES[: padding - start])))
        await asyncio.sleep(0)
    transport.write(_chunk(gzip.compress(response.body) + gzip.flush()) + LAST_CHUNK)


async def _trickle(
    transport: asyncio.Transport, response: Response, fault: Fault
) -> None:
    for piece in _pieces(response, fault.option("part")):
        transport.write(piece)
        await asyncio.sleep(fault.option("seconds"))


def _pieces(response: Response, part: str) -> Iterator[bytes]:
    """Yield what is sent at once. The slow part is sent byte by byte."""
    if part == "continue":
        yield from itertools.repeat(CONTINUE)
    head, body = _head(response, _length(response)), response.body
    if part == "headers":
        yield from _bytes(head)
        yield body
    elif part == "chunks":
        yield _head(response, CHUNKED)
        yield from map(_chunk, _bytes(body))
        yield LAST_CHUNK
    else:
        yield head
        yield from _bytes(body)


def _head(response: Response, *lines: str) -> bytes:
    """Return the status line and the headers as they are sent."""
    reason = http.client.responses.get(response.status, "")
    headers = [f"{name}: {value}" for name, value in response.headers.items()]
    status_line = f"HTTP/1.1 {response.status} {reason}"
    return "\r\n".join([status_line, *headers, *lines, "", ""]).encode()


def _length(response: Response) -> str:
    return f"Content-Length: {len(response.body)}"


def _chunk(data: bytes) -> bytes:
    # An empty chunk would end the body.
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _bytes(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


_SENDERS: dict[str, Callable[[asyncio.Transport, Response, Fault], Awaitable[None]]] = {
    "truncate": _truncate,
    "two_lengths": _two_lengths,
    "late": _late,
    "bomb": _bomb,
    "trickle": _trickle,
}
