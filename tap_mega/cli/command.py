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
from tap_mega.shared.stopping import Stopped, ignore_signals

if t.TYPE_CHECKING:
    from tap_mega.shared.stopping import StopFlag


class MegaCommand(SingerCommand):
    """The command `tap-mega`. It logs a failure as one line that says what to do."""

    def __init__(self, *args: t.Any, stop: StopFlag, **kwargs: t.Any) -> None:
        """Make the command.

        Args:
            *args: Those of the SDK's command.
            stop: Whether a stop signal has arrived.
            **kwargs: Those of the SDK's command.
        """
        super().__init__(*args, **kwargs)
        self._stop = stop

    @override
    def main(self, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        """Run the command and exit: with 0 if all went well, otherwise with 1."""
        code = self._run(*args, **kwargs)
        ignore_signals()
        sys.exit(code or 0)

    def _run(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Run the command, log how it failed, and return the exit code."""
        try:
            code = self._call(*args, **kwargs)
        except Stopped as stop:
            self.logger.warning(
                "Stopped by %s before the end: the next run resumes from its state",
                stop.name,
            )
            return stop.code
        except Exception as error:  # noqa: BLE001 - each becomes a line
            for line in format_error(error):
                self.logger.error("%s", line)  # noqa: TRY400 - without a traceback
            return 1
        return code

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
            self._stop.raise_if_set()
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
