"""Measure how long rows and states take to be stored: `python -m benchmarks.latency`.

The real tap reads from a sandbox at the API's own limits, and the real loader stores
in PostgreSQL, with the settings of meltano.yml but two. All of them go by a clock that
is faster than the real one: waits are shorter, and so is the loader's own interval
between two states. Work is not faster, so it counts more than it would.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path
from statistics import median

import psycopg
from typing_extensions import override

from benchmarks.report import format_table, make_parser, publish
from benchmarks.runs import PAGE_SIZE, ROOT, print_progress
from demo.pipeline import Pipeline, read_project, temporary_schema, with_scheme
from demo.postgres import postgres_server
from demo.processes import environment_without, exit_on_signals
from sandbox import Sandbox
from testing.harness import Command, Discarded

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

    from demo.pipeline import Table
    from testing.harness import Json

LEADS = 110_000
SPEED = 20
SCHEMA = "mega_latency"
LOADER = ROOT / ".meltano" / "loaders" / "target-postgres" / "venv" / "bin" / "python"
RUN_LOADER = """
import sys
from target_postgres.target import TargetPostgres
TargetPostgres._MAX_RECORD_AGE_IN_MINUTES /= int(sys.argv.pop(1))
TargetPostgres.cli()
"""
POLL_SECONDS = 0.05
HOURLY_WAIT = 300
LONG_WAIT = 3900
CONDITIONS = """\
{leads:,} leads, at 60 requests per minute and 1,000 per hour. Scaled: the clock of the
API and of the tap, and the loader's interval between states, were {speed} times faster
than real time, and the seconds are theirs. Work was not faster: each second of it
counts as {speed}."""
RUNS = [(rows, wait) for wait in (LONG_WAIT, HOURLY_WAIT) for rows in (10_000, 6_000)]


class FastClock:
    """A clock that is faster than the real one by a factor."""

    def __init__(self, speed: int) -> None:
        """Start at the real time."""
        self._speed = speed
        self._started_at = time.time()
        self._monotonic = time.monotonic()

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self._started_at + self.monotonic()

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return (time.monotonic() - self._monotonic) * self._speed

    def sleep(self, seconds: float, /) -> None:
        """Wait, for a fraction of the seconds."""
        time.sleep(seconds / self._speed)


class Latency(t.NamedTuple):
    """For each page, the seconds until it was stored."""

    rows: list[float]
    """Until its rows were visible."""
    states: list[float]
    """Until the loader handed on a state behind it."""


class Observer(Discarded):
    """Passes the output of the tap on, and notes when what was where.

    A list has a moment and a number of leads in each entry.
    """

    def __init__(self, loader: subprocess.Popen[bytes], clock: FastClock) -> None:
        """Start with nothing read."""
        super().__init__()
        self._loader, self._clock = loader, clock
        self._pipe = t.cast("t.IO[bytes]", loader.stdin)
        self._leads_of_state: dict[str, int] = {}
        self.pages: list[tuple[float, int]] = []
        self.visible: list[tuple[float, int]] = []
        self.stored: list[tuple[float, int]] = []

    @override
    def write(self, data: ReadableBuffer, /) -> int:
        """Note how many leads were read so far, and pass them on."""
        lines = bytes(data).splitlines()
        records = sum(line.startswith(b'{"type":"RECORD"') for line in lines)
        leads = (self.pages[-1][1] if self.pages else 0) + records
        if records:
            self.pages.append((self._clock.monotonic(), leads))
        message = json.loads(lines[-1])
        if message["type"] == "STATE":
            self._leads_of_state[json.dumps(message["value"])] = leads
        self._pipe.write(data)
        self._pipe.flush()
        return super().write(data)

    def end(self) -> None:
        """Tell the loader that this was all."""
        self._pipe.close()

    def watch_states(self) -> None:
        """Note the states that the loader hands on, until it ends."""
        for line in self._loader.stdout or ():
            leads = self._leads_of_state[json.dumps(json.loads(line))]
            self.stored.append((self._clock.monotonic(), leads))

    def watch_rows(self, table: Table) -> None:
        """Note how many rows are visible, until the loader has ended."""
        is_running = True
        while is_running:
            is_running = self._loader.poll() is None
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                (row,) = table.select("SELECT count(*) FROM leads")
                self.visible.append((self._clock.monotonic(), row["count"]))
            time.sleep(POLL_SECONDS)

    def latency(self) -> Latency:
        """Return how long the pages took that were read in the first hour."""
        pages = [it for it in self.pages if it[1] <= 1000 * PAGE_SIZE]
        return Latency(
            [_first(self.visible, leads) - at for at, leads in pages],
            [_first(self.stored, leads) - at for at, leads in pages],
        )


def _first(moments: list[tuple[float, int]], leads: int) -> float:
    """Return the first moment at which there were so many leads."""
    return next(at for at, count in moments if count >= leads)


class PipedCommand(Command):
    """The real command with its output in a pipe."""

    def __init__(self, folder: Path, observer: Observer) -> None:
        """Set the pipe."""
        super().__init__(folder)
        self._observer = observer

    @override
    def new_stdout(self) -> Observer:
        """Return the pipe."""
        return self._observer


def main() -> None:
    """Measure, and print the table."""
    options = make_parser(__doc__, leads=LEADS, speed=SPEED).parse_args()
    exit_on_signals()
    rows = []
    with postgres_server() as url, tempfile.TemporaryDirectory() as folder:
        Pipeline(Path(folder), {}, url, SCHEMA).install()
        for batch, wait in RUNS:
            print_progress(f"batch_size_rows {batch}, max_wait_seconds {wait}")
            latency = measure(url, options.leads, options.speed, batch, wait)
            rows.append(format_latency(batch, wait, latency))
    table = format_table(rows)
    conditions = CONDITIONS.format(leads=options.leads, speed=options.speed)
    publish("latency", f"{table}\n{conditions}\n", write=options.write)


def measure(url: str, leads: int, speed: int, batch: int, wait: int) -> Latency:
    """Load once, and return how long the pages took.

    Raises:
        SystemExit: The tap failed.
    """
    clock = FastClock(speed)
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_schema(url, SCHEMA) as table,
        Sandbox(leads=leads, clock=clock.time) as sandbox,
        started_loader(Path(folder), url, speed, batch) as loader,
    ):
        observer = Observer(loader, clock)
        watches = [
            threading.Thread(target=observer.watch_states),
            threading.Thread(target=observer.watch_rows, args=[table]),
        ]
        for watch in watches:
            watch.start()
        config: Json = {**sandbox.config(), "max_wait_seconds": wait}
        run = PipedCommand(Path(folder), observer)(config=config, clock=clock)
        observer.end()
        for watch in watches:
            watch.join()
    if run.code != 0:
        sys.exit(f"tap-mega failed with exit code {run.code}: {run.errors}")
    return observer.latency()


@contextlib.contextmanager
def started_loader(
    folder: Path, url: str, speed: int, batch: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start target-postgres as meltano.yml has it, with a shorter interval."""
    plugins = read_project()["plugins"]["loaders"]
    (plugin,) = (it for it in plugins if it["name"] == "target-postgres")
    config = {
        **plugin["config"],
        "sqlalchemy_url": with_scheme("postgresql+psycopg", url),
        "default_target_schema": SCHEMA,
        "batch_size_rows": batch,
    }
    file = folder / "target.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    with subprocess.Popen(
        [LOADER, "-c", RUN_LOADER, str(speed), "--config", file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment_without(("PG", "TARGET_")),
    ) as loader:
        try:
            yield loader
        finally:
            loader.kill()


def format_latency(batch: int, wait: int, latency: Latency) -> dict[str, str]:
    """Return the median and the maximum of the pages."""
    rows, states = latency
    return {
        "`batch_size_rows`": f"{batch:,}",
        "`max_wait_seconds`": f"{wait:,}",
        "rows visible, median": f"{median(rows):.0f} s",
        "longest": f"{max(rows):,.0f} s",
        "state stored, median": f"{median(states):.0f} s",
        "longest ": f"{max(states):,.0f} s",
    }


if __name__ == "__main__":
    main()
