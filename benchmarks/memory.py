"""How much memory more leads take: `python3 dev.py python -m benchmarks.memory`.

Peak memory of tap-mega that reads ten thousand leads, and that reads a million.
"""

from __future__ import annotations

from benchmarks.contenders import tap_mega
from benchmarks.report import parser, publish, table
from benchmarks.runs import measure, say, served, stop_at_signals

FEW = 10_000
MANY = 1_000_000
MIB = 2**20


def main() -> None:
    """Measure, and print the table."""
    given = parser(__doc__, leads=MANY).parse_args()
    stop_at_signals()
    rows, first = [], 0
    for leads in (FEW, given.leads):
        say(f"{leads:,} leads")
        with served(leads) as server:
            before = server.requests()
            cost = measure(tap_mega(server.config))
            requests = server.check_requests(before)
        first = first or cost.memory
        rows.append(
            {
                "leads": f"{leads:,}",
                "requests": f"{requests:,}",
                "peak memory": f"{cost.memory / MIB:.1f} MiB",
                "more than the first": f"{(cost.memory - first) / MIB:+.1f} MiB",
            }
        )
    publish("memory", table(rows), write=given.write)


if __name__ == "__main__":
    main()
