"""What is logged: the SDK's console, and how much of which library."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import typing as t
from logging import LogRecord

from singer_sdk.logging import ConsoleFormatter

if t.TYPE_CHECKING:
    from collections.abc import Iterator

LEVEL_VARIABLES = ("TAP_MEGA_LOGLEVEL", "LOGLEVEL")
CONFIG_VARIABLE = "SINGER_SDK_LOG_CONFIG"

LIBRARY_LEVELS = {"urllib3": logging.ERROR, "singer_sdk.mapper": logging.INFO}
"""Below these levels, libraries log the query, which may hold an e-mail, or a lead."""


def limit_libraries() -> None:
    """Keep libraries quiet, whatever a log configuration says."""
    for name, level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level)
        for other in list(logging.root.manager.loggerDict):
            if other.startswith(f"{name}."):
                logging.getLogger(other).setLevel(level)


@contextlib.contextmanager
def setup_errors() -> Iterator[None]:
    """Make one line of an error in the SDK's setup of the log.

    Raises:
        SystemExit: After that line.
    """
    for variable in LEVEL_VARIABLES:
        _check_level(variable)
    try:
        yield
        for handler in logging.root.handlers:
            handler.format(LogRecord("", logging.INFO, "", 0, "", None, None))
    except Exception as error:  # noqa: BLE001 - a configuration can call anything
        reason = str(error).partition("\n")[0]
        _exit(
            f"{CONFIG_VARIABLE} must name a YAML file that configures Python's "
            f"logging: {reason}"
        )


def _check_level(variable: str) -> None:
    """Check the level that a variable names. One that is empty counts as not set."""
    levels, value = logging.getLevelNamesMapping(), os.environ.get(variable)
    if value == "":
        del os.environ[variable]
    elif value and value.upper() not in levels:
        _exit(f"{variable} must be one of {', '.join(levels)}")


def _exit(line: str) -> t.NoReturn:
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(ConsoleFormatter())
    logging.basicConfig(handlers=[console], force=True)
    logging.getLogger("tap-mega").error("%s", line)
    sys.exit(1)
