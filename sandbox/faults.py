"""Bad days: what goes wrong with which request."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from sandbox.answers import Answer, refusal
from sandbox.cursors import start_of
from sandbox.document import InvalidRequestError

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.pages import Page, Question

HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>proxy</body></html>"

# Instead of the API's answer; the request is not counted by the quota.
INSTEAD = {
    "error": "`status` with the API's error envelope",
    "html": "`status` with a page of HTML, as proxies send it",
    "redirect": "`status` (default 302) with `location`",
    "body": "`status` (default 200) with `body` as application/json",
    "reset": "the connection is reset before any byte of an answer",
    "hang": "no answer until the client goes away or the sandbox ends",
}
# The API answers, and its answer is spoiled.
SPOILED = {
    "none": "nothing; for `before`",
    "truncate": "the connection ends in the middle of the body",
    "empty_page": "no leads, and a next_cursor from which they come",
    "repeat_cursor": "next_cursor is the cursor that was sent",
    "refuse_cursor": "400 if the request has a cursor",
    "disorder": "the leads of the page come the other way round",
}
KINDS = {**INSTEAD, **SPOILED}
OPTION = re.compile(r":(status|retry-after|location|body)=")
FAULT = re.compile(r"([a-z_-]+|[1-5]\d\d)(?:@([1-9]\d*))?(?:x([1-9]\d*|\*))?")
DEFAULT_STATUS = {"error": 503, "html": 502, "redirect": 302, "body": 200}


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that happens to the `at`-th request for leads, and those after it.

    Requests are counted from 1, from the start or from `Sandbox.script()`, whether
    they are authorised or not.
    """

    kind: str = "none"
    """One of KINDS, which says what each does."""
    at: int = 1
    """The first request that it happens to."""
    times: int | None = 1
    """How many requests in a row it happens to; None = all from then on."""
    _: dataclasses.KW_ONLY
    status: int | None = None
    body: str = ""
    """A byte that is no UTF-8 is written as Python reads it: 0xff is "\\udcff"."""
    location: str = "/"
    retry_after: str | int | None = None
    """The Retry-After header: seconds, or a date as HTTP writes it."""
    before: Callable[[], object] | None = None
    """Called in the server's thread just before the request is answered."""

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist."""
        if self.kind not in KINDS:
            msg = f"no fault is called {self.kind!r}: choose from {', '.join(KINDS)}"
            raise ValueError(msg)

    def happens_to(self, number: int) -> bool:
        """Tell whether it happens to the request with this number."""
        last = float("inf") if self.times is None else self.at + self.times - 1
        return self.at <= number <= last

    def answer(self) -> Answer:
        """Return what is sent instead of the API's answer."""
        status = self.status or DEFAULT_STATUS[self.kind]
        headers = (
            {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        )
        if self.kind == "error":
            return refusal(status, "scripted by the sandbox", headers)
        if self.kind == "html":
            return Answer(status, HTML.format(status).encode(), headers, "text/html")
        if self.kind == "redirect":
            headers["Location"] = self.location
        return Answer(status, self.body.encode(errors="surrogateescape"), headers)

    def check(self, question: Question) -> None:
        """Raise InvalidRequestError if the question's cursor is to be refused."""
        if self.kind == "refuse_cursor" and question.after:
            msg = "cursor is not accepted any more"
            raise InvalidRequestError(msg)

    def spoil(self, page: Page, question: Question) -> Page:
        """Return the page as the client gets it."""
        spoil = _SPOILERS.get(self.kind)
        return spoil(page, question) if spoil else page


NO_FAULT = Fault()


def _empty(page: Page, question: Question) -> Page:
    here = question.after or start_of(question.sort_by, question.sort_dir)
    again = here._replace(copy=here.copy + 1).text()
    return dataclasses.replace(page, leads=[], next_cursor=again)


def _repeat(page: Page, question: Question) -> Page:
    if question.after is None:
        return page
    return dataclasses.replace(page, next_cursor=question.after.text())


def _disorder(page: Page, _question: Question) -> Page:
    return dataclasses.replace(page, leads=page.leads[::-1])


_SPOILERS: dict[str, Callable[[Page, Question], Page]] = {
    "empty_page": _empty,
    "repeat_cursor": _repeat,
    "disorder": _disorder,
}


class Script:
    """Faults, and how many requests there have been."""

    def __init__(self, *faults: Fault) -> None:
        """Count from the beginning. Where two faults meet, the first one happens."""
        self._faults = faults
        self._number = 0

    def next(self) -> Fault:
        """Return what happens to the next request."""
        self._number += 1
        happening = (f for f in self._faults if f.happens_to(self._number))
        return next(happening, NO_FAULT)


def read_fault(text: str) -> Fault:
    """Return the fault that a text describes, as the command line takes it.

    `reset@3`: the third request. `503@5x3`: the fifth and the two after it; `x*`: all
    from then on. `429@2:retry-after=7`, `html@1:status=502`, `body@1:body=[]`,
    `redirect@1:location=http://…`: with options. Raises ValueError when it is none.
    """
    fault, *options = OPTION.split(text)
    matched = FAULT.fullmatch(fault)
    if not matched:
        msg = (
            f"no fault: {text!r}; write it like reset@3, 503@5x3 or 429@2:retry-after=7"
        )
        raise ValueError(msg)
    kind, at, times = matched.groups(default="")
    given: dict[str, t.Any] = {"status": kind} if kind.isdecimal() else {}
    given.update(zip(options[::2], options[1::2], strict=True))
    return Fault(
        "error" if kind.isdecimal() else kind.replace("-", "_"),
        at=int(at or 1),
        times=None if times == "*" else int(times or 1),
        status=int(given.pop("status", 0)) or None,
        **{name.replace("-", "_"): value for name, value in given.items()},
    )
