"""The sandbox: a local MEGA API over real HTTP, in its own thread."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import threading
import time
import typing as t

from aiohttp import web

from sandbox.api import Api
from sandbox.control import control_routes
from sandbox.customers import (
    TOKEN,
    TOKEN_WITHOUT_SCOPE,
    find_customer,
    make_customers,
)
from sandbox.document import CUSTOMER_ID
from sandbox.fault_kinds import REPLACING, UNANSWERED
from sandbox.faults import NO_FAULT, Script
from sandbox.faulty_responses import faulty_response
from sandbox.faulty_sending import send, send_nothing
from sandbox.rate_limits import Limits
from sandbox.request_log import Received, RequestLog

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sandbox.faults import Fault
    from sandbox.responses import Response

DEFAULT_LEADS = 2345
SHUTDOWN_SECONDS = 0.01


class Sandbox:
    """A local API that lists leads. It runs inside a `with` statement."""

    token = TOKEN
    token_without_scope = TOKEN_WITHOUT_SCOPE
    customer_id = CUSTOMER_ID

    def __init__(  # noqa: PLR0913 - keyword arguments with defaults
        self,
        *,
        leads: int | Sequence[int] = DEFAULT_LEADS,
        customers: int = 1,
        seed: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        faults: Iterable[Fault] = (),
        delay: float = 0,
        clock_offset: float = 0,
        max_requests: int | None = None,
    ) -> None:
        """Make the leads. The `with` statement starts the server.

        Args:
            leads: The number of leads at the start: of each customer, or one number
                for every customer.
            customers: The number of customers.
            seed: The same seed makes the same leads, relative to the start.
            host: A loopback address.
            port: The port to listen on; 0 means any free port.
            limits: The rate limits of a key; the default is the vendor's.
            clock: Returns epoch seconds, for rate limits and timestamps of changes.
            faults: The faults to script.
            delay: Seconds until each response, in real time.
            clock_offset: Seconds by which the API's own clock is ahead. It dates
                changes of leads and responses.
            max_requests: How many of the latest requests to keep; None keeps all.
        """
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            msg = f"the sandbox only listens on loopback addresses, not on {host}"
            raise ValueError(msg)
        self._host, self._port, self._clock = host, port, clock
        self.limits = limits or Limits()
        self.delay, self.clock_offset = delay, clock_offset
        self.requests = RequestLog(max_requests)
        counts = [leads] * customers if isinstance(leads, int) else leads
        if not 1 <= len(counts) == customers:
            msg = f"{len(counts)} numbers of leads do not fit {customers} customers"
            raise ValueError(msg)
        self.customers = make_customers(counts, seed, self._api_clock)
        self.leads = self.customers[0].leads
        self._api = Api(self.customers, self._api_clock)
        self.script(*faults)

    def _api_clock(self) -> float:
        return self._clock() + self.clock_offset

    def script(self, *faults: Fault) -> None:
        """Replace the faults. The numbers of requests start again at 1."""
        self._script = Script(*map(self._find_customer, faults))

    def _find_customer(self, fault: Fault) -> Fault:
        if fault.customer is None:
            return fault
        customer = find_customer(self.customers, fault.customer)
        return dataclasses.replace(fault, customer=customer.customer_id)

    @property
    def url(self) -> str:
        """The base URL: http://127.0.0.1:PORT."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def config(self) -> dict[str, t.Any]:
        """Return a configuration of the tap for this sandbox."""
        customers = [
            {"auth_token": it.auth_token, "customer_id": it.customer_id}
            for it in self.customers
        ]
        settings = customers[0] if len(customers) == 1 else {"customers": customers}
        return {**settings, "api_url": self.url}

    def __enter__(self) -> t.Self:
        """Start the server. Raises OSError if the port is in use."""
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
        """Stop the server. Open connections get no response."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for customer in self.customers:
            customer.leads.close()

    async def _start(self) -> None:
        app = web.Application()
        app.add_routes(control_routes(self.customers, self.requests, self.script))
        app.router.add_route("*", "/{path:.*}", self._handle)
        # When the client disconnects or the sandbox stops, a handler is cancelled at
        # once: it may hang.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._runner.cleanup()
        # A connection that is being accepted would otherwise keep its socket open.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # Transports close their sockets in the next round.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = self._receive(request)
        fault, number = self._next_fault(received)
        if delay := self.delay + fault.delay:
            await asyncio.sleep(delay)
        if fault.before:
            fault.before()
        if fault.kind in UNANSWERED:
            return await send_nothing(request, fault)
        response = self._respond(received, fault, number)
        is_late = fault.kind == "late"
        status = fault.option("status") if is_late else response.status
        self.requests.set_status(received, status)
        return await send(request, response, fault)

    def _next_fault(self, received: Received) -> tuple[Fault, int]:
        if received.lists_leads:
            return self._script.next(received.customer)
        return NO_FAULT, 0

    def _receive(self, request: web.Request) -> Received:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(
            self._clock(),
            request.method,
            request.path,
            dict(request.query),
            headers,
            self._api.find_customer(headers),
            request.url.raw_query_string,
        )
        self.requests.add(received)
        return received

    def _respond(self, received: Received, fault: Fault, number: int) -> Response:
        if fault.kind in REPLACING:
            customer = find_customer(self.customers, received.customer or 0)
            response = faulty_response(fault, received, customer.leads)
        else:
            response = self._api.respond(received, self.limits, fault, number)
        accept_encoding = received.headers.get("accept-encoding", "")
        date = self._api_clock()
        if fault.kind == "date":
            date += fault.option("seconds")
        return response.encode(date, accept_encoding)
