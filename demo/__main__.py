"""Load made-up leads from a sandbox API into PostgreSQL: `python3 dev.py demo`."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import shlex
import signal
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import psycopg
from rich.console import Console

from demo import report
from demo.pipeline import (
    CommandError,
    Pipeline,
    Table,
    postgres_variables,
    temporary_schema,
    with_scheme,
)
from demo.postgres import find_psql, postgres_server
from demo.processes import exit_on_signals
from sandbox import Sandbox

if t.TYPE_CHECKING:
    from collections.abc import Iterator

LEADS = 2345
CHANGED_LEADS = 137
NEW_LEADS = 3
SCHEMA = "mega_demo"

PICTURE_COLUMNS = 90
PICTURE_PIXELS = 450
"""The height of the picture. It is scaled to it."""

console = Console(highlight=False, soft_wrap=True, record=True)


def main(*arguments: str) -> int:
    """Run the demo.

    Args:
        arguments: The command's arguments.

    Returns:
        The exit code. It is 1 if a step fails: the step, its output and the reason
        are printed.
    """
    options = _parser().parse_args(arguments)
    exit_on_signals((signal.SIGHUP, signal.SIGTERM))
    try:
        # dev.py blocks it until Ctrl-C can be handled.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        run_demo(keep=options.keep, picture=options.picture)
    except CommandError as error:
        console.print(error.output, markup=False)
        console.print(f"Failed: {error}", style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("demo", description=__doc__)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the database running until Ctrl-C, and print how to look at it",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write the output as SVG, too"
    )
    return parser


def run_demo(*, keep: bool = False, picture: Path | None = None) -> None:
    """Load leads, change some of them, load again, and print the results.

    Args:
        keep: Whether to keep the database running until Ctrl-C.
        picture: A file to write a picture of the output to.

    Raises:
        CommandError: A step failed.
    """
    console.print(
        f"[bold]tap-mega[/]: Meltano loads {LEADS:,} made-up leads from an API on this "
        "machine into PostgreSQL.\n"
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
        _run(pipeline, sandbox, table)
        with _step(f"Change {CHANGED_LEADS} leads in the API, and add {NEW_LEADS}"):
            sandbox.leads.change(CHANGED_LEADS)
            sandbox.leads.add(NEW_LEADS)
        _run(pipeline, sandbox, table)
        report.show_stages(console, table)
        if picture:
            console.width = PICTURE_COLUMNS
            svg = console.export_svg(title="python3 dev.py demo")
            size = f'<svg height="{PICTURE_PIXELS}" '
            picture.write_text(svg.replace("<svg ", size, 1), encoding="utf-8")
        report.show_latest(console, table)
        console.print(report.NEXT_STEPS)
        if keep:
            keep_running(database_url)


def keep_running(database_url: str) -> None:
    """Print how to look at the database, and wait for Ctrl-C."""
    url = with_scheme("postgresql", database_url)
    query = f"TABLE {SCHEMA}.leads LIMIT 5"
    command = shlex.join((find_psql(), url, "-x", "-c", query))
    console.print("[bold]The database runs until you press Ctrl-C[/]\n")
    console.print("To look at it, run this in another terminal:\n")
    console.print(f"  {command}", markup=False)
    variables = postgres_variables(url, SCHEMA).items()
    settings = " ".join(f"{name}={shlex.quote(it)}" for name, it in variables)
    console.print(f"\nThis makes the view {SCHEMA}_models.mega__funnel, and others:\n")
    console.print(f"  export {settings}", markup=False)
    console.print("  python3 dev.py meltano install dbt-postgres")
    console.print("  python3 dev.py meltano invoke dbt-postgres:build")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    console.print("\nThe database is removed.")


def _run(pipeline: Pipeline, sandbox: Sandbox, table: Table) -> None:
    """Run the pipeline, and print what it read and stored."""
    sandbox.requests.clear()
    started_at = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    with _step("meltano run tap-mega target-postgres"):
        pipeline.run()
    query = "SELECT 1 FROM leads WHERE _sdc_extracted_at >= %s"
    read = len(table.select(query, started_at))
    rows = len(table.select("SELECT 1 FROM leads"))
    console.print(
        f"  [bold]{read:,} leads[/] read with {len(sandbox.requests)} requests; "
        f"the table has {rows:,} rows"
    )


@contextlib.contextmanager
def _step(title: str) -> Iterator[None]:
    """Print the title of a step, then its duration or a mark that it failed."""
    started_at = time.monotonic()
    try:
        with console.status(title):
            yield
    except (CommandError, OSError, RuntimeError, psycopg.Error) as error:
        console.print(f"[red]✗[/] {title}")
        output = getattr(error, "output", "")
        raise CommandError(str(error), output) from error
    console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - started_at:.1f} s[/]")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
