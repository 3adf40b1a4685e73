"""A fault, and the script of faults."""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

from sandbox.faults.kinds import KIND_OPTIONS, KINDS

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MAX_SECONDS = 86_400
MIN_STATUS, MAX_STATUS = 200, 599
JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
STATUS_RANGE = f"{MIN_STATUS} to {MAX_STATUS}"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A failure that happens to the `at`-th request for leads.

    Requests are numbered from 1. The numbers start again at each call of
    `Sandbox.script()`. Requests without valid credentials count, too. If two faults
    meet, the first one in the script happens.
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
    before: Callable[[], object] | None = None
    """Called in the server's thread just before the response is made."""

    def __post_init__(self) -> None:
        """Raise ValueError if the kind or the value of a field is invalid."""
        if self.kind not in KINDS:
            msg = f"no fault is called {self.kind!r}: choose from {', '.join(KINDS)}"
            raise ValueError(msg)
        for valid, problem in self._rules():
            if not valid:
                msg = f"fault {self.kind}: {problem}"
                raise ValueError(msg)

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """Yield conditions of valid faults, each with the problem if it is false."""
        for field in dataclasses.fields(self):
            if (
                field.name in KIND_OPTIONS
                and field.name not in KINDS[self.kind].options
            ):
                unset = getattr(self, field.name) == field.default
                yield unset, f"this kind has no option {field.name}"
        yield self.at >= 1, f"`at` is {self.at}, not 1 or more"
        valid_times = self.times is None or self.times >= 1
        yield valid_times, f"`times` is {self.times}, not 1 or more"
        yield self.every >= 1, f"`every` is {self.every}, not 1 or more"
        every_without_times = self.every > 1 and self.times == 1
        yield not every_without_times, "`every` has no effect unless `times` is set"
        yield 0 <= self.delay <= MAX_SECONDS, f"a delay of {self.delay} s is invalid"
        valid_status = self.status is None or MIN_STATUS <= self.status <= MAX_STATUS
        yield valid_status, f"status {self.status} is not in {STATUS_RANGE}"
        yield self.count is None or self.count >= 0, f"`count` is {self.count}"
        value = "0" if self.value is None else str(self.value)
        valid_value = JSON_NUMBER.fullmatch(value) is not None
        yield valid_value, f"the value {value} is not a JSON number"
        headers = f"{self.location}{self.retry_after}"
        yield headers.isprintable(), "a header has control characters"

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
