"""Measure peak memory by number of leads: `python3 dev.py python -m benchmarks.memory`.

tap-mega reads ten thousand leads, then a million.
"""

from __future__ import annotations

from benchmarks.contenders import tap_mega
from benchmarks.report import format_table, make_parser, publish
from benchmarks.runs import MIB, count_pages, print_progress, serve_leads
from demo.processes import exit_on_signals

FEW_LEADS = 10_000
MANY_LEADS = 1_000_000


def main() -> None:
    """Measure, and print the table."""
    options = make_parser(__doc__, leads=MANY_LEADS).parse_args()
    exit_on_signals()
    rows, first = [], 0
    for leads in (FEW_LEADS, options.leads):
        print_progress(f"{leads:,} leads")
        with serve_leads(leads) as server:
            memory = server.measure(tap_mega).memory
        first = first or memory
        rows.append(
            {
                "leads": f"{leads:,}",
                "requests": f"{count_pages(leads):,}",
                "peak memory": f"{memory / MIB:.1f} MiB",
                "increase": f"{(memory - first) / MIB:+.1f} MiB",
            }
        )
    publish("memory", format_table(rows), write=options.write)


if __name__ == "__main__":
    main()
