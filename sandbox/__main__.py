"""The command line: runs a sandbox until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import sys
import textwrap
import time
import typing as t

from sandbox.control import USAGE
from sandbox.document import LEADS_PATH
from sandbox.fault_kinds import KINDS, PARTS
from sandbox.fault_syntax import read_fault
from sandbox.faults import MAX_SECONDS
from sandbox.rate_limits import Limits
from sandbox.server import DEFAULT_LEADS, Sandbox

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults import Fault

DEFAULT_PORT = 8765
SLEEP_SECONDS = 3600
MAX_REQUESTS = 1000
"""The command runs for a long time, and a request takes about 1 KB of memory."""
FAULTS_HELP = """\
faults: KIND[@AT][xTIMES][:OPTION=VALUE]…
  The fault happens to request number AT (default 1) and to TIMES requests in a row
  (default 1; * means all that follow). If two faults meet, the first one happens.
  Options of every fault:
    every=K         only every K-th request from AT on
    delay=SECONDS   the response is delayed
    customer=WHICH  an index or id; only requests of this customer count
  KIND is a status, such as 503, or one of these, here with options and defaults:
{kinds}
  Examples: reset@3  503@5x3  429@2:retry_after=7  html@1x*:status=502
            502@4x*:every=4  none@2x*:delay=0.3
"""


def main(arguments: t.Sequence[str] | None = None) -> None:
    """Run a sandbox until SIGINT or SIGTERM."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # dev.py blocks it.
    try:
        with _sandbox(options) as sandbox:
            print(_exports(sandbox) if options.env else _welcome(sandbox), flush=True)
            while True:
                time.sleep(SLEEP_SECONDS)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        msg = f"cannot listen on port {options.port}: {reason}"
        sys.exit(f"sandbox: {msg}. Choose another port with --port; 0 means any.")


def _stop(*_: object) -> None:
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sandbox",
        description="Run a local MEGA API with made-up leads.",
        epilog=FAULTS_HELP.format(kinds=_describe_kinds()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    limits = Limits()
    for name, kind, default, text in (
        ("--port", _PORT, DEFAULT_PORT, "port to listen on; 0 means any free port"),
        (
            "--leads",
            _leads,
            DEFAULT_LEADS,
            "number of leads of each customer, or N,N,…",
        ),
        ("--customers", _COUNT, 1, "number of customers"),
        ("--seed", _SEED, 1, "the same seed makes the same leads"),
        ("--requests-per-minute", _COUNT, limits.per_minute, "0 means no limit"),
        ("--requests-per-hour", _COUNT, limits.per_hour, "0 means no limit"),
        ("--delay", _SECONDS, 0, "seconds until each response"),
        ("--clock-offset", _OFFSET, 0, "seconds by which the API's clock is ahead"),
        ("--speed", _SPEED, limits.speed, "at 60, a minute of the limits lasts 1 s"),
    ):
        help_text = f"{text} (default %(default)s)"
        parser.add_argument(
            name, type=kind, default=default, metavar="N", help=help_text
        )
    parser.add_argument(
        "--window",
        choices=("sliding", "fixed"),
        default=limits.window,
        help="how the windows of the limits move (default %(default)s)",
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        help="a fault, see below; can be given several times",
    )
    parser.add_argument(
        "--env",
        action="store_true",
        help="print the configuration as lines for a shell, and nothing else",
    )
    return parser


def _describe_kinds() -> str:
    lines = []
    for name, kind in KINDS.items():
        lines.append(f"    {name:16}{kind.description}")
        options = "  ".join(_describe_option(*item) for item in kind.options.items())
        indent = " " * 20
        lines += textwrap.wrap(
            options, width=88, initial_indent=indent, subsequent_indent=indent
        )
    return "\n".join(lines)


def _describe_option(name: str, default: object) -> str:
    values = " or ".join(PARTS) if name == "part" else default
    return f"{name}={'' if values is None else values}"


def _sandbox(options: argparse.Namespace) -> Sandbox:
    return Sandbox(
        leads=options.leads,
        customers=options.customers,
        seed=options.seed,
        port=options.port,
        limits=Limits(
            options.requests_per_minute,
            options.requests_per_hour,
            options.window,
            options.speed,
        ),
        faults=options.fault,
        delay=options.delay,
        clock_offset=options.clock_offset,
        max_requests=MAX_REQUESTS,
    )


def _number(
    kind: type[int | float], minimum: float, maximum: float
) -> Callable[[str], float]:
    """Return a parser of numbers in this range."""

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not minimum <= number <= maximum:
            msg = f"{text!r} is not a number from {minimum} to {maximum}"
            raise argparse.ArgumentTypeError(msg)
        return number

    return parse


def _leads(text: str) -> float | list[float]:
    counts = [_COUNT(part) for part in text.split(",")]
    return counts if len(counts) > 1 else counts[0]


_COUNT = _number(int, 0, 10**9)
_PORT = _number(int, 0, 65_535)
_SEED = _number(int, -(10**18), 10**18)
_SECONDS = _number(float, 0, MAX_SECONDS)
_OFFSET = _number(float, -(10**9), 10**9)
_SPEED = _number(float, 0.001, 10**6)


def _fault(text: str) -> Fault:
    try:
        return read_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _exports(sandbox: Sandbox) -> str:
    """Return the configuration for the tap as lines that a shell can run."""
    return "\n".join(
        f"export TAP_MEGA_{name.upper()}={shlex.quote(_as_text(value))}"
        for name, value in sandbox.config().items()
    )


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _welcome(sandbox: Sandbox) -> str:
    """Return a configuration for the tap and commands to paste into a shell."""
    url = sandbox.url
    leads = sum(customer.leads.count() for customer in sandbox.customers)
    controls = "\n".join(
        f"  {f'curl -X {method} {url + path!r}':72} # {text}"
        for method, path, text in USAGE
    )
    return f"""\
A MEGA API with {leads:,} made-up leads runs until Ctrl-C. \
Configuration for the tap:

{json.dumps(sandbox.config(), indent=2)}

Send a request:

  curl -H 'Authorization: Bearer {sandbox.token}' \\
    -H 'x-customer-id: {sandbox.customer_id}' \\
    '{url}{LEADS_PATH}?limit=1&include_custom_fields=true'

Control the sandbox:

{controls}
"""


if __name__ == "__main__":
    main()
