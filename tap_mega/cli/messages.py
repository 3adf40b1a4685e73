"""The lines that explain an error to a person: what happened, what to correct."""

from __future__ import annotations

import errno
import pathlib
import traceback
import typing as t

import click
from singer_sdk import mapper
from singer_sdk.exceptions import (
    ConfigValidationError,
    MapExpressionError,
    MappingError,
    SingerSDKError,
)

from tap_mega.sync.customer import CustomersFailedError

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
    """Return the lines for a person: one, or one per wrong setting or customer."""
    if isinstance(error, (ConfigValidationError, CustomersFailedError)):
        return error.errors
    return [_format_map_error(error) or _format_other_error(error)]


def _format_map_error(error: Exception) -> str:
    """Return the line for a stream map that failed; empty if none did.

    The SDK's own message quotes the expression, which may hold a salt.
    """
    names: dict[str, t.Any] = {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == mapper.__file__:
            names = frame.f_locals
            if "property_name" in names:
                name = names["property_name"] or "__filter__"
                stream = getattr(names.get("self"), "stream_alias", "leads")
                reason = type(error.__cause__ or error).__name__
                advice = CONFIG_ADVICE if reason == "KeyError" else MAP_ADVICE
                return (
                    f"The stream map for '{name}' of the stream '{stream}' failed on a "
                    f"lead ({reason}). {advice}"
                )
    if isinstance(error, MapExpressionError):
        name = names.get("prop_key", "__filter__' or '__alias__")
        return f"Correct the setting 'stream_maps': '{name}' is not a valid expression"
    return ""


def _format_other_error(error: Exception) -> str:
    """Return a line that quotes neither a lead nor a possible token."""
    if isinstance(error, MappingError):
        return f"Correct the setting 'stream_maps': {error}"
    if isinstance(error, SingerSDKError):
        return str(error)
    if type(error) is click.UsageError:  # It quotes the unexpected argument.
        return (
            "The command takes only options, such as --config=config.json: see --help"
        )
    if isinstance(error, click.ClickException):
        return error.format_message()
    return _format_unexpected_error(error)


def _format_unexpected_error(error: Exception) -> str:
    """Return where an error comes from, not its message: it may quote a lead."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"Cannot write to stdout: {error.strerror}"
    *_, frame = traceback.extract_tb(error.__traceback__)
    place = "/".join(pathlib.PurePath(frame.filename).parts[-2:])
    return f"Unexpected {type(error).__name__} at {place}:{frame.lineno}. {BUG_ADVICE}"
