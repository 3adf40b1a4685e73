"""The command: a MEGA API on this machine, until Ctrl-C."""

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
from sandbox.faults import KINDS, Fault, read_fault
from sandbox.quota import Limits
from sandbox.server import DEFAULT_LEADS, Sandbox

DEFAULT_PORT = 8765
LAST_PORT = 65_535
A_LONG_TIME_SECONDS = 3600
VENDOR = Limits()
FAULTS_HELP = """\
faults: WHAT[@AT][xTIMES][:OPTION=VALUE]…
  It happens to the request with number AT (default 1), and to TIMES requests in a
  row (default 1; * = all from then on). WHAT is a status, such as 503, or one of
{kinds}
  Options: status=, body=, location=, retry-after= (seconds, or a date as in HTTP).
  For example: reset@3  503@5x3  429@2:retry-after=7  html@1x*:status=502
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
                time.sleep(A_LONG_TIME_SECONDS)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        what = f"port {options.port} cannot be used: {why}"
        sys.exit(f"sandbox: {what}. Choose another one with --port, or 0 for any.")


def _stop(*_: object) -> None:
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    kinds = (f"    {name.replace('_', '-'):14} {what}" for name, what in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="sandbox",
        description="A MEGA API on this machine, with made-up leads.",
        epilog=FAULTS_HELP.format(kinds="\n".join(kinds)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, kind, default, meaning in (
        ("--port", _port, DEFAULT_PORT, "where it listens; 0 = any free port"),
        ("--leads", _count, DEFAULT_LEADS, "how many leads there are to begin with"),
        ("--seed", int, 1, "the same seed makes the same leads"),
        ("--requests-per-minute", _count, VENDOR.per_minute, "0 = no limit"),
        ("--requests-per-hour", _count, VENDOR.per_hour, "0 = no limit"),
        ("--speed", _speed, VENDOR.speed, "60 = a minute of the limits lasts a second"),
    ):
        told = f"{meaning} (default %(default)s)"
        parser.add_argument(name, type=kind, default=default, metavar="N", help=told)
    parser.add_argument(
        "--window",
        choices=("sliding", "fixed"),
        default=VENDOR.window,
        help="how the limits count a minute and an hour (default %(default)s)",
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        help="what goes wrong, see below; may be given several times",
    )
    return parser


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
    )


def _port(text: str) -> int:
    if not 0 <= int(text) <= LAST_PORT:
        raise ValueError
    return int(text)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        msg = f"{text} is less than 0"
        raise argparse.ArgumentTypeError(msg)
    return number


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        msg = f"{text} is not more than 0"
        raise argparse.ArgumentTypeError(msg)
    return speed


def _fault(text: str) -> Fault:
    try:
        return read_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _welcome(sandbox: Sandbox) -> str:
    """Return what a person needs to use it: configuration, and lines to paste."""
    url = sandbox.url
    controls = "\n".join(
        f"  {f'curl -X {method} {url + path!r}':72} # {what}"
        for method, path, what in USAGE
    )
    return f"""\
A MEGA API with {sandbox.leads.count():,} made-up leads, until Ctrl-C. \
A configuration for the tap:

{json.dumps(sandbox.config(), indent=2)}

Ask it yourself:

  curl -H 'Authorization: Bearer {sandbox.token}' \\
    -H 'x-customer-id: {sandbox.customer_id}' \\
    '{url}{LEADS_PATH}?limit=1&include_custom_fields=true'

Change it:

{controls}
"""


if __name__ == "__main__":
    main()
