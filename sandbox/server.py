"""The sandbox: a MEGA API on this machine, over real HTTP, in a thread of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import ipaddress
import socket
import struct
import threading
import time
import typing as t
from email.utils import formatdate

from aiohttp import web

from sandbox.answers import refusal
from sandbox.api import TOKEN, TOKEN_WITHOUT_SCOPE, Api
from sandbox.control import control_routes
from sandbox.document import CUSTOMER_ID, LEADS_PATH
from sandbox.faults import INSTEAD, Script
from sandbox.leads import Leads
from sandbox.quota import Limits

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.answers import Answer
    from sandbox.faults import Fault

DEFAULT_LEADS = 2345
GZIP_LEVEL = 1
GZIP_FROM_BYTES = 1000
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER, on, for 0 s: closing sends RST and drops what was not sent."""


@dataclasses.dataclass
class Received:
    """A request that has come in, and how it was answered."""

    time: float
    """By the sandbox's clock, in epoch seconds."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    status: int | None = None
    """None while, or when, there is no answer."""


class Sandbox:
    """The endpoint that lists leads, with leads of its own, for `with`."""

    token = TOKEN
    token_without_scope = TOKEN_WITHOUT_SCOPE
    customer_id = CUSTOMER_ID

    def __init__(  # noqa: PLR0913 - each has a default, and is given by name
        self,
        *,
        leads: int = DEFAULT_LEADS,
        seed: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        faults: Iterable[Fault] = (),
    ) -> None:
        """Make the leads; `with` then starts the server.

        Args:
            leads: How many there are to begin with.
            seed: The same seed makes the same leads, as long before the start.
            host: A loopback address.
            port: 0 takes a free one.
            limits: What a key may spend; the vendor's limits unless given.
            clock: Gives epoch seconds, for the quota and for the dates of changes.
            faults: What goes wrong with which request.
        """
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            msg = f"the sandbox listens on loopback addresses only, not on {host}"
            raise ValueError(msg)
        self._host, self._port, self._clock = host, port, clock
        self.limits = limits or Limits()
        self.requests: list[Received] = []
        self.leads = Leads(leads, seed, clock)
        self._api = Api(self.leads, clock)
        self.script(*faults)

    def script(self, *faults: Fault) -> None:
        """Let these faults happen, and no others; requests count from 1 again."""
        self._script = Script(*faults)

    @property
    def url(self) -> str:
        """Where it listens: http://127.0.0.1:PORT."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def config(self) -> dict[str, str]:
        """Return a configuration with which the tap reads from here."""
        return {
            "auth_token": self.token,
            "customer_id": self.customer_id,
            "api_url": self.url,
        }

    def __enter__(self) -> t.Self:
        """Start answering. Raises OSError when the port is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop: whoever still waits for an answer gets none."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.leads.close()

    async def _start(self) -> None:
        self._closing = asyncio.Event()
        app = web.Application()
        app.add_routes(control_routes(self))
        app.router.add_get(LEADS_PATH, self._list_leads, allow_head=False)
        app.router.add_route("*", "/{anything:.*}", self._not_found)
        app.on_shutdown.append(self._let_go)
        # A client that goes away ends its request's handler, which may hang.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _let_go(self, _app: web.Application) -> None:
        self._closing.set()

    async def _not_found(self, request: web.Request) -> web.StreamResponse:
        received = self._receive(request)
        answer = refusal(404, "there is nothing here but GET " + LEADS_PATH)
        return _response(received, answer)

    async def _list_leads(self, request: web.Request) -> web.StreamResponse:
        received, fault = self._receive(request), self._script.next()
        if fault.before:
            fault.before()
        if fault.kind in ("reset", "hang"):
            return await self._no_answer(request, fault)
        answer = self._answer(received, fault)
        response = _response(received, answer)
        if fault.kind == "truncate":
            return await _truncated(request, response)
        return response

    def _receive(self, request: web.Request) -> Received:
        received = Received(
            self._clock(),
            request.method,
            request.path,
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
        )
        self.requests.append(received)
        return received

    def _answer(self, received: Received, fault: Fault) -> Answer:
        if fault.kind in INSTEAD:
            return fault.answer()
        return self._api.answer(received.query, received.headers, self.limits, fault)

    async def _no_answer(
        self, request: web.Request, fault: Fault
    ) -> web.StreamResponse:
        if fault.kind == "hang":
            await self._closing.wait()
        return _reset(request)


def _reset(request: web.Request) -> web.StreamResponse:
    """Cut the connection with RST, and return what nobody will get."""
    if request.transport:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def _truncated(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Announce the whole body, send half of it and end the connection."""
    body = t.cast("bytes", whole.body)
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport:
        request.transport.close()
    return response


def _response(received: Received, answer: Answer) -> web.Response:
    received.status = answer.status
    body, headers = answer.body, dict(answer.headers)
    headers["Date"] = formatdate(received.time, usegmt=True)
    headers["Content-Type"] = f"{answer.content_type}; charset=utf-8"
    wants_gzip = "gzip" in received.headers.get("accept-encoding", "")
    if wants_gzip and len(body) >= GZIP_FROM_BYTES:
        body = gzip.compress(body, GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return web.Response(status=answer.status, body=body, headers=headers)
