"""The command line: runs a sandbox until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import typing as t

from sandbox.control import USAGE
from sandbox.document import LEADS_PATH
from sandbox.fault_kinds import KINDS
from sandbox.fault_syntax import read_fault
from sandbox.faults import MAX_SECONDS
from sandbox.rate_limits import Limits
from sandbox.server import DEFAULT_LEADS, Sandbox

if t.TYPE_CHECKING:
    from sandbox.faults import Fault

DEFAULT_PORT = 8765
MAX_PORT = 65_535
SLEEP_SECONDS = 3600
MAX_REQUESTS = 1000
"""The command runs for a long time, and a request takes about 1 KB of memory."""
FAULTS_HELP = """\
faults: KIND[@AT][xTIMES][:OPTION=VALUE]…
  The fault happens to request number AT (default 1) and to TIMES requests in a row
  (default 1; * means all that follow). With every=K it happens to every K-th request
  from AT on. With delay=SECONDS the response is late. KIND is a status, such as 503,
  or one of these, here with their options and the defaults:
{kinds}
  Examples: reset@3  503@5x3  429@2:retry-after=7  html@1x*:status=502
            502@4x*:every=4  none@2x*:delay=0.3
"""


def main(arguments: t.Sequence[str] | None = None) -> None:
    """Run a sandbox until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with _sandbox(options) as sandbox:
            print(_welcome(sandbox), flush=True)
            while True:
                time.sleep(SLEEP_SECONDS)
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
        ("--port", _port, DEFAULT_PORT, "port to listen on; 0 means any free port"),
        ("--leads", _count, DEFAULT_LEADS, "number of leads at the start"),
        ("--seed", int, 1, "the same seed makes the same leads"),
        ("--requests-per-minute", _count, limits.per_minute, "0 means no limit"),
        ("--requests-per-hour", _count, limits.per_hour, "0 means no limit"),
        ("--delay", _delay, 0, "seconds until each response"),
        ("--speed", _speed, limits.speed, "at 60, a minute of the limits lasts 1 s"),
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
    return parser


def _describe_kinds() -> str:
    lines = []
    for name, kind in KINDS.items():
        lines.append(f"    {name.replace('_', '-'):14} {kind.description}")
        options = (
            option.replace("_", "-") + ("" if default is None else f"={default}")
            for option, default in kind.options.items()
        )
        if kind.options:
            lines.append(f"{'':19}{', '.join(options)}")
    return "\n".join(lines)


def _sandbox(options: argparse.Namespace) -> Sandbox:
    return Sandbox(
        leads=options.leads,
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
        max_requests=MAX_REQUESTS,
    )


def _port(text: str) -> int:
    if not 0 <= int(text) <= MAX_PORT:
        raise ValueError
    return int(text)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        msg = f"{text} is negative"
        raise argparse.ArgumentTypeError(msg)
    return number


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        msg = f"{text} is not a positive number"
        raise argparse.ArgumentTypeError(msg)
    return speed


def _delay(text: str) -> float:
    if not 0 <= float(text) <= MAX_SECONDS:
        raise ValueError
    return float(text)


def _fault(text: str) -> Fault:
    try:
        return read_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _welcome(sandbox: Sandbox) -> str:
    """Return a configuration for the tap and commands to paste into a shell."""
    url = sandbox.url
    controls = "\n".join(
        f"  {f'curl -X {method} {url + path!r}':72} # {text}"
        for method, path, text in USAGE
    )
    return f"""\
A MEGA API with {sandbox.leads.count():,} made-up leads runs until Ctrl-C. \
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
