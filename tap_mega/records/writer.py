"""Singer messages to stdout: a page at a time, and always in whole lines."""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.exceptions import FatalSyncError
from singer_sdk.singerlib import RecordMessage, StateMessage
from typing_extensions import override

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from singer_sdk.singerlib.encoding.simple import Message

BROKEN_PIPE_EXIT_CODE = 141
"""128 + SIGPIPE: what a shell reports if the reader closes the pipe."""

LINE_ENDS = {it.encode(): f"\\u{ord(it):04x}".encode() for it in "\x85\u2028\u2029"}


class MegaWriter(MsgSpecWriter):
    """Writes one message per line.

    It keeps records until a message of another kind, such as the STATE that follows a
    page, and writes all of them at once. Stop signals raise nothing, so that no line is
    ever cut short.
    """

    def __init__(self) -> None:
        """Start with nothing to write."""
        super().__init__()
        self._lines: list[bytes] = []

    @override
    def write_message(self, message: Message) -> None:
        """Write a message to stdout; keep a record until the next other message.

        Raises:
            SystemExit: As `flush`.
            FatalSyncError: As `flush`.
        """
        line = bytes(self.format_message(message))  # The buffer is used again.
        self._lines.append(line if line.isascii() else escape_line_ends(line))
        if not isinstance(message, RecordMessage):
            self.flush()

    def flush(self) -> None:
        """Write all lines that were kept.

        Raises:
            SystemExit: As `stdout_errors`.
            FatalSyncError: As `stdout_errors`.
        """
        lines, self._lines = self._lines, []
        with stdout_errors():
            self._write(b"".join(lines))

    def _write(self, lines: bytes) -> None:
        """Write all bytes.

        With PYTHONUNBUFFERED, a signal can interrupt a write, which then returns how
        many bytes it wrote.
        """
        rest = memoryview(lines)
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()


class MegaStateWriter:
    """Writes each state once. The SDK's own writer copies them to compare."""

    def __init__(self, writer: MegaWriter) -> None:
        """Use a writer of messages."""
        self._writer = writer
        self._last: object = None

    def write_state(self, state: t.Any) -> None:
        """Write the records so far, and the state if it is another object."""
        if not state or state is self._last:
            self._writer.flush()
            return
        self._last = state
        self._writer.write_message(StateMessage(state))


def flush_stdout() -> None:
    """Flush the buffer of `print`.

    Raises:
        SystemExit: As `stdout_errors`.
        FatalSyncError: As `stdout_errors`.
    """
    with stdout_errors():
        sys.stdout.flush()


@contextlib.contextmanager
def stdout_errors() -> Iterator[None]:
    """Translate the errors of a write to stdout.

    Raises:
        SystemExit: With code 141, if the reader has closed the pipe.
        FatalSyncError: If the write fails, for example on a full disk.
    """
    if not sys.stdout:  # Python sets it to None if it is closed.
        msg = "Cannot write to stdout: it is closed"
        raise FatalSyncError(msg)
    try:
        yield
    except OSError as error:
        # Otherwise Python flushes again at exit and fails.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(BROKEN_PIPE_EXIT_CODE)
        msg = f"Cannot write to stdout: {error.strerror}"
        raise FatalSyncError(msg) from None


def escape_line_ends(line: bytes) -> bytes:
    """Return a line of JSON without the line ends of Unicode.

    `str.splitlines` and Node's readline end a line at these characters, too.
    """
    for character, escape in LINE_ENDS.items():
        line = line.replace(character, escape)
    return line
