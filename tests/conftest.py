"""What all tests share: a sandbox API, a clock of their own, and the command."""

from __future__ import annotations

import os
import typing as t

import pytest

from sandbox import Sandbox
from testing.clock import FakeClock
from testing.harness import Command

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREIGN = ("TAP_MEGA_", "MELTANO", "TARGET_", "PG", "HTTP", "ALL_PROXY", "NO_PROXY")
"""How variables begin that could point a test at something else."""
SLOW_FIXTURES = {"costs", "database_url", "environment", "loaded", "synced", "wheel"}
"""They start PostgreSQL, Meltano or the demo, build the wheel, or measure CPU."""


@pytest.hookimpl(tryfirst=True)  # before pytest applies `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a slow fixture, so that no test has to be marked."""
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings and proxies out of every test."""
    for name in os.environ:
        if name.upper().startswith(FOREIGN) or name == "LOGLEVEL":
            monkeypatch.delenv(name)


@pytest.fixture
def tap(tmp_path: Path) -> Command:
    """The command."""
    return Command(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that nobody waits for."""
    return FakeClock()


@pytest.fixture
def sandbox(clock: FakeClock) -> Iterator[Sandbox]:
    """An API with 250 leads: three pages."""
    with Sandbox(leads=250, clock=clock.time) as api:
        yield api
