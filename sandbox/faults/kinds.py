"""The kinds of faults and their options."""

from __future__ import annotations

import typing as t


class Kind(t.NamedTuple):
    """A kind of fault."""

    description: str
    options: t.Mapping[str, object] = {}
    """The options of the kind and their defaults."""


# These replace the API's response or leave it out. The request does not count for the
# rate limits.
REPLACING = {
    "error": Kind(
        "sends the API's error envelope", {"status": 503, "retry_after": None}
    ),
    "html": Kind(
        "sends an HTML page, like a proxy", {"status": 502, "retry_after": None}
    ),
    "redirect": Kind("sends a redirect", {"status": 302, "location": "/"}),
    "body": Kind(
        "sends `body` as application/json",
        {"status": 200, "body": "", "retry_after": None},
    ),
}
UNANSWERED = {
    "reset": Kind("resets the connection before the first byte of the response"),
    "hang": Kind("sends nothing until the client gives up or the sandbox stops"),
}
# These change the API's response.
CHANGING = {
    "none": Kind("changes nothing; useful with a delay or `before`"),
    "truncate": Kind("closes the connection in the middle of the body"),
    "empty_page": Kind("sends no leads, and a next_cursor that leads to them"),
    "repeat_cursor": Kind("sends the request's cursor back as next_cursor"),
    "refuse_cursor": Kind("sends 400 if the request has a cursor"),
    "same_page": Kind("sends a next_cursor that is new but leads to this same page"),
    "repeat_leads": Kind("sends the leads of the page before instead of this page's"),
    "early_end": Kind(
        "sends only `count` leads, next_cursor null, and `value` as total if given",
        {"count": 0, "value": None},
    ),
    "total": Kind("sends `value`, which is a JSON number, as total", {"value": "0"}),
    "raw_lead": Kind("adds `lead`, which is raw JSON, to the page", {"lead": "{}"}),
    "disorder": Kind("sends the leads of the page in reverse order"),
    "cursor_lifetime": Kind(
        "sends 400 once the first page was requested over `count` requests ago",
        {"count": 10},
    ),
    "rounds_up": Kind(
        "omits leads from updated_since itself, as if updated_at was rounded up"
    ),
}
KINDS = {**REPLACING, **UNANSWERED, **CHANGING}
KIND_OPTIONS = sorted({name for kind in KINDS.values() for name in kind.options})
