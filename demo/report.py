"""What the demo shows when its runs are done."""

from __future__ import annotations

import dataclasses
import typing as t

from rich.table import Table as Grid

if t.TYPE_CHECKING:
    from rich.console import Console

    from demo.pipeline import Table

SHOWN = 5

LATEST = """
SELECT left(contact_name, 20) AS name, source_platform AS source, status,
    current_stage ->> 'name' AS stage, custom_fields ->> 'budget' AS budget
FROM leads ORDER BY updated_at DESC, id LIMIT %s
"""
BY_STAGE = """
SELECT coalesce(current_stage ->> 'name', '(none)') AS stage,
    to_char(count(*), 'FM999,999') AS leads,
    to_char(100.0 * count(*) / sum(count(*)) OVER (), 'FM990.0') || ' %%' AS share
FROM leads GROUP BY 1 ORDER BY count(*) DESC, 1
"""
NEXT = """\
[bold]The same with the real API and a PostgreSQL of yours[/]

  export TAP_MEGA_AUTH_TOKEN=mega_…
  export TAP_MEGA_CUSTOMER_ID=…  # the UUID that the token is locked to
  export TARGET_POSTGRES_SQLALCHEMY_URL=postgresql+psycopg://USER:PASSWORD@HOST/DATABASE
  python3 dev.py meltano config test tap-mega
  python3 dev.py meltano run tap-mega target-postgres

The leads are in the table mega.leads then. Run the last line every hour: it reads
what has changed. Settings, schedules and other loaders: README.md.
"""


@dataclasses.dataclass
class Run:
    """What one run of the pipeline did."""

    leads: int
    """How many it read."""
    requests: int
    """How many it sent."""
    rows: int
    """How many the table holds after it."""


def show(console: Console, runs: list[Run], bookmark: str, table: Table) -> None:
    """Print what the runs did, what the table holds, and what to do next.

    Args:
        console: Where to.
        runs: The runs, in their order.
        bookmark: Where the next run starts.
        table: What was loaded.
    """
    console.print()
    console.print(_grid("The runs", [_words(*pair) for pair in enumerate(runs, 1)]))
    console.print("Run 2 read what had changed, and the last minute before it again.")
    console.print(f"The bookmark is now [bold]{bookmark}[/].\n")
    console.print(_grid("The latest leads", table.select(LATEST, SHOWN)))
    console.print(_grid("Leads by stage", table.select(BY_STAGE)))
    console.print()
    console.print(NEXT)


def _words(number: int, run: Run) -> dict[str, str]:
    return {
        "run": str(number),
        "leads read": f"{run.leads:,}",
        "requests spent": f"{run.requests:,}",
        "rows in the table": f"{run.rows:,}",
    }


def _grid(title: str, rows: list[dict[str, t.Any]]) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold")
    for name in rows[0]:
        grid.add_column(name, no_wrap=True)
    for row in rows:
        grid.add_row(*("" if value is None else str(value) for value in row.values()))
    return grid
