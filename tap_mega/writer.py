"""Singer messages to stdout, in whole lines whatever happens."""

from __future__ import annotations

import os
import sys
import typing as t

from singer_sdk.exceptions import FatalSyncError
from singer_sdk.io_base import SingerWriter

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.singerlib.encoding.simple import Message

BROKEN_PIPE_EXIT_CODE = 141
"""128 + SIGPIPE: what a shell reports of a program whose reader went away."""


class MegaWriter(SingerWriter):
    """Writes a message a line, and lets nothing come between its bytes."""

    def __init__(self) -> None:
        """Start idle."""
        super().__init__()
        self._busy = False
        self._afterwards: Callable[[], object] | None = None

    def when_idle(self, action: Callable[[], object]) -> None:
        """Do something at once, or as soon as the line that is being written is out.

        For signal handlers: they interrupt a write that waits for a slow reader.
        """
        if self._busy:
            self._afterwards = action
        else:
            action()

    def write_message(self, message: Message) -> None:
        """Write a message to stdout.

        Raises:
            SystemExit: If nobody reads any more; quietly, with code 141.
            FatalSyncError: If it cannot be written, as where the disk is full.
        """
        self._busy = True
        try:
            self._write(f"{self.format_message(message)}\n".encode())
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

    def _write(self, line: bytes) -> None:
        """Write all of a line.

        With PYTHONUNBUFFERED a signal makes Python write a part only, and say so.
        """
        rest = memoryview(line)
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()
