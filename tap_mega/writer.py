"""Singer messages to stdout: a page at a time, in whole lines whatever happens."""

from __future__ import annotations

import os
import sys
import typing as t

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.exceptions import FatalSyncError
from singer_sdk.singerlib import RecordMessage
from singer_sdk.singerlib.json import serialize_json

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.singerlib.encoding.simple import Message

BROKEN_PIPE_EXIT_CODE = 141
"""128 + SIGPIPE: what a shell reports of a program whose reader went away."""

LINE_ENDS = {it.encode(): f"\\u{ord(it):04x}".encode() for it in "\x85\u2028\u2029"}


class MegaWriter(MsgSpecWriter):
    """Writes a message a line, and lets nothing come between its bytes.

    Records wait for a message of another kind, such as the STATE that follows a page,
    and go out with it in one write.
    """

    def __init__(self) -> None:
        """Start idle, with nothing to write."""
        super().__init__()
        self._lines: list[bytes] = []
        self._busy = False
        self._afterwards: Callable[[], object] | None = None

    def when_idle(self, action: Callable[[], object]) -> None:
        """Do something at once, or as soon as the lines that go out are out.

        For signal handlers: they interrupt a write that waits for a slow reader.
        """
        if self._busy:
            self._afterwards = action
        else:
            action()

    def write_message(self, message: Message) -> None:
        """Write a message to stdout, or keep it for the next one if it is a record.

        Raises:
            SystemExit: As `flush`.
            FatalSyncError: As `flush`.
        """
        line = bytes(self.format_message(message))  # of a buffer that is used again
        self._lines.append(line if line.isascii() else escape_line_ends(line))
        if not isinstance(message, RecordMessage):
            self.flush()

    def serialize_message(self, message: Message) -> bytearray:
        """Return a message as a line of JSON."""
        try:
            return super().serialize_message(message)
        except UnicodeEncodeError:  # half an emoji, which only an escape can write
            return bytearray(f"{serialize_json(message.to_dict())}\n", "ascii")

    def flush(self) -> None:
        """Write all that waits.

        Raises:
            SystemExit: If nobody reads any more; quietly, with code 141.
            FatalSyncError: If it cannot be written, as where the disk is full.
        """
        self._busy = True
        try:
            lines, self._lines = self._lines, []
            self._write(b"".join(lines))
        except OSError as error:
            # Else Python would try once more at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                sys.exit(BROKEN_PIPE_EXIT_CODE)
            msg = f"Cannot write to stdout: {error.strerror}"
            raise FatalSyncError(msg) from None
        finally:
            self._busy = False
        if self._afterwards:
            action, self._afterwards = self._afterwards, None
            action()

    def _write(self, lines: bytes) -> None:
        """Write all of it.

        With PYTHONUNBUFFERED a signal makes Python write a part only, and say so.
        """
        if not sys.stdout:  # None is what Python makes of one that is closed
            msg = "Cannot write to stdout: it is closed"
            raise FatalSyncError(msg)
        rest = memoryview(lines)
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()


def escape_line_ends(line: bytes) -> bytes:
    """Return a line of JSON that is one line also to readers who go by Unicode.

    `str.splitlines` and Node's readline end a line at more than a line feed.
    """
    for character, escape in LINE_ENDS.items():
        line = line.replace(character, escape)
    return line
