"""Command-line options, and result tables for the screen and docs/benchmarks.md."""

from __future__ import annotations

import argparse
import typing as t
from statistics import median

from benchmarks.runs import ROOT
from testing.sections import replace_section

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DOCS = ROOT / "docs"
PAGE = DOCS / "benchmarks.md"


def make_parser(description: str | None, **numbers: int) -> argparse.ArgumentParser:
    """Return a parser with `--write` and with numeric options.

    Args:
        description: The description for `--help`.
        **numbers: The names and defaults of the numeric options.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in numbers.items():
        parser.add_argument(
            f"--{name}",
            type=_count,
            default=default,
            metavar="N",
            help=f"number of {name} (default %(default)s)",
        )
    parser.add_argument(
        "--write", action="store_true", help="write the result to docs/benchmarks.md"
    )
    return parser


def _count(text: str) -> int:
    if int(text) < 1:
        msg = f"{text} is less than 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def median_ratio(numerators: Iterable[float], denominators: Iterable[float]) -> float:
    """Return the median of the ratios, each within one round."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def format_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as a Markdown table. The first column is aligned to the left."""
    names = list(rows[0])
    lines = [names, [":--", *["--:"] * (len(names) - 1)], *(it.values() for it in rows)]
    widths = [max(len(row[name]) for row in (*rows, {name: name})) for name in names]
    return "".join(f"| {' | '.join(_pad(line, widths))} |\n" for line in lines)


def _pad(cells: Iterable[str], widths: list[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]


def publish(section: str, text: str, *, write: bool) -> None:
    """Print a text, and optionally write it to its section of docs/benchmarks.md."""
    print(text)
    if write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(replace_section(page, section, text), encoding="utf-8")
