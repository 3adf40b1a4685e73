"""A fault, and the script of faults."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from sandbox.faults.kinds import KINDS
from sandbox.faults.rules import find_problems

if t.TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Fault:
    """A failure that happens to the `at`-th request for leads.

    Requests are numbered from 1. The numbers start again at each call of
    `Sandbox.script()`. Requests without valid credentials count, too. If two faults
    meet, the first one in the script happens. Options that the kind does not have are
    ignored.
    """

    kind: str = "none"
    """One of KINDS, which describes each."""
    at: int = 1
    """The number of the first request that it happens to."""
    times: int | None = 1
    """How many times it happens. None means that it does not end."""
    _: dataclasses.KW_ONLY
    every: int = 1
    """It happens to every so many requests from `at` on. 1 means all of them."""
    customer: int | str | None = None
    """The index or id of a customer. Only requests of this customer count."""
    delay: float = 0
    """Seconds until the response, in real time."""
    status: int | None = None
    body: str = ""
    """A byte that is not valid UTF-8 is a surrogate escape: 0xff is "\\udcff"."""
    location: str = "/"
    retry_after: str | int | None = None
    """The Retry-After header: seconds or an HTTP date."""
    count: int | None = None
    """A number of leads or of requests."""
    value: float | str | None = None
    """A JSON number. Text can hold what no Python number can, such as 1e400."""
    lead: str | None = None
    """Raw JSON. Surrogate escapes are allowed as in `body`."""
    quotes: str | None = None
    """What the message quotes: one of CHOICES."""
    part: str | None = None
    """The part of the response that is slow: one of CHOICES."""
    size: int | None = None
    """A number of bytes."""
    seconds: float | None = None
    """An interval in real time, or the error of a date."""
    before: Callable[[], object] | None = None
    """Called in the server's thread just before the response is made."""

    def __post_init__(self) -> None:
        """Raise ValueError if the kind or the value of a field is invalid."""
        if self.kind not in KINDS:
            msg = f"no fault is called {self.kind!r}: choose from {', '.join(KINDS)}"
            raise ValueError(msg)
        for problem in find_problems(self):
            msg = f"fault {self.kind}: {problem}"
            raise ValueError(msg)

    def option(self, name: str) -> t.Any:
        """Return the value of an option, or the default of this kind."""
        value = getattr(self, name)
        return KINDS[self.kind].options[name] if value is None else value

    def happens_to(self, number: int) -> bool:
        """Return whether it happens to the request with this number."""
        since, rest = divmod(number - self.at, self.every)
        return rest == 0 and 0 <= since < (self.times or float("inf"))


NO_FAULT = Fault()


class Script:
    """The faults to come, and the numbers of requests so far."""

    def __init__(self, *faults: Fault) -> None:
        """Start at request 1. The customers of the faults are ids."""
        self._faults = faults
        self._numbers: collections.Counter[int | str | None] = collections.Counter()

    def next(self, customer: str | None) -> tuple[Fault, int]:
        """Return the fault that happens to the next request of this customer.

        The second value is the number of the request.
        """
        self._numbers.update({None, customer})
        for fault in self._faults:
            counts = fault.customer in {None, customer}
            if counts and fault.happens_to(self._numbers[fault.customer]):
                return fault, self._numbers[fault.customer]
        return NO_FAULT, self._numbers[None]
