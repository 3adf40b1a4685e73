"""`python3 dev.py demo`: leads of a made-up API arrive in a real PostgreSQL."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import signal
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import psycopg
from rich.console import Console

from demo import report
from demo.pipeline import STATE_ID, CommandError, Pipeline, Table, temporary_schema
from demo.postgres import postgres_server
from sandbox import Sandbox

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

LEADS = 2345
CHANGED = 137
NEW = 3
SCHEMA = "mega_demo"

console = Console(highlight=False, soft_wrap=True)


def main(*arguments: str) -> int:
    """Show it all.

    Args:
        arguments: Those of the command; it takes none but `--help`.

    Returns:
        The exit code: 1 when a step failed; which one, why, and its output are printed.
    """
    argparse.ArgumentParser("demo", description=__doc__).parse_args(arguments)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        show()
    except CommandError as error:
        console.print(error.output, markup=False)
        console.print(f"Failed: {error}", style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 128 + signal.SIGINT
    return 0


def _stop(number: int, _frame: FrameType | None) -> t.NoReturn:
    """Leave by way of every `with`."""
    sys.exit(128 + number)


def show() -> None:
    """Load leads, change some, load again, and print what came of it.

    Raises:
        CommandError: A step failed.
    """
    console.print(
        f"[bold]tap-mega[/]: {LEADS:,} made-up leads, from an API on this machine, "
        "with Meltano, into PostgreSQL\n"
    )
    with contextlib.ExitStack() as stack:
        with _step("Start the API and PostgreSQL"):
            sandbox = stack.enter_context(Sandbox(leads=LEADS))
            database_url = stack.enter_context(postgres_server())
            table = stack.enter_context(temporary_schema(database_url, SCHEMA))
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        pipeline = Pipeline(Path(folder), sandbox.config(), database_url, SCHEMA)
        with _step("meltano install tap-mega target-postgres"):
            pipeline.install()
        runs = [_run(pipeline, sandbox, table)]
        with _step(f"Change {CHANGED} leads in the API, and add {NEW}"):
            sandbox.leads.change(CHANGED)
            sandbox.leads.add(NEW)
        runs.append(_run(pipeline, sandbox, table))
        with _step(f"meltano state get {STATE_ID}"):
            bookmark = pipeline.bookmark()
        report.show(console, runs, bookmark, table)


def _run(pipeline: Pipeline, sandbox: Sandbox, table: Table) -> report.Run:
    sandbox.requests.clear()
    start = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    with _step("meltano run tap-mega target-postgres"):
        pipeline.run()
    read = table.select("SELECT 1 FROM leads WHERE _sdc_extracted_at >= %s", start)
    rows = table.select("SELECT 1 FROM leads")
    return report.Run(len(read), len(sandbox.requests), len(rows))


@contextlib.contextmanager
def _step(title: str) -> Iterator[None]:
    """Say what is being done, and how long it took or that it failed."""
    start = time.monotonic()
    try:
        with console.status(title):
            yield
    except (CommandError, OSError, RuntimeError, psycopg.Error) as error:
        console.print(f"[red]✗[/] {title}")
        output = getattr(error, "output", "")
        raise CommandError(str(error), output) from error
    console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - start:.1f} s[/]")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
