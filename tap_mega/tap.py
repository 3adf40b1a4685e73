"""The tap: settings, state and catalog in, streams out."""

from __future__ import annotations

import copy
import functools
import typing as t

import click
from singer_sdk import Tap
from singer_sdk.cli import plugin_cli
from singer_sdk.helpers.capabilities import PluginCapabilities
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from tap_mega.cli.check import check_credentials
from tap_mega.cli.command import MegaCommand
from tap_mega.cli.custom_fields import MAX_PAGES, profile_fields
from tap_mega.cli.files import read_file, read_object
from tap_mega.cli.logs import setup_errors, silence_libraries
from tap_mega.config.environment import (
    find_unknown_variables,
    find_useless_rules,
    read_environment,
)
from tap_mega.config.schema import SETTINGS
from tap_mega.config.settings import Settings
from tap_mega.config.validation import find_all_errors, find_unknown
from tap_mega.records.writer import MegaStateWriter, MegaWriter
from tap_mega.shared.clock import Clock
from tap_mega.shared.errors import config_error
from tap_mega.shared.stopping import StopFlag
from tap_mega.shared.timestamps import from_epoch
from tap_mega.state.document import Document, read_state, source_of
from tap_mega.streams import LeadChangesStream, LeadsStream

if t.TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from singer_sdk import Stream
    from singer_sdk.helpers._state import StateWriter
    from singer_sdk.helpers.capabilities import CapabilitiesEnum
    from singer_sdk.helpers.types import TapState
    from singer_sdk.plugin_base import _ConfigInput


ENV = "ENV"
"""As a value of `--config`, it is not a file: the settings come from variables."""

TEST_HELP = (
    "Check the credentials: request one page of leads per customer, and write no "
    "record. --test=schema writes the schemas, without a request."
)

CUSTOM_FIELDS_HELP = (
    f"Read at most {MAX_PAGES} pages of leads per customer, and print which custom "
    "fields there are, but none of their values."
)

STREAMS = (LeadsStream.name, LeadChangesStream.name)


