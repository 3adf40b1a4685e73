"""The programs that the benchmarks compare, and their commands."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

from benchmarks.runs import ROOT

if t.TYPE_CHECKING:
    from benchmarks.runs import Contender

PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENT = ROOT / ".peers"
PACKAGES = ("airbyte-cdk==7.39.1", "dlt==1.31.0")
"""The packages of the peers. The project does not depend on them."""


def tap_mega(config: Path) -> list[str]:
    """Return the command of this project."""
    return [str(Path(sys.executable).with_name("tap-mega")), f"--config={config}"]


def plain_tap(config: Path) -> list[str]:
    """Return the command of a tap written as the SDK's documentation teaches."""
    return [sys.executable, str(PEERS / "plain_tap.py"), f"--config={config}"]


def floor(config: Path) -> list[str]:
    """Return the command of a minimal program without a framework."""
    return [sys.executable, str(PEERS / "floor.py"), str(config)]


def airbyte(config: Path) -> list[str]:
    """Return the command of the Airbyte CDK."""
    return [
        str(ENVIRONMENT / "bin" / "source-declarative-manifest"),
        "read",
        f"--config={config}",
        f"--catalog={PEERS / 'airbyte_catalog.json'}",
        f"--manifest-path={PEERS / 'airbyte.yaml'}",
    ]


def dlt(config: Path) -> list[str]:
    """Return the command of dlt."""
    python = ENVIRONMENT / "bin" / "python"
    return [str(python), str(PEERS / "dlt_client.py"), str(config)]


CONTENDERS: dict[str, Contender] = {
    "tap-mega": tap_mega,
    "plain SDK tap": plain_tap,
    "Airbyte CDK 7.39.1": airbyte,
    "dlt 1.31.0, iterating only": dlt,
    "the floor": floor,
}
