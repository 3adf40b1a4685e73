"""HTTP routes that control a running sandbox. USAGE lists them."""

from __future__ import annotations

import typing as t

from aiohttp import web

from sandbox.fault_syntax import read_fault

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.server import Sandbox

USAGE = (
    ("POST", "/sandbox/change?count=137", "change 137 leads"),
    ("POST", "/sandbox/add?count=5", "add 5 leads"),
    ("POST", "/sandbox/merge?count=3", "merge 3 leads into others"),
    ("POST", "/sandbox/delete?count=2", "delete 2 leads"),
    ("POST", "/sandbox/faults?fault=reset@1&fault=503@3x2", "replace the faults"),
    ("GET", "/sandbox/requests", "count the requests so far, by status"),
)


def control_routes(sandbox: Sandbox) -> list[web.RouteDef]:
    """Return the routes that control this sandbox."""
    leads = sandbox.leads
    changes = {
        "change": leads.change,
        "add": leads.add,
        "merge": leads.merge,
        "delete": leads.delete,
    }

    async def requests(_: web.Request) -> web.Response:
        by_status = sandbox.requests.count_by_status()
        return web.json_response(
            {"requests": sum(by_status.values()), "by_status": by_status}
        )

    async def faults(request: web.Request) -> web.Response:
        texts = request.query.getall("fault", [])
        try:
            sandbox.script(*map(read_fault, texts))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"faults": texts})

    return [
        *(
            web.post(f"/sandbox/{name}", _change_handler(name, change))
            for name, change in changes.items()
        ),
        web.post("/sandbox/faults", faults),
        web.get("/sandbox/requests", requests),
    ]


def _change_handler(
    name: str, change: Callable[[int], list[str]]
) -> Callable[[web.Request], t.Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            ids = change(int(request.query.get("count", "1")))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({name: len(ids), "ids": ids})

    return handle
