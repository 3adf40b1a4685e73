"""Run the tap: the command `tap-mega`, and `python -m tap_mega`."""

from __future__ import annotations

from tap_mega.shared.stopping import exit_before_start, handle_signals


def main() -> None:
    """Run the command, and exit. Stop signals are handled before the imports."""
    handle_signals(exit_before_start)
    from tap_mega.tap import TapMega  # noqa: PLC0415 - takes most of a second

    TapMega.cli()


if __name__ == "__main__":
    main()
