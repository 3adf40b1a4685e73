"""The tap: settings and state in, two streams out."""

from __future__ import annotations

import copy
import functools
import time
import typing as t

import click
from singer_sdk import Tap
from singer_sdk.cli import plugin_cli
from singer_sdk.singerlib import StateMessage
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from tap_mega.catalog import check_shape
from tap_mega.cli.check import check_credentials
from tap_mega.cli.command import MegaCommand
from tap_mega.cli.custom_fields import MAX_PAGES, profile_fields
from tap_mega.cli.files import InputFile, check_json, not_json, unreadable
from tap_mega.cli.logs import setup_errors, silence_libraries
from tap_mega.config.customers import customers_of
from tap_mega.config.environment import find_unknown_variables, read_environment
from tap_mega.config.schema import BATCH_RULES, SETTINGS
from tap_mega.config.validation import (
    find_broken_maps,
    find_broken_text,
    find_credential_errors,
    find_errors,
    find_unknown,
    find_unsafe_maps,
    find_unused_types,
    find_wrong_dates,
)
from tap_mega.lead_changes import LeadChangesStream
from tap_mega.records.writer import MegaWriter
from tap_mega.shared.errors import config_error
from tap_mega.shared.stopping import Stopped, call_again_if_lost, ignore_repetitions
from tap_mega.shared.timestamps import from_epoch
from tap_mega.state.bookmark import source_of
from tap_mega.state.document import usable_state
from tap_mega.streams import LeadsStream

if t.TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from singer_sdk import Stream
    from singer_sdk.plugin_base import _ConfigInput

    from tap_mega.shared.clock import Clock

STREAMS = (LeadsStream.name, LeadChangesStream.name)


