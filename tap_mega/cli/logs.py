"""Set up the log, and drop the lines of libraries that quote queries or leads."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import typing as t

from singer_sdk.logging import ConsoleFormatter

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEVEL_VARIABLE = "TAP_MEGA_LOGLEVEL"

QUIET_LIBRARIES = {
    "urllib3": logging.ERROR,
    "requests": logging.ERROR,
    "singer_sdk.mapper": logging.INFO,
}
"""Below these levels, libraries log leads, or queries, which may hold an e-mail."""


def silence_libraries() -> None:
    """Drop such lines of libraries, whatever the log configuration says.

    A level does not last: a configuration can set another one for any logger. A filter
    lasts, but it works for its own logger only, so each logger gets one.
    """
    for name in list(logging.root.manager.loggerDict):
        for library, level in QUIET_LIBRARIES.items():
            if f"{name}.".startswith(f"{library}."):
                logging.getLogger(name).addFilter(_at_least(level))
    logging.getLogger("tap-mega").addFilter(_is_true)


def _is_true(record: logging.LogRecord) -> bool:
    """Drop the SDK's line that variables are not read: the tap reads them itself."""
    return record.msg != "Skipping parse of env var settings..."


@functools.cache
def _at_least(level: int) -> Callable[[logging.LogRecord], bool]:
    """Return the same filter each time: a logger does not keep it twice."""
    return lambda record: record.levelno >= level


@contextlib.contextmanager
def setup_errors() -> Iterator[None]:
    """Log an error in the SDK's logging setup as one line, and exit.

    Raises:
        SystemExit: After that line.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a configuration can call anything
        console = logging.StreamHandler(sys.stderr)
        console.setFormatter(ConsoleFormatter())
        logging.basicConfig(handlers=[console], force=True)
        logging.getLogger("tap-mega").error(  # noqa: TRY400 - without a traceback
            "The log cannot be set up: %s. Check the variables %s, LOGLEVEL and "
            "SINGER_SDK_LOG_CONFIG",
            str(error).partition("\n")[0],
            LEVEL_VARIABLE,
        )
        sys.exit(1)
