"""Run the command in this process, on a fake clock if wanted."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import signal
import sys
import typing as t

from singer_sdk.singerlib.json import serialize_json
from typing_extensions import override

from sandbox import Fault, Sandbox
from tap_mega.tap import TapMega

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import ReadableBuffer

    from tap_mega.shared.clock import Clock

    Json: t.TypeAlias = dict[str, t.Any]

FLATTENING: dict[str, t.Any] = {"flattening_enabled": True, "flattening_max_depth": 1}
"""The settings that flatten all objects of a lead."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of a run of the command."""

    code: int
    stdout: str
    log: str
    writes: int = 0
    """The number of writes to stdout."""

    @property
    def lines(self) -> list[str]:
        """The lines of stdout, split at every line boundary that Unicode knows."""
        return self.stdout.splitlines()

    @property
    def messages(self) -> list[Json]:
        """The Singer messages. A line that is not JSON is an error."""
        return [json.loads(line) for line in self.lines]

    @property
    def records(self) -> list[Json]:
        """The records of the RECORD messages."""
        return [it["record"] for it in self.messages if it["type"] == "RECORD"]

    def records_of(self, stream: str) -> list[Json]:
        """Return the records of one stream."""
        return [
            it["record"]
            for it in self.messages
            if it["type"] == "RECORD" and it["stream"] == stream
        ]

    @property
    def leads(self) -> list[Json]:
        """The records as the API sends leads: without `rescued_data` if it is null."""
        return [
            {k: v for k, v in it.items() if k != "rescued_data" or v is not None}
            for it in self.records
        ]

    @property
    def states(self) -> list[Json]:
        """The values of the STATE messages."""
        return [it["value"] for it in self.messages if it["type"] == "STATE"]

    @property
    def state(self) -> Json:
        """The value of the last STATE message, from which the next run starts."""
        return self.states[-1]

    @property
    def bookmark(self) -> str | None:
        """The replication key value in the last state."""
        return t.cast("str | None", bookmark_of(self.state))

    @property
    def schema(self) -> Json:
        """The first SCHEMA message."""
        return next(it for it in self.messages if it["type"] == "SCHEMA")

    @property
    def errors(self) -> list[str]:
        """The log messages of level ERROR, without time and logger."""
        return [
            line.split(" | ", 3)[-1]
            for line in self.log.splitlines()
            if " | ERROR " in line
        ]


def serve(sandbox: Sandbox, *leads: Json) -> None:
    """Let the API answer each request with a page of these leads, the last one."""
    page = {"leads": leads, "next_cursor": None, "total": len(leads)}
    sandbox.script(Fault("body", times=None, body=serialize_json(page)))


def as_record(lead: Json) -> Json:
    """Return the record of a lead that the vendor's document describes."""
    return {**lead, "rescued_data": None}


def part_of(state: Json) -> Json:
    """Return the part of the only customer in a state."""
    (part,) = state["bookmarks"]["leads"]["partitions"]
    return t.cast("Json", part)


def bookmark_of(state: Json) -> t.Any:
    """Return the replication key value of the only customer in a state, or None."""
    return part_of(state).get("replication_key_value") if state else None


def state_of(config: Json, bookmark: object, **more: t.Any) -> Json:
    """Return a state of the only customer of these settings, with a bookmark."""
    part = {
        "context": {"customer_id": config["customer_id"]},
        "api_url": config["api_url"],
        "replication_key": "updated_at",
        "replication_key_value": bookmark,
        **more,
    }
    return {"bookmarks": {"leads": {"partitions": [part]}}}


