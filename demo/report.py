"""The tables that the demo prints after its runs."""

from __future__ import annotations

import dataclasses
import typing as t

from rich.table import Table as Grid

if t.TYPE_CHECKING:
    from rich.console import Console

    from demo.pipeline import Table

LATEST_LEADS = 5

LATEST_QUERY = """
SELECT left(contact_name, 20) AS name, source_platform AS source, status,
    current_stage ->> 'name' AS stage, custom_fields ->> 'budget' AS budget
FROM leads ORDER BY updated_at DESC, id LIMIT %s
"""
STAGES_QUERY = """
SELECT coalesce(current_stage ->> 'name', '(none)') AS stage,
    to_char(count(*), 'FM999,999') AS leads,
    to_char(100.0 * count(*) / sum(count(*)) OVER (), 'FM990.0') || ' %%' AS share
FROM leads GROUP BY 1 ORDER BY count(*) DESC, 1
"""
NEXT_STEPS = """\
[bold]To load from the real API into your own PostgreSQL[/]

  export TAP_MEGA_AUTH_TOKEN=mega_…
  export TAP_MEGA_CUSTOMER_ID=…  # the UUID that the token belongs to
  export TARGET_POSTGRES_HOST=… TARGET_POSTGRES_DATABASE=…
  export TARGET_POSTGRES_USER=… TARGET_POSTGRES_PASSWORD=…
  python3 dev.py tap-mega --config=ENV --test     # checks the credentials
  python3 dev.py meltano run leads-to-postgres    # loads all leads

This fills the table mega.leads. Run the last line every hour to load what has
changed. README.md describes the settings, and docs/ other loaders and schedules.
"""


@dataclasses.dataclass
class Run:
    """The counts of one run of the pipeline."""

    leads: int
    """The leads that it read."""
    requests: int
    """The requests that it sent."""
    rows: int
    """The rows in the table after the run."""


def show(console: Console, runs: list[Run], bookmark: str, table: Table) -> None:
    """Print the counts of the runs, and some leads.

    Args:
        console: The console to print to.
        runs: The runs in order.
        bookmark: The bookmark after the last run.
        table: The table of leads.
    """
    console.print()
    console.print(_grid("The runs", [_cells(*pair) for pair in enumerate(runs, 1)]))
    console.print("Run 2 read the changes, and the minute before the bookmark again.")
    console.print(f"The bookmark is now [bold]{bookmark}[/].\n")
    console.print(_grid("The latest leads", table.select(LATEST_QUERY, LATEST_LEADS)))
    console.print(_grid("Leads by stage", table.select(STAGES_QUERY)))
    console.print()


def _cells(number: int, run: Run) -> dict[str, str]:
    return {
        "run": str(number),
        "leads read": f"{run.leads:,}",
        "requests sent": f"{run.requests:,}",
        "rows in the table": f"{run.rows:,}",
    }


def _grid(title: str, rows: list[dict[str, t.Any]]) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold")
    for name in rows[0]:
        grid.add_column(name, no_wrap=True)
    for row in rows:
        grid.add_row(*("" if value is None else str(value) for value in row.values()))
    return grid
