"""`--custom-fields` shows which custom fields there are, and no value of a lead."""

from __future__ import annotations

import json
import typing as t

import pytest

from sandbox import Fault, Sandbox
from tap_mega.records.custom_fields import READERS
from testing.harness import serve

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Run, Sync

    Json: t.TypeAlias = dict[str, t.Any]


def table(run: Run) -> dict[str, list[str]]:
    """Return the rows that were printed, by their first cell."""
    lines = run.stdout.split("\n\n")[0].splitlines()
    rows = [line.split("  ") for line in lines]
    return {row[0]: [cell.strip() for cell in row[1:] if cell] for row in rows}


def percents(*numbers: int) -> list[str]:
    """Return numbers as they are printed."""
    return [f"{it} %" for it in numbers]


def setting(run: Run) -> Json:
    """Return the setting that was printed."""
    found: Json = json.loads(run.stdout[run.stdout.index("{") :])
    return found


def serve_fields(sandbox: Sandbox, *fields: Json) -> None:
    """Let the API answer with leads that have these custom fields."""
    lead = sandbox.leads.all()[0]
    leads = [{**lead, "id": str(n), "custom_fields": it} for n, it in enumerate(fields)]
    serve(sandbox, *leads)


def test_each_custom_field_is_a_row(sync: Sync, sandbox: Sandbox) -> None:
    """It has its column, how many leads have one, and how many fit each type."""
    first = {"size": 1, "when": "2026-01-31"}
    others: list[Json] = [{"size": 2.5}, {"size": "3", "none": None}, {"size": "large"}]
    serve_fields(sandbox, first, *others)
    run = sync("--custom-fields")
    assert (run.code, run.errors) == (0, [])
    assert table(run) == {
        "slug": ["column", "leads", *READERS],
        "size": ["custom_field_size", *percents(100, 100, 50, 75, 25, 0, 0)],
        "when": ["custom_field_when", *percents(25, 100, 0, 0, 0, 100, 100)],
    }
    assert "of 4 leads" in run.stdout
    assert setting(run) == {"custom_field_types": {"size": "string", "when": "date"}}


def test_a_type_is_proposed_for_few_exceptions(sync: Sync, sandbox: Sandbox) -> None:
    """19 of 20 are enough. So the setting can be used as it is."""
    fields: list[Json] = 19 * [{"n": 7, "share": 0.5, "yes": "no"}]
    serve_fields(sandbox, *fields, {"n": "seven", "share": "half", "yes": "maybe"})
    types = setting(sync("--custom-fields"))
    expected = {"n": "integer", "share": "number", "yes": "boolean"}
    assert types["custom_field_types"] == expected
    assert sync(**types).code == 0


def test_no_value_is_printed(sync: Sync, sandbox: Sandbox) -> None:
    """Neither on stdout nor in the log. Slugs are printed in one line each."""
    secret = "ada@example.com"  # noqa: S105 - it is an example
    serve_fields(
        sandbox, {"mail": secret, "list": [secret], "two\nlines\x1b[31m": {"a": 1}}
    )
    run = sync("--custom-fields")
    assert run.code == 0
    assert secret not in run.stdout + run.log
    assert "\x1b" not in run.stdout
    assert {"list", "mail", "two?lines?[31m"} < set(table(run))


def test_excluded_fields_are_left_out(sync: Sync, sandbox: Sandbox) -> None:
    """Neither a row nor a type is shown for what is never sent."""
    serve_fields(sandbox, {"size": 1, "notes": "x"})
    run = sync("--custom-fields", exclude_custom_fields=["notes"])
    assert set(table(run)) == {"slug", "size"}
    assert setting(run) == {"custom_field_types": {"size": "integer"}}


def test_a_sample_is_read(tap: Command, clock: FakeClock) -> None:
    """Ten pages of each customer, from its first lead to its last one."""
    with Sandbox(customers=2, leads=1234, clock=clock.time) as sandbox:
        run = tap("--custom-fields", config=sandbox.config(), clock=clock)
        offsets = [int(it.query.get("offset", 0)) for it in sandbox.requests]
    assert run.code == 0
    assert "of 1,868 leads" in run.stdout
    pages = [0, 100, 200, 400, 500, 600, 800, 900, 1000, 1200]
    assert sorted(offsets) == sorted(2 * pages)
    assert clock.sleeps == []


@pytest.mark.parametrize(("leads", "requests"), [(0, 1), (1, 1), (250, 3)])
def test_few_leads_are_all_read(
    tap: Command, clock: FakeClock, leads: int, requests: int
) -> None:
    """No page is requested twice."""
    with Sandbox(leads=leads, clock=clock.time) as sandbox:
        run = tap("--custom-fields", config=sandbox.config(), clock=clock)
        assert len(sandbox.requests) == requests
    assert run.code == 0
    assert ("None of 0 leads has a custom field" in run.stdout) == (not leads)


def test_the_quota_is_not_waited_for(
    sync: Sync, sandbox: Sandbox, clock: FakeClock
) -> None:
    """What was read until then is printed, and one line says when to run again."""
    sandbox.script(Fault("error", 3, status=429, retry_after=420))
    run = sync("--custom-fields")
    assert (run.code, clock.sleeps) == (1, [])
    assert "of 200 leads" in run.stdout
    (line,) = run.errors
    assert line == (
        "Not all leads could be read: the API answered 429: the token has no quota "
        "left. Run again at 08:07 UTC, in 7 min"
    )


def test_a_customer_that_fails_stops_no_other(tap: Command, clock: FakeClock) -> None:
    """The table has the others, and the exit code is 1."""
    with Sandbox(customers=2, leads=5, clock=clock.time) as sandbox:
        sandbox.script(Fault("error", customer=0, status=401))
        run = tap("--custom-fields", config=sandbox.config(), clock=clock)
    assert run.code == 1
    assert "of 5 leads" in run.stdout
    assert len(run.errors) == 1


def test_without_custom_fields_there_is_nothing_to_show(
    sync: Sync, sandbox: Sandbox
) -> None:
    """One line names the setting, and no request is sent."""
    run = sync("--custom-fields", include_custom_fields=False)
    assert (run.code, run.stdout, sandbox.requests) == (1, "", [])
    assert "'include_custom_fields'" in run.errors[0]
