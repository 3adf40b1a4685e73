"""Measure the sandbox in pages per second: `python -m benchmarks.sandbox`.

The sandbox must be faster than what other benchmarks measure. One client on one
connection requests all pages of 100 leads, first as plain JSON and then compressed.
"""

from __future__ import annotations

import http.client
import json
import time
import typing as t
import zlib
from urllib.parse import urlencode, urlsplit

from benchmarks.runs import serve_leads

LEADS = 50_000
QUERY = {
    "sort_by": "updated_at",
    "sort_dir": "asc",
    "limit": "100",
    "include_custom_fields": "true",
}
GZIP_WINDOW_BITS = 31


def measure_rate(settings: dict[str, str], encoding: str) -> float:
    """Read all pages, and return the pages per second."""
    connection = http.client.HTTPConnection(urlsplit(settings["api_url"]).netloc)
    headers = {
        "Authorization": f"Bearer {settings['auth_token']}",
        "x-customer-id": settings["customer_id"],
        "Accept-Encoding": encoding,
    }
    query, pages, started_at = dict(QUERY), 0, time.perf_counter()
    while query.get("cursor", True):
        path = f"/api/agents/crm/leads?{urlencode(query)}"
        connection.request("GET", path, headers=headers)
        body = connection.getresponse().read()
        if encoding == "gzip":
            body = zlib.decompress(body, GZIP_WINDOW_BITS)
        query["cursor"] = _next_cursor(body)
        pages += 1
    return pages / (time.perf_counter() - started_at)


def _next_cursor(body: bytes) -> str:
    """Return the cursor without parsing the leads: parsing is not measured."""
    end: dict[str, t.Any] = json.loads(b"{" + body[body.rindex(b'"next_cursor"') :])
    return end["next_cursor"] or ""


if __name__ == "__main__":
    with serve_leads(LEADS) as server:
        for name in ("identity", "gzip"):
            rate = measure_rate(server.settings, name)
            print(f"{name}: {rate:,.0f} pages per second")
