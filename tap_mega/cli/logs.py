"""Set up what is logged, and drop what libraries log of queries and leads."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import typing as t
from logging import LogRecord

from singer_sdk.logging import ConsoleFormatter

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEVEL_VARIABLES = ("TAP_MEGA_LOGLEVEL", "LOGLEVEL")
CONFIG_VARIABLE = "SINGER_SDK_LOG_CONFIG"

QUIET_LIBRARIES = {
    "urllib3": logging.ERROR,
    "requests": logging.ERROR,
    "singer_sdk.mapper": logging.INFO,
}
"""Below these levels, libraries log the query, which may hold an e-mail, or a lead."""

UNHELPFUL = ("Skipping parse of env var settings", "Added '%s' as child stream")
"""How lines of the SDK begin that say nothing to a user."""


def silence_libraries() -> None:
    """Drop what libraries log of queries and leads, whatever the log configuration.

    A level does not last: a configuration can set another one for any logger. A filter
    lasts, but it works for its own logger only, so each logger gets one.
    """
    for name in list(logging.root.manager.loggerDict):
        for library, level in QUIET_LIBRARIES.items():
            if f"{name}.".startswith(f"{library}."):
                logging.getLogger(name).addFilter(_at_least(level))
    logging.getLogger("tap-mega").addFilter(_helps)


def _helps(record: LogRecord) -> bool:
    """Drop lines of the SDK that help nobody.

    The tap does read variables, and its second stream may not be selected.
    """
    return not str(record.msg).startswith(UNHELPFUL)


@functools.cache
def _at_least(level: int) -> Callable[[LogRecord], bool]:
    """Return the same filter each time: a logger does not keep it twice."""

    def keep(record: LogRecord) -> bool:
        return record.levelno >= level

    return keep


@contextlib.contextmanager
def setup_errors() -> Iterator[None]:
    """Log an error in the SDK's logging setup as one line, and exit.

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
