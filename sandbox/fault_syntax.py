"""The syntax of faults on the command line and in control requests."""

from __future__ import annotations

import re
import typing as t

from sandbox.fault_kinds import KIND_OPTIONS, KINDS
from sandbox.faults import Fault

FAULT = re.compile(r"([a-z_]+|\d{3})(?:@(-?\d+))?(?:x(-?\d+|\*))?")
OPTION_TYPES: dict[str, t.Callable[[str], object]] = {
    **dict.fromkeys(KIND_OPTIONS, str),
    "status": int,
    "count": int,
    "size": int,
    "off_by": int,
    "seconds": float,
    "customer": str,
    "every": int,
    "delay": float,
}
OPTION = re.compile(f":({'|'.join(OPTION_TYPES)})=")


def read_fault(text: str) -> Fault:
    """Parse a fault in the syntax of the command line.

    `reset@3` happens to the third request. `503@5x3` happens to the fifth request and
    the two after it, `503@5x*` to all from the fifth on, and `503@5x*:every=3` to
    every third request from the fifth on. Other options follow a colon, too:
    `429@2:retry_after=7`, `html@1:status=502`, `body@1:body=[]`,
    `redirect@1:location=http://…`. Raises ValueError if the text is not a fault.
    """
    head, *rest = OPTION.split(text)
    match = FAULT.fullmatch(head)
    if not match:
        raise ValueError(_syntax_error(text, head))
    kind, at, times = match.groups()
    pairs = list(zip(rest[::2], rest[1::2], strict=True))
    if kind.isdecimal():
        kind, pairs = "error", [("status", kind), *pairs]
    options = _read_options(text, pairs)
    fault = Fault(
        kind,
        int(at or 1),
        None if times == "*" else int(times or 1),
        **options,
    )
    for name in set(options) & set(KIND_OPTIONS) - set(KINDS[fault.kind].options):
        msg = f"{text!r}: the kind {kind} has no option {name}"
        raise ValueError(msg)
    return fault


def _syntax_error(text: str, head: str) -> str:
    _, colon, option = head.partition(":")
    if colon:
        names = ", ".join(OPTION_TYPES)
        return f"{text!r} has no valid option at {option!r}; the options are {names}"
    return f"{text!r} is not a fault; write it like reset@3 or 429@2x5:retry-after=7"


def _read_options(text: str, pairs: list[tuple[str, str]]) -> dict[str, t.Any]:
    values: dict[str, t.Any] = {}
    for name, value in pairs:
        if name in values:
            msg = f"{text!r} has two values for {name}"
            raise ValueError(msg)
        try:
            values[name] = OPTION_TYPES[name](value)
        except ValueError:
            msg = f"{text!r} has a value for {name} that is not a number"
            raise ValueError(msg) from None
    return values
