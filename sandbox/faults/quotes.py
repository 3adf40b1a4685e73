"""What the error message of the fault `quote` says."""

from __future__ import annotations

import json
import typing as t

from sandbox.document import check_parameters
from sandbox.pages import parse_query

if t.TYPE_CHECKING:
    from sandbox.leads import Leads
    from sandbox.received import Received


def quote(quotes: str, request: Received, leads: Leads) -> str:
    """Return a message that quotes a request or a lead. `quotes` is one of CHOICES."""
    token = request.headers.get("authorization", "").rpartition(" ")[2]
    middle = len(token) // 2
    texts = {
        "query": request.query_string,
        "values": ", ".join(request.query.values()),
        "token": token,
        "token_inserted": f"{token[:middle]}-{token[middle:]}",
        "token_cut": token[:-4],
        "token_encoded": "".join(f"%{byte:02X}" for byte in token.encode()),
        "lead": _describe_lead(leads),
    }
    text = "; ".join(texts.values()) if quotes == "all" else texts[quotes]
    return f"cannot process {text}"


def _describe_lead(leads: Leads) -> str:
    """Return the name, e-mail address and phone number of a lead that has them."""
    page = leads.page(parse_query(check_parameters({"limit": "100"})))
    for lead in map(json.loads, page.leads):
        values = [lead[f"contact_{name}"] for name in ("name", "email", "phone")]
        if all(values):
            return ", ".join(values)
    return "no lead"