class Written(io.BytesIO):
    """Keeps the bytes and counts the writes."""

    writes = 0

    @override
    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes."""
        self.writes += 1
        return super().write(data)


class Discarded(Written):
    """Counts the writes and drops the bytes."""

    @override
    def write(self, data: ReadableBuffer, /) -> int:
        """Drop bytes."""
        self.writes += 1
        return memoryview(data).nbytes


class Command:
    """Runs the real `tap-mega` command in this process, which starts fast."""

    def __init__(self, folder: Path, *, keeps_stdout: bool = True) -> None:
        """Set the folder for the command's files.

        Args:
            folder: The folder for the configuration, the state and the catalog.
            keeps_stdout: False drops the messages. A million leads need gigabytes.
        """
        self.folder = folder
        self.keeps_stdout = keeps_stdout

    def __call__(
        self,
        *arguments: str,
        config: Json | None = None,
        state: object = None,
        catalog: Json | None = None,
        clock: Clock | None = None,
        tap: type[TapMega] = TapMega,
    ) -> Run:
        """Run the command. Configuration, state and catalog go into files."""
        files = {"config": config, "state": state, "catalog": catalog}
        options = [self._option(*it) for it in files.items() if it[1] is not None]
        attributes = {"clock": clock} if clock else {}
        command = t.cast("type[TapMega]", type(tap.__name__, (tap,), attributes))
        written = self.new_stdout()
        log = io.StringIO()
        out = io.TextIOWrapper(written, encoding="utf-8")
        with (
            own_process_settings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(log),
        ):
            code = _exit_code(command, [*arguments, *options])
        out.seek(0)
        return Run(code, out.read(), log.getvalue(), written.writes)

    def new_stdout(self) -> Written:
        """Return what takes the messages of a run."""
        return Written() if self.keeps_stdout else Discarded()

    def _option(self, name: str, content: object) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return f"--{name}={path}"


class Sync:
    """Runs the command against a sandbox, on its clock."""

    def __init__(self, tap: Command, sandbox: Sandbox, clock: Clock) -> None:
        """Keep what each run needs."""
        self._tap, self._sandbox, self._clock = tap, sandbox, clock

    def __call__(
        self,
        *arguments: str,
        state: object = None,
        catalog: Json | None = None,
        **settings: t.Any,
    ) -> Run:
        """Run the command with the settings of the sandbox, and with some others."""
        config = {**self._sandbox.config(), **settings}
        files: Json = {"config": config, "state": state, "catalog": catalog}
        return self._tap(*arguments, clock=self._clock, **files)


def _exit_code(command: type[TapMega], arguments: list[str]) -> int:
    try:
        command.cli(args=arguments)
    except SystemExit as end:
        return t.cast("int", end.code)
    msg = "the command returned without an exit code"
    raise AssertionError(msg)


@contextlib.contextmanager
def own_process_settings() -> Iterator[None]:
    """Restore the logging, the hook and the signal handlers of the process."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.unraisablehook
    signals = {number: signal.getsignal(number) for number in (2, 15)}
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.unraisablehook = hook
        for number, handler in signals.items():
            signal.signal(number, handler)


def stream_of(catalog: Json, name: str = "leads") -> Json:
    """Return the entry of a stream in a catalog."""
    (stream,) = [it for it in catalog["streams"] if it["tap_stream_id"] == name]
    return t.cast("Json", stream)


def full_table(tap: Command, config: Json | None = None) -> Json:
    """Return a catalog that selects the leads with full-table replication."""
    catalog = selecting(tap, "leads", config=config)
    stream_of(catalog)["replication_method"] = "FULL_TABLE"
    return catalog


def selecting(tap: Command, *names: str, config: Json | None = None) -> Json:
    """Return a catalog that selects these streams, and no other."""
    catalog: Json = json.loads(tap("--discover", config=config).stdout)
    for stream in catalog["streams"]:
        root = stream["metadata"][-1]["metadata"]
        root["selected"] = stream["tap_stream_id"] in names
    return catalog


def cut(run: Run, killed: float) -> Run:
    """Return what a loader gets of a run that is killed at a share of its bytes."""
    if killed >= 1:
        return run
    whole = run.stdout[: int(len(run.stdout) * killed)].rpartition("\n")[0]
    return Run(-9, whole, "")