class TapMega(Tap):
    """Singer tap for the leads of the MEGA CRM."""

    name = "tap-mega"
    config_jsonschema = copy.deepcopy(SETTINGS)

    message_writer_class = MegaWriter
    message_writer: MegaWriter

    clock: Clock = time
    """The clock for pacing, waits and bookmarks. Tests replace it."""

    @override
    def __init__(
        self,
        *,
        config: dict[str, t.Any] | None = None,
        parse_env_config: bool = False,
        **kwargs: t.Any,
    ) -> None:
        """Make the tap. A setting that is null counts as not set.

        Args:
            config: The settings.
            parse_env_config: Whether to read `TAP_MEGA_…` variables as well.
            **kwargs: Those of the SDK's `Tap`.

        Raises:
            ConfigValidationError: If settings are not valid, with a line for each.
        """
        silence_libraries()
        self.append_builtin_config(self.config_jsonschema)
        config = dict(config or {})
        if parse_env_config:
            for line in find_unknown_variables(self.config_jsonschema):
                self.logger.warning(line)
            config, errors = read_environment(config, self.config_jsonschema)
            if errors:
                raise config_error(*errors)
        if isinstance(config.get("filters"), dict):
            config["filters"] = drop_nulls(config["filters"]) or None
        # A stop signal needs the writer as soon as the SDK has set its handler.
        self.message_writer = MegaWriter()
        super().__init__(
            config=drop_nulls(config), message_writer=self.message_writer, **kwargs
        )

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Validate without quoting values, unlike the SDK."""
        for line in find_unknown(self._config, self.config_jsonschema):
            self.logger.warning(line)
        errors = find_errors(self._config, self.config_jsonschema)
        errors = errors or list(find_broken_text(self._config))
        errors = errors or [
            *find_errors(self._config, BATCH_RULES),
            *find_credential_errors(self._config, self.config_jsonschema),
            *find_unsafe_maps(self._config, STREAMS),
            *find_broken_maps(self._config),
            *find_unused_types(self._config),
            *find_wrong_dates(self._config),
        ]
        if errors and raise_errors:
            raise config_error(*errors)
        return errors

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, t.Any]) -> None:
        """Add the SDK's own settings, except one whose library is not installed."""
        super().append_builtin_config(config_jsonschema)
        config_jsonschema["properties"].pop("faker_config", None)

    @override
    def discover_streams(self) -> Sequence[Stream]:
        """Return the streams, without `lead_changes` if the catalog is older."""
        leads, catalog = LeadsStream(self, self.clock), self.input_catalog
        if catalog is not None and not catalog.get_stream(LeadChangesStream.name):
            return [leads]
        return [leads, LeadChangesStream(self, leads)]

    @override
    def setup_mapper(self) -> None:
        """Apply the catalog, which may change it, before the SDK maps its streams.

        The SDK maps no property of a stream that is not selected, but `--test=schema`
        selects it later.
        """
        streams = self.streams.values()
        super().setup_mapper()
        if self.input_catalog is None:
            for it in streams:
                if not it.selected:
                    self.mapper.register_raw_stream_schema(
                        it.name, it.schema, it.primary_keys
                    )

    @override
    def load_state(self, state: dict[str, t.Any]) -> None:
        """Take over what this sync may use of the state of the last one.

        Raises:
            ConfigValidationError: If the bookmark is not a date.
        """
        state = value_of(state)
        if state:
            now = from_epoch(self.clock.time())
            customers = customers_of(self.config)
            sources = [source_of(customer, self.config) for customer in customers]
            state, warnings = usable_state(state, sources, now)
            for warning in warnings:
                self.logger.warning(warning)
        super().load_state(state)

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """Stop at SIGTERM or SIGINT, as soon as no line is half written.

        This does nothing else: the signal may have interrupted a write to the log.
        """
        ignore_repetitions()
        stop = functools.partial(self._stop, signum)
        call_again_if_lost(stop)
        stop()

    def _stop(self, signum: int) -> None:
        self.message_writer.when_idle(functools.partial(self._raise_stopped, signum))

    def _raise_stopped(self, signum: int) -> t.NoReturn:
        raise Stopped(signum, self._write_last_state)

    def _write_last_state(self) -> None:
        """Write the leads that were kept, and the state, if the sync has begun.

        BATCH messages are the exception: leads after the last one are in no file yet.
        """
        if self.message_writer.has_begun and not self.config.get("batch_config"):
            self.message_writer.write_message(StateMessage(self.state))

    @plugin_cli
    @override
    def cli(cls) -> click.Command:  # noqa: N805 - as the SDK's
        """Return the command, after setting up the log."""
        with setup_errors():
            return super().cli

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        """Return the command, which logs an error as one line."""
        command = super().get_singer_command()
        for param in command.params:
            if isinstance(param.type, click.File):
                param.type = InputFile(encoding="utf-8")
        return MegaCommand(
            name=command.name,
            callback=command.callback,
            context_settings=command.context_settings,
            params=[*command.params, cls._custom_fields_option()],
            help=cls.__doc__,
            logger=cls.logger,
        )

    @classmethod
    def _custom_fields_option(cls) -> click.Option:
        return click.Option(
            ["--custom-fields"],
            is_flag=True,
            help=(
                f"Read at most {MAX_PAGES} pages of leads per customer, and print "
                "which custom fields there are, but none of their values."
            ),
            callback=cls.cb_custom_fields,
            expose_value=False,
        )

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """Check the credentials, unless `--test=schema` asks for something else.

        Raises:
            BadParameter: If the value is another one: the SDK would print a lead.
        """
        if value not in {it.value for it in CliTestOptionValue}:
            msg = "use --test or --test=schema"
            raise click.BadParameter(msg, ctx, param)
        if value != CliTestOptionValue.All.value:
            super().cb_test(ctx, param, value)
            return
        check_credentials(cls._make_stream(ctx), cls.clock)
        ctx.exit()

    @classmethod
    def cb_custom_fields(
        cls, ctx: click.Context, _param: click.Parameter, value: object
    ) -> None:
        """Print which custom fields there are, if the option is given."""
        if value:
            for line in profile_fields(cls._make_stream(ctx), cls.clock):
                click.echo(line)
            ctx.exit()

    @classmethod
    def _make_stream(cls, ctx: click.Context) -> LeadsStream:
        """Return the stream, with the settings of `--config`."""
        given = ctx.params.get("config")
        tap = cls(
            config=given and given.config,
            parse_env_config=bool(given and given.parse_env),
        )
        return t.cast("LeadsStream", tap.streams["leads"])

    @classmethod
    @override
    def cb_config(
        cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]
    ) -> _ConfigInput:
        """Read the files of `--config`, without quoting what may be a secret.

        Raises:
            ConfigValidationError: If one is missing, or is not a JSON object.
        """
        found = super().cb_config(ctx, param, ())
        for path in value:
            try:
                part = super().cb_config(ctx, param, (path,))
                found.config |= part.config
            except OSError:
                raise unreadable(param.opts[0], path) from None
            except (RuntimeError, TypeError, ValueError) as error:
                raise not_json(param.opts[0], path, error) from None
            found.parse_env |= part.parse_env
        return found

    @classmethod
    @override
    def invoke(
        cls,
        *,
        state: t.IO[str] | None = None,
        catalog: t.IO[str] | None = None,
        **kwargs: t.Any,
    ) -> None:
        """Run a sync, with a state and a catalog that are JSON objects."""
        super().invoke(
            state=check_json("--state", state),
            catalog=check_json("--catalog", catalog, check_shape),
            **kwargs,
        )


def value_of(state: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the value of a STATE message. Any other object is returned unchanged.

    The output of a target has only the value, and that of a tap the whole message.
    """
    value = state.get("value") if state.get("type") == "STATE" else None
    return value if isinstance(value, dict) and "bookmarks" in value else state


def drop_nulls(settings: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the settings that are not null."""
    return {name: value for name, value in settings.items() if value is not None}