class TapMega(Tap):
    """Singer tap for the leads of the MEGA CRM."""

    name = "tap-mega"
    config_jsonschema = copy.deepcopy(SETTINGS)
    capabilities: t.ClassVar[list[CapabilitiesEnum]] = [
        it for it in Tap.capabilities if it is not PluginCapabilities.BATCH
    ]
    """BATCH bypasses stream maps: https://github.com/meltano/sdk/issues/1117."""

    message_writer_class = MegaWriter
    message_writer: MegaWriter

    clock = Clock()
    """The clock for pacing, waits and bookmarks. Tests replace it."""

    stop = StopFlag()
    """Whether a stop signal has arrived."""

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
            **kwargs: The other arguments of the SDK's `Tap`.

        Raises:
            ConfigValidationError: If settings are not valid, with a line for each.
        """
        silence_libraries()
        self.append_builtin_config(self.config_jsonschema)
        config = dict(config or {})
        if parse_env_config:
            config, errors = read_environment(config, self.config_jsonschema)
            if errors:
                raise config_error(*errors)
        unknown = find_unknown_variables(self.config_jsonschema)
        for line in (*unknown, *find_useless_rules(config)):
            self.logger.warning("%s", line)
        if isinstance(config.get("filters"), dict):
            config["filters"] = drop_nulls(config["filters"]) or None
        super().__init__(config=drop_nulls(config), **kwargs)

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Validate without quoting values, unlike the SDK."""
        for line in find_unknown(self._config, self.config_jsonschema):
            self.logger.warning(line)
        errors = find_all_errors(self._config, self.config_jsonschema, STREAMS)
        if errors and raise_errors:
            raise config_error(*errors)
        return errors

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, t.Any]) -> None:
        """Add the SDK's own settings, except one whose library is not installed."""
        super().append_builtin_config(config_jsonschema)
        config_jsonschema["properties"].pop("faker_config", None)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of a sync, which are valid."""
        return Settings.parse(self.config)

    @override
    def discover_streams(self) -> Sequence[Stream]:
        """Return the streams: `lead_changes` exists only if the settings want it."""
        if not self.config.get("include_lead_changes"):
            return [LeadsStream(self)]
        changes = LeadChangesStream(self)
        return [changes, LeadsStream(self, changes)]

    @override
    def setup_mapper(self) -> None:
        """Apply the catalog, which may change it, before the SDK maps its streams."""
        _ = self.streams
        super().setup_mapper()

    @override
    def load_state(self, state: dict[str, t.Any]) -> None:
        """Keep a state until the sync needs it.

        Raises:
            ConfigValidationError: If the bookmark is not a date.
        """
        self._given_state = value_of(state)
        if state:
            _ = self.document

    @functools.cached_property
    def document(self) -> Document:
        """The state. It is parsed once, with a warning for each unusable part."""
        sources = [source_of(it, self.settings) for it in self.settings.customers]
        now = from_epoch(self.clock.time())
        document, warnings = read_state(self._given_state, sources, now)
        for warning in warnings:
            self.logger.warning(warning)
        return document

    @property
    @override
    def state(self) -> TapState:
        """The state as the SDK writes it. `Document` owns it."""
        found = self.document.to_json() if "document" in vars(self) else {}
        return t.cast("TapState", found)

    @functools.cached_property
    @override
    def state_writer(self) -> StateWriter:
        """The writer of the state, which makes no copy of it per page."""
        return t.cast("StateWriter", MegaStateWriter(self.message_writer))

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """Note a stop signal: the run stops by itself."""
        self.stop.note(signum)

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
        cls.stop = StopFlag()
        command = super().get_singer_command()
        options = {it.name: it for it in command.params if isinstance(it, click.Option)}
        for name in ("state", "catalog"):
            # The SDK's type opens the file, and quotes the path in errors.
            options[name].type, options[name].callback = click.STRING, read_file
        options["test"].help = TEST_HELP
        # The SDK takes any other value for `all`, and prints a lead.
        options["test"].type = click.Choice([it.value for it in CliTestOptionValue])
        custom_fields = click.Option(
            ["--custom-fields"],
            is_flag=True,
            help=CUSTOM_FIELDS_HELP,
            callback=cls.cb_custom_fields,
            expose_value=False,
        )
        found = MegaCommand(
            name=command.name,
            callback=command.callback,
            context_settings=command.context_settings,
            params=[*command.params, custom_fields],
            help=cls.__doc__,
            logger=cls.logger,
        )
        found.stop = cls.stop
        return found

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """Check the credentials, or with `--test=schema` write the schemas."""
        if value == CliTestOptionValue.All.value:
            check_credentials(cls._make_stream(ctx))
            ctx.exit()
        super().cb_test(ctx, param, value)

    @classmethod
    def cb_custom_fields(
        cls, ctx: click.Context, _param: click.Parameter, value: object
    ) -> None:
        """Print which custom fields there are, if the option is given."""
        if value:
            for line in profile_fields(cls._make_stream(ctx)):
                click.echo(line)
            ctx.exit()

    @classmethod
    def _make_stream(cls, ctx: click.Context) -> LeadsStream:
        """Return the stream, with the settings of `--config`."""
        given = ctx.params["config"]
        tap = cls(config=given.config, parse_env_config=given.parse_env)
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
        found = super().cb_config(ctx, param, (ENV,) if ENV in value else ())
        for path in value:
            if path != ENV:
                found.config |= read_object(param.opts[0], path)
        return found


def value_of(state: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the state in an object that holds one, or the object itself.

    The output of a target has only the state, that of a tap the whole STATE message,
    and that of `meltano state get` an object with `singer_state`.
    """
    name = "value" if state.get("type") == "STATE" else "singer_state"
    value = state.get(name)
    return value if isinstance(value, dict) and "bookmarks" in value else state


def drop_nulls(settings: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the settings that are not null."""
    return {name: value for name, value in settings.items() if value is not None}
