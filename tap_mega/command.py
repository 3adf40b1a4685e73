"""The command line: one line for each failure, signals, exit codes."""

from __future__ import annotations

import io
import json
import logging
import pathlib
import sys
import traceback
import typing as t

import click
from singer_sdk import mapper
from singer_sdk.exceptions import (
    ConfigValidationError,
    FatalSyncError,
    SingerSDKError,
)
from singer_sdk.plugin_base import SingerCommand
from typing_extensions import override

from tap_mega.config.validation import config_error
from tap_mega.stopping import Stopped, ignore_signals
from tap_mega.sync import CustomersFailedError

if t.TYPE_CHECKING:
    from collections.abc import Callable


class MegaCommand(SingerCommand):
    """The command `tap-mega`. It logs a failure as one line that says what to do."""

    @override
    def main(self, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        """Run the command and exit: with 0 if all went well, otherwise with 1."""
        try:
            code = self._run(*args, **kwargs)
            ignore_signals()  # In here, so that no signal is missed.
        except Stopped as stop:
            code = stop.code
            self._clean_up(stop)
            ignore_signals()
        sys.exit(code or 0)

    def _run(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Run the command, log its failure, and return the exit code."""
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": False})
        except Stopped:
            raise
        except SystemExit as end:
            return end.code
        except Exception as error:  # noqa: BLE001 - each becomes a line
            for line in format_error(error):
                self.logger.error("%s", line)  # noqa: TRY400 - without a traceback
            return 1

    def _clean_up(self, stop: Stopped) -> None:
        """Write what is left to write. No error changes the exit code any more."""
        try:
            stop.clean_up()
        except FatalSyncError as error:
            self.logger.error("%s", error)  # noqa: TRY400 - without a traceback
        except SystemExit:
            pass  # The loader was stopped, too, and reads no more.
        self.logger.warning(
            "Stopped by %s before the end: the next run resumes from its state",
            stop.name,
        )

    @override
    def invoke(self, ctx: click.Context) -> t.Any:
        """Invoke the command, and leave its errors to `main`."""
        logging.captureWarnings(capture=True)
        return click.Command.invoke(self, ctx)


def format_error(error: Exception) -> list[str]:
    """Return the lines that a person reads: one, or several for settings.

    An unexpected error is reported by location only: its message may quote a lead.
    """
    if isinstance(error, (ConfigValidationError, CustomersFailedError)):
        return error.errors
    if isinstance(error, click.ClickException):
        return [error.format_message()]
    if isinstance(error, SingerSDKError):
        return [str(error)]
    name, frames = type(error).__name__, traceback.extract_tb(error.__traceback__)
    if any(frame.filename == mapper.__file__ for frame in frames):
        line = (
            f"A stream map failed on a lead ({name}). Correct the setting "
            "'stream_maps': a value may be null, or 'stream_map_config' may lack "
            "what an expression uses"
        )
        return [line]
    place = "/".join(pathlib.Path(frames[-1].filename).parts[-2:])
    line = (
        f"Unexpected {name} at {place}:{frames[-1].lineno}. Check the SDK's settings, "
        "such as 'stream_maps' and 'batch_config', and the catalog. If they are right, "
        "report this line as a bug of tap-mega"
    )
    return [line]


def check_json(
    option: str, file: t.IO[str] | None, check: Callable[[object], None] | None = None
) -> t.IO[str] | None:
    """Return a file again, after checking what it holds; None if that is nothing.

    Raises:
        ConfigValidationError: If it is not a JSON object, or if the check fails.
    """
    try:
        text = file.read() if file else ""
        content = json.loads(text, parse_constant=_refuse) if text.strip() else {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        msg = f"{option} must name a file that holds a JSON object"
        raise config_error(msg)
    if file and check:
        check(content)
    return io.StringIO(text) if content else None


def _refuse(constant: str) -> t.NoReturn:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(constant)
