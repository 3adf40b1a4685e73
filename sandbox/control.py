"""HTTP routes that control a running sandbox. USAGE lists them."""

from __future__ import annotations

import typing as t

from aiohttp import web

from sandbox.customers import find_customer
from sandbox.fault_syntax import read_fault

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.customers import Customer
    from sandbox.request_log import RequestLog

    Handler: t.TypeAlias = t.Callable[[web.Request], t.Awaitable[web.Response]]

USAGE = (
    ("POST", "/sandbox/change?count=137", "change 137 leads"),
    ("POST", "/sandbox/add?count=5&customer=0", "add 5 leads to the first customer"),
    ("POST", "/sandbox/merge?count=3", "merge 3 leads into others"),
    ("POST", "/sandbox/delete?count=2", "delete 2 leads"),
    ("POST", "/sandbox/faults?fault=reset@1&fault=503@3x2", "replace the faults"),
    ("GET", "/sandbox/requests", "count the requests so far, by status"),
)


def control_routes(
    customers: Sequence[Customer],
    requests: RequestLog,
    script: Callable[..., None],
) -> list[web.RouteDef]:
    """Return the routes that change leads, replace faults and count requests.

    `script` replaces the faults of the sandbox.
    """

    async def change(request: web.Request) -> web.Response:
        name, query = request.match_info["name"], request.query
        customer = find_customer(customers, query.get("customer", "0"))
        ids = getattr(customer.leads, name)(int(query.get("count", "1")))
        return web.json_response({name: len(ids), "leads": customer.leads.count()})

    async def faults(request: web.Request) -> web.Response:
        texts = request.query.getall("fault", [])
        script(*map(read_fault, texts))
        return web.json_response({"faults": texts})

    async def count(_: web.Request) -> web.Response:
        by_status = requests.count_by_status()
        return web.json_response(
            {"requests": sum(by_status.values()), "by_status": by_status}
        )

    return [
        web.post("/sandbox/{name:change|add|merge|delete}", _reject_invalid(change)),
        web.post("/sandbox/faults", _reject_invalid(faults)),
        web.get("/sandbox/requests", count),
    ]


def _reject_invalid(handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    return handle
