"""What makes a fault valid."""

from __future__ import annotations

import re
import typing as t

from sandbox.faults.kinds import CHOICES

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.faults.fault import Fault

MAX_SECONDS = 86_400
RANGES: dict[str, tuple[int, int]] = {
    "at": (1, 10**9),
    "times": (1, 10**9),
    "every": (1, 10**9),
    "delay": (0, MAX_SECONDS),
    "seconds": (-(10**9), 10**9),
    "status": (200, 599),
    "count": (0, 10**9),
    "size": (0, 10**11),
}
JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def find_problems(fault: Fault) -> Iterator[str]:
    """Yield what is wrong with a fault of an existing kind."""
    yield from _invalid_values(fault)
    if fault.every > 1 and fault.times == 1:
        yield "`every` has no effect unless `times` is set"
    if fault.kind != "date" and (fault.seconds or 0) < 0:
        yield "`seconds` is negative"
    if not f"{fault.location}{fault.retry_after}".isprintable():
        yield "a header has control characters"
    if fault.value is not None and not JSON_NUMBER.fullmatch(str(fault.value)):
        yield f"the value {fault.value} is not a JSON number"


def _invalid_values(fault: Fault) -> Iterator[str]:
    for name, (low, high) in RANGES.items():
        value = getattr(fault, name)
        if value is not None and not low <= value <= high:
            yield f"`{name}` is {value}, not {low} to {high}"
    for name, choices in CHOICES.items():
        if getattr(fault, name) not in {None, *choices}:
            yield f"`{name}` is {getattr(fault, name)}, not {', '.join(choices)}"
