"""The command line: one line for each failure, signals, exit codes."""

from __future__ import annotations

import logging
import sys
import typing as t

import click
from singer_sdk.plugin_base import SingerCommand
from typing_extensions import override

from tap_mega.cli.messages import format_error
from tap_mega.records.writer import BROKEN_PIPE_EXIT_CODE, flush_stdout
from tap_mega.shared.stopping import StopFlag, Stopped, ignore_signals


class MegaCommand(SingerCommand):
    """The command `tap-mega`. It logs a failure as one line that says what to do."""

    stop = StopFlag()
    """Whether a stop signal has arrived."""

    @override
    def main(self, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        """Run the command and exit: with 0 if all went well, otherwise with 1."""
        try:
            code = self._call(*args, **kwargs)
        except Stopped as stop:
            self.logger.warning(
                "Stopped by %s before the end: the next run resumes from its state",
                stop.name,
            )
            code = stop.code
        except Exception as error:  # noqa: BLE001 - each becomes a line
            for line in format_error(error):
                self.logger.error("%s", line)  # noqa: TRY400 - without a traceback
            code = 1
        ignore_signals()
        sys.exit(code or 0)

    def _call(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Run the command, and return the exit code."""
        stdout = sys.stdout
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except OSError:
            flush_stdout()  # It fails for what Click could not print.
            raise
        except SystemExit as end:
            # A signal counts, even if it has ended the loader, too.
            self.stop.raise_if_set()
            if sys.stdout is not stdout:  # Click replaces it if the reader is gone.
                return BROKEN_PIPE_EXIT_CODE
            code = end.code
        flush_stdout()
        return code

    @override
    def invoke(self, ctx: click.Context) -> t.Any:
        """Invoke the command, and leave its errors to `main`."""
        logging.captureWarnings(capture=True)
        return click.Command.invoke(self, ctx)
