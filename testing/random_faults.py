"""Random faults of the sandbox, for tests with hypothesis."""

from __future__ import annotations

import typing as t

from hypothesis import strategies as st

from sandbox import Fault

PLAIN_KINDS = (
    *("html", "body", "reset", "truncate", "none", "none", "empty_page", "disorder"),
    *("refuse_cursor", "repeat_cursor", "same_page", "repeat_leads", "rounds_up"),
)
"""The faults that need no option and take no time.

`redirect` is an `error`; and `hang`, `trickle`, `late`, `bomb`, `two_lengths` and
`quote` say nothing about leads.
"""
HIDING_KINDS = {"early_end", "repeat_leads"}
"""These hide leads that exist. What a run does not see, a full refresh has to find."""
LYING_TOTALS = ("0", "-5", "0.5", "7", "1e6", "1e400")
IMPOSSIBLE_LEADS = ("null", "{}", '{"id": "x"}', "1" * 5000, "[" * 9000 + "]" * 9000)


def fault(kind: str, **options: st.SearchStrategy[t.Any]) -> st.SearchStrategy[Fault]:
    """Return faults of a kind that happen to some of the first requests."""
    which = {
        "at": st.integers(1, 16),
        "times": st.integers(1, 4),
        "customer": st.sampled_from([None, None, 0]),
    }
    return st.builds(Fault, st.just(kind), **{**which, **options})


faults = st.one_of(
    *(fault(kind) for kind in PLAIN_KINDS),
    fault(
        "error",
        status=st.sampled_from([400, 401, 429, 500]),
        retry_after=st.sampled_from([None, 0, 30, 7200]),
    ),
    *(
        fault("early_end", count=st.integers(0, 7), value=value)
        for value in (st.none(), st.none(), st.sampled_from(LYING_TOTALS))
    ),
    fault("total", value=st.sampled_from(LYING_TOTALS)),
    fault("raw_lead", lead=st.sampled_from(IMPOSSIBLE_LEADS)),
    fault("cursor_lifetime", times=st.none(), count=st.integers(0, 4)),
    fault("date", seconds=st.sampled_from([-3600, 3600])),
)
scripts = st.lists(faults, max_size=3).map(
    # Of two faults the first one happens: one that does not end comes last.
    lambda script: sorted(script, key=lambda it: it.times is None)
)
