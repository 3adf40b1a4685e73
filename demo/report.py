"""What the demo prints after its runs."""

from __future__ import annotations

import typing as t

from rich.table import Table as Grid

if t.TYPE_CHECKING:
    from rich.console import Console

    from demo.pipeline import Table

BAR_CELLS = 40

STAGES_QUERY = """
SELECT coalesce(current_stage ->> 'name', '(none)') AS stage, count(*) AS leads
FROM leads GROUP BY 1 ORDER BY 2 DESC, 1
"""
LATEST_QUERY = """
SELECT id, contact_name, source_platform, status, updated_at,
    current_stage ->> 'name' AS stage, custom_fields ->> 'budget' AS budget
FROM leads ORDER BY updated_at DESC, id LIMIT 1
"""
NEXT_STEPS = """\
[bold]To load your own leads into your own PostgreSQL[/]

  cp .env.example .env    # put your token, customer ID and database in
  python3 dev.py meltano install tap-mega target-postgres
  python3 dev.py meltano invoke tap-mega --test    # checks the credentials
  python3 dev.py meltano run leads-to-postgres

This fills the table mega.leads. Run the last line every hour. README.md has the same
for a Meltano project of your own, and docs/ other loaders and schedules.
"""


def show_stages(console: Console, table: Table) -> None:
    """Print how many leads each stage has, as bars."""
    rows = table.select(STAGES_QUERY)
    grid = Grid.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right")
    for row in rows:
        bar = "█" * round(BAR_CELLS * row["leads"] / rows[0]["leads"])
        grid.add_row(row["stage"], f"{row['leads']:,}", f"[blue]{bar}[/]")
    console.print("\n[bold]Leads by stage[/]\n", grid, sep="")


def show_latest(console: Console, table: Table) -> None:
    """Print some columns of the lead that changed last."""
    (lead,) = table.select(LATEST_QUERY)
    grid = Grid.grid(padding=(0, 2))
    for name, value in lead.items():
        grid.add_row(name, str(value))
    console.print("\n[bold]The lead that changed last[/]\n", grid, "\n", sep="")
