"""Read leads with dlt's REST client: `dlt_client.py CONFIG`.

It is written as https://dlthub.com/docs/general-usage/http/rest-client teaches. It only
iterates over the leads. A dlt pipeline does more with them, which costs more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator


def main(config: dict[str, str]) -> None:
    """Iterate over all leads."""
    client = RESTClient(
        base_url=config["api_url"],
        headers={"x-customer-id": config["customer_id"]},
        auth=BearerTokenAuth(token=config["auth_token"]),
        paginator=JSONResponseCursorPaginator(
            cursor_path="next_cursor", cursor_param="cursor"
        ),
        data_selector="leads",
    )
    query = {
        "sort_by": "updated_at",
        "sort_dir": "asc",
        "limit": 100,
        "include_custom_fields": "true",
    }
    for page in client.paginate("/api/agents/crm/leads", params=query):
        for _lead in page:
            pass


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
