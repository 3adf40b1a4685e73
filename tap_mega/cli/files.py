"""The files that options name: read as JSON, and named in errors."""

from __future__ import annotations

import io
import json
import re
import typing as t
from pathlib import Path

from tap_mega.api.page import refuse
from tap_mega.catalog import check_catalog
from tap_mega.shared.errors import config_error

if t.TYPE_CHECKING:
    import click

ENCODING = "utf-8-sig"
"""UTF-8, with or without the byte-order mark that Windows editors write."""

PATH = re.compile(r"[\w ~./\\:-]+\.[a-zA-Z]{1,5}")
"""Matches the path of a file, but neither JSON nor a token."""


def read_object(option: str, path: str, default: str = "") -> dict[str, t.Any]:
    """Return the JSON object that a file holds.

    Args:
        option: The option that names the file.
        path: The file. If it may be JSON or a token instead, no error quotes it.
        default: The JSON that replaces an empty file.

    Raises:
        ConfigValidationError: If it cannot be read, or is not a JSON object.
    """
    name = f"the file '{path}'" if PATH.fullmatch(path) else "the file"
    msg = f"{option} must name a file that holds a JSON object"
    try:
        # Without trailing white space, an error at the end names the last line.
        text = Path(path).read_text(ENCODING).rstrip()
        content = json.loads(text or default, parse_constant=refuse)
    except OSError:
        msg = f"{option} must name a file: {name} is missing or cannot be read"
    except (ValueError, RecursionError) as error:
        msg += _place(error, name)
    else:
        if isinstance(content, dict):
            return content
    raise config_error(msg) from None


def _place(error: Exception, name: str) -> str:
    """Return where a file is not JSON, if it is text."""
    if isinstance(error, json.JSONDecodeError):
        return f": {name} is not JSON at line {error.lineno}, column {error.colno}"
    return ""


def read_file(
    _ctx: click.Context, param: click.Parameter, path: str | None
) -> t.IO[str] | None:
    """Return the file of an option, as the SDK reads it, after checking it.

    Raises:
        ConfigValidationError: If it is not a JSON object, or not a catalog.
    """
    if path is None:
        return None
    # A state may be empty, as before the first run.
    content = read_object(param.opts[0], path, "{}" if param.name == "state" else "")
    if param.name == "catalog":
        check_catalog(content)
    return io.StringIO(json.dumps(content))
