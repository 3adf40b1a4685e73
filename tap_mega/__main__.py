"""Run the tap as a module: `python -m tap_mega`."""

from __future__ import annotations

from tap_mega.tap import TapMega

if __name__ == "__main__":
    TapMega.cli()
