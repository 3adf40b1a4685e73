"""How many pages the sandbox answers a second: `python -m benchmarks.sandbox`.

It must never be the sandbox that another benchmark measures. One client on one
connection asks for all pages of 100 leads, as JSON and compressed.
"""

from __future__ import annotations

import http.client
import json
import time
import typing as t
import zlib
from urllib.parse import urlencode, urlsplit

from benchmarks.runs import served

LEADS = 50_000
QUERY = {
    "sort_by": "updated_at",
    "sort_dir": "asc",
    "limit": "100",
    "include_custom_fields": "true",
}
GZIP_WINDOW_BITS = 31


def read_all(config: dict[str, str], encoding: str) -> float:
    """Read all pages, and return how many came a second."""
    connection = http.client.HTTPConnection(urlsplit(config["api_url"]).netloc)
    headers = {
        "Authorization": f"Bearer {config['auth_token']}",
        "x-customer-id": config["customer_id"],
        "Accept-Encoding": encoding,
    }
    query, pages, begun = dict(QUERY), 0, time.perf_counter()
    while query.get("cursor", True):
        path = f"/api/agents/crm/leads?{urlencode(query)}"
        connection.request("GET", path, headers=headers)
        body = connection.getresponse().read()
        if encoding == "gzip":
            body = zlib.decompress(body, GZIP_WINDOW_BITS)
        query["cursor"] = _next_cursor(body)
        pages += 1
    return pages / (time.perf_counter() - begun)


def _next_cursor(body: bytes) -> str:
    """Return the cursor without parsing the leads: that is not what is measured."""
    end: dict[str, t.Any] = json.loads(b"{" + body[body.rindex(b'"next_cursor"') :])
    return end["next_cursor"] or ""


if __name__ == "__main__":
    with served(LEADS) as server:
        settings = json.loads(server.config.read_text())
        for name in ("identity", "gzip"):
            print(f"{name}: {read_all(settings, name):,.0f} pages a second")
