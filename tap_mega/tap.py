"""The tap: its settings, and that there is one stream."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import io
import json
import logging
import pathlib
import signal
import sys
import time
import traceback
import typing as t

import click
from singer_sdk import Tap
from singer_sdk.exceptions import ConfigValidationError, SingerSDKError
from singer_sdk.plugin_base import SingerCommand

from tap_mega.settings import (
    SETTINGS,
    find_errors,
    find_idle_types,
    find_unknown,
    find_unsafe_maps,
    read_environment,
    refusal,
)
from tap_mega.state import find_bookmark, find_problem, use_bookmark
from tap_mega.streams import LeadsStream
from tap_mega.writer import MegaWriter

if t.TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from singer_sdk import Stream
    from singer_sdk.plugin_base import _ConfigInput

    from tap_mega.quota import Clock

SIGNAL_EXIT_CODE = 128
"""What shells add to the number of the signal that ended a program."""


class Stopped(SystemExit):  # no error, but the end
    """A signal stopped the tap."""

    def __init__(self, tap: TapMega, number: signal.Signals) -> None:
        """Say which tap, and which signal."""
        super().__init__(SIGNAL_EXIT_CODE + number)
        self.tap = tap
        self.number = number


class MegaCommand(SingerCommand):
    """The command `tap-mega`: a failure is one line that says what to do."""

    def main(self, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        """Run the command, and exit: 0 if all is well, 1 if not."""
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except Stopped as stop:
            self._leave(stop)
        except Exception as error:  # noqa: BLE001  # each has a line
            for line in describe(error):
                self.logger.error("%s", line)  # noqa: TRY400  # no traceback
            code = 1
        sys.exit(code or 0)

    def invoke(self, ctx: click.Context) -> t.Any:
        """Invoke the command; `main` is who tells of errors."""
        logging.captureWarnings(capture=True)
        return click.Command.invoke(self, ctx)

    def _leave(self, stop: Stopped) -> t.NoReturn:
        stop.tap.write_last_state()
        self.logger.warning(
            "Stopped by %s before the end: the next run goes on from the last state",
            stop.number.name,
        )
        raise stop from None


class TapMega(Tap):
    """Singer tap for the leads of the MEGA CRM."""

    name = "tap-mega"
    config_jsonschema = copy.deepcopy(SETTINGS)

    message_writer_class = MegaWriter
    message_writer: MegaWriter

    clock: Clock = time
    """What pacing, waiting and the bookmark go by; tests hand in another."""

    def __init__(
        self,
        *,
        config: dict[str, t.Any] | None = None,
        parse_env_config: bool = False,
        **kwargs: t.Any,
    ) -> None:
        """Make the tap. A setting that is null is not set.

        Args:
            config: The settings.
            parse_env_config: Whether to read `TAP_MEGA_…` variables as well.
            **kwargs: As the SDK's `Tap` has them.

        Raises:
            ConfigValidationError: If a setting is wrong; with a line for each.
        """
        config = dict(config or {})
        if parse_env_config:
            self.append_builtin_config(self.config_jsonschema)
            found, errors = read_environment(
                self.config_jsonschema, self._env_var_prefix
            )
            if errors:
                raise refusal(*errors)
            config |= found
        if isinstance(config.get("filters"), dict):
            config["filters"] = without_nulls(config["filters"]) or None
        config = without_nulls(config)
        super().__init__(config=config, **kwargs)

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Check the settings in our own words: the SDK's quote the value."""
        self.append_builtin_config(self.config_jsonschema)
        for line in find_unknown(self._config, self.config_jsonschema):
            self.logger.warning(line)
        errors = find_errors(self._config, self.config_jsonschema)
        errors = errors or [
            *find_unsafe_maps(self._config, LeadsStream.name),
            *find_idle_types(self._config),
        ]
        if errors and raise_errors:
            raise refusal(*errors)
        return errors

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, t.Any]) -> None:
        """Add the SDK's own settings, but for one that needs a library we lack."""
        super().append_builtin_config(config_jsonschema)
        config_jsonschema["properties"].pop("faker_config", None)

    def load_state(self, state: dict[str, t.Any]) -> None:
        """Take over the bookmark that the last sync left, if it may be used.

        Raises:
            ConfigValidationError: If it is no date.
        """
        filters = self.config.get("filters", {})
        now = dt.datetime.fromtimestamp(self.clock.time(), dt.UTC)
        bookmark = find_bookmark(state, LeadsStream.name)
        key = LeadsStream.replication_key
        if problem := find_problem(bookmark, key, filters, now):
            self.logger.warning("Starting over: the state %s", problem)
            # Said outright, for who merges states instead of replacing them.
            bookmark = {"replication_key_value": None}
        kept = use_bookmark(bookmark or {}, filters, now)
        if kept:
            super().load_state({"bookmarks": {LeadsStream.name: kept}})
        super()._setup_signal_handlers()

    def _setup_signal_handlers(self) -> None:
        """Leave signals alone until there is a state that can be written."""

    def discover_streams(self) -> Sequence[Stream]:
        """Return the one stream that the API has."""
        return [LeadsStream(self, self.clock)]

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop at SIGTERM or SIGINT, as soon as no line is half written.

        Nothing but that: what the signal interrupted may be a write to the log.
        """
        self.message_writer.when_idle(functools.partial(self._stop, signum))

    def _stop(self, signum: int) -> t.NoReturn:
        raise Stopped(self, signal.Signals(signum))

    def write_last_state(self) -> None:
        """Write the state of all that is out.

        With BATCH messages the last one written stands: what was read since is in no
        file yet.
        """
        if self.config.get("batch_config"):
            return
        for stream in self.streams.values():
            t.cast("LeadsStream", stream).checkpoint()
        self.state_writer.write_state(self.state)

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """Return the command, with errors in one line."""
        command = super().get_singer_command()
        return MegaCommand(
            name=command.name,
            callback=command.callback,
            context_settings=command.context_settings,
            params=command.params,
            help=cls.__doc__,
            logger=cls.logger,
        )

    @classmethod
    def cb_config(
        cls,
        ctx: click.Context,
        param: click.Option,
        value: tuple[str, ...],
    ) -> _ConfigInput:
        """Read the files of `--config`.

        Raises:
            ConfigValidationError: If one is not there, or no JSON object.
        """
        try:
            return super().cb_config(ctx, param, value)
        except (OSError, ValueError, TypeError) as error:
            msg = f"--config must name a file that holds a JSON object: {error}"
            raise refusal(msg) from None

    @classmethod
    def invoke(
        cls,
        *,
        state: t.IO[str] | None = None,
        catalog: t.IO[str] | None = None,
        **kwargs: t.Any,
    ) -> None:
        """Run a sync, from a state and a catalog that are JSON objects."""
        super().invoke(
            state=check_json("--state", state),
            catalog=check_json("--catalog", catalog, "streams"),
            **kwargs,
        )


def check_json(option: str, file: t.IO[str] | None, *keys: str) -> t.IO[str] | None:
    """Return a file again after a look at it; None if there is nothing in it.

    Raises:
        ConfigValidationError: If it is no JSON object, or lacks one of the keys.
    """
    try:
        text = file.read() if file else ""
        content = json.loads(text) if text.strip() else {}
    except ValueError:
        content = None
    if content == {}:
        return None
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        having = f" with {', '.join(keys)}" if keys else ""
        msg = f"{option} must name a file that holds a JSON object{having}"
        raise refusal(msg)
    return io.StringIO(text)


def without_nulls(settings: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return settings without those that are null: they are as if not there."""
    return {name: value for name, value in settings.items() if value is not None}


def describe(error: Exception) -> list[str]:
    """Return what a person is told of an error: a line, or several for settings.

    Of one that nobody foresaw it says where, for who mends it, and not the error's own
    words: they may quote a lead.
    """
    if isinstance(error, ConfigValidationError):
        return error.errors
    if isinstance(error, click.ClickException):
        return [error.format_message()]
    if isinstance(error, SingerSDKError):
        return [str(error)]
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "/".join(pathlib.Path(last.filename).parts[-2:])
    line = (
        f"Unexpected {type(error).__name__} at {place}:{last.lineno}. Check the SDK's "
        "settings, such as 'stream_maps' and 'batch_config', and the catalog; if they "
        "are right, report this line as a bug of tap-mega"
    )
    return [line]
