"""The programs that the benchmarks compare, and their commands."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

from benchmarks.runs import ROOT

if t.TYPE_CHECKING:
    from benchmarks.runs import Contender

PEERS = ROOT / "benchmarks" / "peers"


def tap_mega(config: Path) -> list[str]:
    """Return the command of this project."""
    return [str(Path(sys.executable).with_name("tap-mega")), f"--config={config}"]


def plain_tap(config: Path) -> list[str]:
    """Return the command of a tap written as the SDK's documentation teaches."""
    return [sys.executable, str(PEERS / "plain_tap.py"), f"--config={config}"]


def floor(config: Path) -> list[str]:
    """Return the command of a minimal program without a framework."""
    return [sys.executable, str(PEERS / "floor.py"), str(config)]


CONTENDERS: dict[str, Contender] = {
    "tap-mega": tap_mega,
    "plain SDK tap": plain_tap,
    "the floor": floor,
}
