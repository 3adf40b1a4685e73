"""Faults: scripted failures of the API."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from sandbox.cursors import first_cursor
from sandbox.responses import InvalidRequestError, Response, error_response

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.pages import Page, Query

HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>proxy</body></html>"

# These replace the API's response. The request does not count for the rate limits.
REPLACING = {
    "error": "sends `status` with the API's error envelope",
    "html": "sends `status` with an HTML page, like a proxy",
    "redirect": "sends `status` (default 302) with `location`",
    "body": "sends `status` (default 200) with `body` as application/json",
    "reset": "resets the connection before the first byte of the response",
    "hang": "sends nothing until the client gives up or the sandbox stops",
}
# These change the API's response.
CHANGING = {
    "none": "changes nothing; useful with `before`",
    "truncate": "closes the connection in the middle of the body",
    "empty_page": "sends no leads, and a next_cursor that leads to them",
    "repeat_cursor": "sends the request's cursor back as next_cursor",
    "refuse_cursor": "sends 400 if the request has a cursor",
    "disorder": "sends the leads of the page in reverse order",
}
KINDS = {**REPLACING, **CHANGING}
OPTION = re.compile(r":(status|retry-after|location|body)=")
FAULT = re.compile(r"([a-z_-]+|[1-5]\d\d)(?:@([1-9]\d*))?(?:x([1-9]\d*|\*))?")
DEFAULT_STATUS = {"error": 503, "html": 502, "redirect": 302, "body": 200}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A failure that happens to the `at`-th request for leads.

    Requests are numbered from 1. The numbers start again at each call of
    `Sandbox.script()`. Requests without valid credentials count, too.
    """

    kind: str = "none"
    """One of KINDS, which describes each."""
    at: int = 1
    """The number of the first request that it happens to."""
    times: int | None = 1
    """The number of consecutive requests that it happens to. None means all."""
    _: dataclasses.KW_ONLY
    status: int | None = None
    body: str = ""
    """A byte that is not valid UTF-8 is a surrogate escape: 0xff is "\\udcff"."""
    location: str = "/"
    retry_after: str | int | None = None
    """The Retry-After header: seconds or an HTTP date."""
    before: Callable[[], object] | None = None
    """Called in the server's thread just before the response is made."""

    def __post_init__(self) -> None:
        """Raise ValueError if the kind does not exist."""
        if self.kind not in KINDS:
            msg = f"no fault is called {self.kind!r}: choose from {', '.join(KINDS)}"
            raise ValueError(msg)

    def happens_to(self, number: int) -> bool:
        """Return whether it happens to the request with this number."""
        last = float("inf") if self.times is None else self.at + self.times - 1
        return self.at <= number <= last

    def response(self) -> Response:
        """Return the response that replaces the API's."""
        status = self.status or DEFAULT_STATUS[self.kind]
        headers = (
            {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        )
        if self.kind == "error":
            return error_response(status, "scripted by the sandbox", headers)
        if self.kind == "html":
            return Response(status, HTML.format(status).encode(), headers, "text/html")
        if self.kind == "redirect":
            headers["Location"] = self.location
        return Response(status, self.body.encode(errors="surrogateescape"), headers)

    def check_query(self, query: Query) -> None:
        """Raise InvalidRequestError if the fault refuses the query's cursor."""
        if self.kind == "refuse_cursor" and query.after:
            msg = "cursor is no longer accepted"
            raise InvalidRequestError(msg)

    def change_page(self, page: Page, query: Query) -> Page:
        """Return the page that the client gets."""
        change = _PAGE_CHANGES.get(self.kind)
        return change(page, query) if change else page


NO_FAULT = Fault()


def _empty_page(page: Page, query: Query) -> Page:
    position = query.after or first_cursor(query.sort_by, query.sort_dir)
    same_position = position._replace(copy=position.copy + 1).text()
    return dataclasses.replace(page, leads=[], next_cursor=same_position)


def _repeat_cursor(page: Page, query: Query) -> Page:
    if query.after is None:
        return page
    return dataclasses.replace(page, next_cursor=query.after.text())


def _disorder(page: Page, _query: Query) -> Page:
    return dataclasses.replace(page, leads=page.leads[::-1])


_PAGE_CHANGES: dict[str, Callable[[Page, Query], Page]] = {
    "empty_page": _empty_page,
    "repeat_cursor": _repeat_cursor,
    "disorder": _disorder,
}


class Script:
    """The faults to come, and the number of requests so far."""

    def __init__(self, *faults: Fault) -> None:
        """Start at request 1. If two faults meet, the first in the list happens."""
        self._faults = faults
        self._number = 0

    def next(self) -> Fault:
        """Return the fault that happens to the next request."""
        self._number += 1
        matching = (f for f in self._faults if f.happens_to(self._number))
        return next(matching, NO_FAULT)


def read_fault(text: str) -> Fault:
    """Parse a fault in the syntax of the command line.

    `reset@3` happens to the third request. `503@5x3` happens to the fifth request and
    the two after it, `503@5x*` to all from the fifth on. Options follow a colon:
    `429@2:retry-after=7`, `html@1:status=502`, `body@1:body=[]`,
    `redirect@1:location=http://…`. Raises ValueError if the text is not a fault.
    """
    fault, *options = OPTION.split(text)
    match = FAULT.fullmatch(fault)
    if not match:
        msg = (
            f"{text!r} is not a fault; "
            "write it like reset@3, 503@5x3 or 429@2:retry-after=7"
        )
        raise ValueError(msg)
    kind, at, times = match.groups(default="")
    fields: dict[str, t.Any] = {"status": kind} if kind.isdecimal() else {}
    fields.update(zip(options[::2], options[1::2], strict=True))
    return Fault(
        "error" if kind.isdecimal() else kind.replace("-", "_"),
        at=int(at or 1),
        times=None if times == "*" else int(times or 1),
        status=int(fields.pop("status", 0)) or None,
        **{name.replace("-", "_"): value for name, value in fields.items()},
    )
