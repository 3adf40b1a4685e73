"""Read leads with minimal code and no framework: `floor.py CONFIG`.

It keeps no state, checks nothing and retries nothing.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import typing as t
from pathlib import Path

import orjson
import requests


def main(config: dict[str, str]) -> None:
    """Write a RECORD message for each lead."""
    session, out = requests.Session(), sys.stdout.buffer
    session.headers["Authorization"] = f"Bearer {config['auth_token']}"
    session.headers["x-customer-id"] = config["customer_id"]
    query: dict[str, t.Any] = {
        "sort_by": "updated_at",
        "sort_dir": "asc",
        "limit": 100,
        "include_custom_fields": "true",
    }
    while query.get("cursor", True):
        url = f"{config['api_url']}/api/agents/crm/leads"
        page = orjson.loads(session.get(url, params=query, timeout=60).content)
        now = dt.datetime.now(dt.UTC).isoformat()
        for lead in page["leads"]:
            record = {"type": "RECORD", "stream": "leads", "record": lead}
            out.write(orjson.dumps({**record, "time_extracted": now}) + b"\n")
        query["cursor"] = page["next_cursor"]


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
