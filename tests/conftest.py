"""Fixtures of all tests: a sandbox API, a fake clock and the command."""

from __future__ import annotations

import json
import os
import typing as t

import pytest

from demo.postgres import postgres_server
from sandbox import NO_LIMITS, Sandbox
from testing.clock import FakeClock
from testing.harness import Command, Sync

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREIGN = ("TAP_MEGA_", "MELTANO", "TARGET_", "PG", "HTTP", "ALL_PROXY", "NO_PROXY")
"""Prefixes of variables that could connect a test to another system."""
SLOW_FIXTURES = {"costs", "database_url", "environment", "loaded", "synced", "wheel"}
"""These start PostgreSQL, Meltano or the demo, build the wheel, or measure CPU."""


@pytest.hookimpl(tryfirst=True)  # before pytest applies `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a slow fixture, so that no test lacks the mark."""
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's own settings and proxies from the environment."""
    for name in os.environ:
        if name.upper().startswith(FOREIGN) or name == "LOGLEVEL":
            monkeypatch.delenv(name)


@pytest.fixture
def tap(tmp_path: Path) -> Command:
    """Provide the command."""
    return Command(tmp_path)


@pytest.fixture
def catalog(tap: Command) -> dict[str, t.Any]:
    """Return the catalog that the tap discovers without settings."""
    return t.cast("dict[str, t.Any]", json.loads(tap("--discover").stdout))


@pytest.fixture
def clock() -> FakeClock:
    """Provide a clock that makes no test wait."""
    return FakeClock()


@pytest.fixture
def sandbox(clock: FakeClock) -> Iterator[Sandbox]:
    """Provide an API with 250 leads, which fill three pages."""
    with Sandbox(leads=250, clock=clock.time) as api:
        yield api


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """Provide an API with 60 leads, which fill three pages of 20, and no limits."""
    with Sandbox(leads=60, limits=NO_LIMITS, clock=clock.time) as sandbox:
        yield sandbox


@pytest.fixture
def sync(tap: Command, sandbox: Sandbox, clock: FakeClock) -> Sync:
    """Provide the command with the settings of that API, on that clock."""
    return Sync(tap, sandbox, clock)


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    """Provide the URL of a database."""
    with postgres_server() as url:
        yield url
