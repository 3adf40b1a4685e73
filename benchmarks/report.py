"""What is told: tables, on the screen and in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import typing as t

from benchmarks.runs import ROOT
from testing.sections import replace_section

if t.TYPE_CHECKING:
    from collections.abc import Sequence

DOCS = ROOT / "docs"
PAGE = DOCS / "benchmarks.md"


def parser(description: str | None, **numbers: int) -> argparse.ArgumentParser:
    """Return a parser with `--write`, and with options that are numbers.

    Args:
        description: What `--help` says.
        **numbers: The names of the options, and their defaults.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in numbers.items():
        told = f"how many {name} (default {default})"
        made.add_argument(
            f"--{name}", type=_count, default=default, metavar="N", help=told
        )
    made.add_argument(
        "--write", action="store_true", help="put the result into docs/benchmarks.md"
    )
    return made


def _count(text: str) -> int:
    if int(text) < 1:
        msg = f"{text} is less than 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def table(rows: Sequence[t.Mapping[str, str]]) -> str:
    """Return rows as a table in Markdown; the first column holds words."""
    names = list(rows[0])
    lines = [names, [":--", *["--:"] * (len(names) - 1)], *(it.values() for it in rows)]
    widths = [max(len(row[name]) for row in (*rows, {name: name})) for name in names]
    return "".join(f"| {' | '.join(_padded(line, widths))} |\n" for line in lines)


def _padded(cells: t.Iterable[str], widths: list[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]


def publish(section: str, text: str, *, write: bool) -> None:
    """Print a section, and put it in its place on the page if asked to."""
    print(text)
    if write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(replace_section(page, section, text), encoding="utf-8")
