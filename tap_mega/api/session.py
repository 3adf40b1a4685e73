"""The session: which proxies and certificates of the environment requests use."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import requests

from tap_mega.config.validation import config_error, is_loopback

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Both are requests' own, in its order."""


def new_session(url: str) -> requests.Session:
    """Return a session for requests to this URL.

    Raises:
        ConfigValidationError: If the environment names certificates that are not there.
    """
    session = requests.Session()
    # A request to this machine must not go through a proxy of the environment.
    session.trust_env = not is_loopback(url)
    if url.lower().startswith("https:"):
        session.verify = _find_certificates()
    return session


def _find_certificates() -> str | bool:
    """Return the certificates that the environment names; True if it names none.

    `Session.send`, unlike `Session.get`, does not look for them.
    """
    for name in CA_VARIABLES:
        if path := os.environ.get(name):
            _check_certificates(name, Path(path))
            return path
    return True


def _check_certificates(name: str, path: Path) -> None:
    if path.is_dir():
        return
    try:
        ssl.create_default_context(cafile=path)
    except OSError:
        msg = (
            f"The environment variable {name} must name a file of certificates in "
            "the PEM format, or a folder of them"
        )
        raise config_error(msg) from None
