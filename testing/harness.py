"""The command, run in this process, by a clock that nobody waits for."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import signal
import typing as t

from tap_mega.tap import TapMega

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import ReadableBuffer

    from testing.clock import FakeClock

    Json: t.TypeAlias = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run of the command left."""

    code: int
    stdout: str
    log: str
    writes: int = 0
    """How often it wrote to stdout."""

    @property
    def lines(self) -> list[str]:
        """The lines, also by the ideas that others have of where one ends."""
        return self.stdout.splitlines()

    @property
    def messages(self) -> list[Json]:
        """The Singer messages; a line that is none fails."""
        return [json.loads(line) for line in self.lines]

    @property
    def records(self) -> list[Json]:
        """The records."""
        return [it["record"] for it in self.messages if it["type"] == "RECORD"]

    @property
    def states(self) -> list[Json]:
        """The values of the STATE messages."""
        return [it["value"] for it in self.messages if it["type"] == "STATE"]

    @property
    def state(self) -> Json:
        """The last of them: what the next run starts from."""
        return self.states[-1]

    @property
    def bookmark(self) -> str | None:
        """The bookmark in it."""
        return t.cast("str | None", bookmark_of(self.state))

    @property
    def schema(self) -> Json:
        """The SCHEMA message."""
        return next(it for it in self.messages if it["type"] == "SCHEMA")

    @property
    def errors(self) -> list[str]:
        """What the log says at the level ERROR, without time and logger."""
        return [
            line.split(" | ", 3)[-1]
            for line in self.log.splitlines()
            if " | ERROR " in line
        ]


def part_of(state: Json) -> Json:
    """Return the part of the only customer in a state."""
    (part,) = state["bookmarks"]["leads"]["partitions"]
    return t.cast("Json", part)


def bookmark_of(state: Json) -> t.Any:
    """Return the bookmark of the only customer in a state; None if it has none."""
    return part_of(state).get("replication_key_value")


class Written(io.BytesIO):
    """Keeps what is written, and counts how often."""

    writes = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes."""
        self.writes += 1
        return super().write(data)


class Command:
    """Runs `tap-mega` in this process: the real command, and quick to start."""

    def __init__(self, folder: Path) -> None:
        """Keep the files that it reads in a folder."""
        self.folder = folder

    def __call__(
        self,
        *arguments: str,
        config: Json | None = None,
        state: object = None,
        catalog: Json | None = None,
        clock: FakeClock | None = None,
        tap: type[TapMega] = TapMega,
    ) -> Run:
        """Run the command with arguments, and with what is given as files."""
        files = {"config": config, "state": state, "catalog": catalog}
        given = [self._option(*item) for item in files.items() if item[1] is not None]
        attributes = {"clock": clock} if clock else {}
        command = t.cast("type[TapMega]", type(tap.__name__, (tap,), attributes))
        written, log = Written(), io.StringIO()
        out = io.TextIOWrapper(written, encoding="utf-8")
        with (
            own_process_settings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(log),
        ):
            code = _exit_code(command, [*arguments, *given])
        out.seek(0)
        return Run(code, out.read(), log.getvalue(), written.writes)

    def _option(self, name: str, content: object) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return f"--{name}={path}"


def _exit_code(command: type[TapMega], arguments: list[str]) -> int:
    try:
        command.cli(args=arguments)
    except SystemExit as end:
        return t.cast("int", end.code)
    msg = "the command returned without an exit code"
    raise AssertionError(msg)


@contextlib.contextmanager
def own_process_settings() -> Iterator[None]:
    """Put back what the command sets for the whole process: logging and signals."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    signals = {number: signal.getsignal(number) for number in (2, 15)}
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        for number, handler in signals.items():
            signal.signal(number, handler)


def full_table(tap: Command) -> Json:
    """Return a catalog that asks for all leads, every time."""
    catalog: Json = json.loads(tap("--discover").stdout)
    stream = catalog["streams"][0]
    stream["replication_method"] = "FULL_TABLE"
    stream["metadata"][-1]["metadata"]["selected"] = True
    return catalog
