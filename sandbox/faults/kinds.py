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
    "quote": Kind(
        "sends an error whose message quotes the request, the token or a lead",
        {"status": 400, "quotes": "all"},
    ),
    "bomb": Kind(
        "sends an empty page or an error that gzip decodes to `size` bytes",
        {"status": 200, "size": 200_000_000},
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
    "trickle": Kind(
        "sends `part` of the response byte by byte, with pauses of `seconds`",
        {"part": "body", "seconds": 0.2},
    ),
    "late": Kind(
        "sends an error and, `seconds` later, the API's response",
        {"status": 504, "seconds": 0.1},
    ),
    "two_lengths": Kind("sends two different Content-Length headers"),
    "date": Kind("sends a Date header that is `seconds` off", {"seconds": -3600}),
    "empty_page": Kind("sends no leads, and a next_cursor that leads to them"),
    "repeat_cursor": Kind("sends the request's cursor back as next_cursor"),
    "refuse_cursor": Kind("sends 400 if the request has a cursor"),
    "same_page": Kind("sends a next_cursor that is new but leads to this same page"),
    "repeat_leads": Kind("sends the leads of the page before instead of this page's"),
    "early_end": Kind(
        "sends `count` leads, next_cursor null and `value`, if given, as total",
        {"count": 0, "value": None},
    ),
    "total": Kind("sends `value`, which is a JSON number, as total", {"value": "0"}),
    "raw_lead": Kind("adds `lead`, which is raw JSON, to the page", {"lead": "{}"}),
    "disorder": Kind("sends the leads of the page in reverse order"),
    "cursor_lifetime": Kind(
        "sends 400 if the first page is more than `count` requests old",
        {"count": 10},
    ),
    "rounds_up": Kind(
        "omits leads whose updated_at equals updated_since, as if rounded up"
    ),
}
KINDS = {**REPLACING, **UNANSWERED, **CHANGING}
CHOICES = {
    "part": ("body", "headers", "chunks", "continue"),
    "quotes": (
        *("all", "query", "values", "lead"),
        *("token", "token_inserted", "token_cut", "token_encoded"),
    ),
}
"""The words that an option can be. The first one is the default."""
KIND_OPTIONS = sorted({name for kind in KINDS.values() for name in kind.options})
