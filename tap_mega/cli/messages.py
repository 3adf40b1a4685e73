"""The lines that a person reads of an error: what happened, and what to correct."""

from __future__ import annotations

import pathlib
import traceback

import click
from singer_sdk import mapper, plugin_base, tap_base
from singer_sdk.exceptions import (
    ConfigValidationError,
    MapExpressionError,
    MappingError,
    SingerSDKError,
)

from tap_mega.sync.customer import CustomersFailedError

PRINTERS = {click.utils.__file__, plugin_base.__file__, tap_base.__file__}
"""These modules print. An error in a call of `print` has no frame of its own."""

MAP_ADVICE = (
    "Correct the setting 'stream_maps': a value may be null, as docs/recipes.md shows"
)
CONFIG_ADVICE = (
    "Correct the settings 'stream_maps' and 'stream_map_config': a name is missing"
)
BUG_ADVICE = (
    "Check the SDK's settings, such as 'stream_maps', and the catalog. If they are "
    "right, report this line as a bug of tap-mega"
)


def format_error(error: Exception) -> list[str]:
    """Return the lines that a person reads: one, or several for settings."""
    if isinstance(error, (ConfigValidationError, CustomersFailedError)):
        return error.errors
    if line := _format_map_error(error):
        return [line]
    if isinstance(error, SingerSDKError):
        return [_format_sdk_error(error)]
    if isinstance(error, click.ClickException):
        return [_format_usage_error(error)]
    return [_format_unexpected_error(error)]


def _format_map_error(error: Exception) -> str:
    """Return the line for a stream map that failed on a lead; empty if none did.

    The SDK's own message quotes the expression, which may hold a salt.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        names = frame.f_locals
        in_mapper = frame.f_code.co_filename == mapper.__file__
        if in_mapper and "property_name" in names:
            name = names["property_name"] or "__filter__"
            stream = getattr(names.get("self"), "stream_alias", "leads")
            reason = type(error.__cause__ or error).__name__
            advice = CONFIG_ADVICE if reason == "KeyError" else MAP_ADVICE
            return (
                f"The stream map for '{name}' of the stream '{stream}' failed on a "
                f"lead ({reason}). {advice}"
            )
    return ""


def _format_sdk_error(error: SingerSDKError) -> str:
    if isinstance(error, MapExpressionError):  # The message quotes the expression.
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        name = frame.f_locals.get("prop_key", "__filter__' or '__alias__")
        return f"Correct the setting 'stream_maps': '{name}' is not a valid expression"
    line = str(error)
    unnamed = isinstance(error, MappingError) and "'stream_maps'" not in line
    return f"Correct the setting 'stream_maps': {line}" if unnamed else line


def _format_usage_error(error: click.ClickException) -> str:
    """Name an option, but not what is given for no option: it may be a token."""
    if type(error) is click.UsageError:
        return (
            "The command takes only options, such as --config=config.json: see --help"
        )
    return error.format_message()


def _format_unexpected_error(error: Exception) -> str:
    """Return where an error comes from, not its message: it may quote a lead."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [pathlib.PurePath(frame.filename) for frame in frames]
    reason = getattr(error, "strerror", None) or type(error).__name__
    if pathlib.PurePath(mapper.__file__) in files:
        return f"A stream map failed on a lead ({reason}). {MAP_ADVICE}"
    if isinstance(error, OSError) and str(files[-1]) in PRINTERS:
        return f"Cannot write to stdout: {reason}"
    place = f"{'/'.join(files[-1].parts[-2:])}:{frames[-1].lineno}"
    return f"Unexpected {type(error).__name__} at {place}. {BUG_ADVICE}"
