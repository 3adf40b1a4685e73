"""The files that options name: read as JSON, and named in errors."""

from __future__ import annotations

import io
import json
import re
import typing as t

import click
from typing_extensions import override

from tap_mega.api.page import refuse
from tap_mega.shared.errors import config_error

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.exceptions import ConfigValidationError

PATH = re.compile(r"[\w ~./\\:-]+\.[a-zA-Z]{1,5}")
"""What is plainly the path of a file, and neither JSON nor a token."""


class InputFile(click.File):
    """A file that an option names. An error names the option, and maybe the file."""

    @override
    def convert(
        self,
        value: t.Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> t.Any:
        """Open the file."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            option = param.opts[0] if param else "An option"
            raise unreadable(option, value) from None


def unreadable(option: str, path: str) -> ConfigValidationError:
    """Return the error for a file that cannot be read."""
    name = _name(path)
    msg = f"{option} must name a file: the file{name} is missing or cannot be read"
    return config_error(msg)


def not_json(option: str, path: str, reason: Exception | None) -> ConfigValidationError:
    """Return the error for a file that is not a JSON object, and where it is not."""
    msg = f"{option} must name a file that holds a JSON object"
    line, column = (getattr(reason, name, None) for name in ("lineno", "colno"))
    if line is None:
        return config_error(msg)
    file = f"the file{_name(path)}"
    return config_error(f"{msg}: {file} is not JSON at line {line}, column {column}")


def _name(path: str) -> str:
    """Return the name of a file for a message.

    Whoever gives JSON or a token instead of a path must not find it in the log.
    """
    return f" '{path}'" if PATH.fullmatch(path) else ""


def check_json(
    option: str, file: t.IO[str] | None, check: Callable[[object], None] | None = None
) -> t.IO[str] | None:
    """Return a file again, after checking what it holds; None if that is nothing.

    Raises:
        ConfigValidationError: If it is not a JSON object, or if the check fails.
    """
    content, reason = None, None
    try:
        text = file.read() if file else ""
        content = json.loads(text, parse_constant=refuse) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        reason = error
    if not isinstance(content, dict):
        raise not_json(option, file.name if file else "", reason)
    if file and check:
        check(content)
    return io.StringIO(text) if content else None
