"""Wrong totals, many leads with one timestamp, and unreadable leads."""

from __future__ import annotations

import json
import math
import typing as t

import pytest

from sandbox import NO_LIMITS, Fault, Limits, Sandbox
from testing.harness import Run, bookmark_of, full_table, part_of

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Sync

    Json: t.TypeAlias = dict[str, t.Any]

HOUR = 3600


def refreshed(tap: Command, sync: Sync) -> Run:
    """Run a full-table sync that may remove rows."""
    return sync(catalog=full_table(tap), emit_activate_version_messages=True)


def ids(leads: list[Json]) -> set[str]:
    """Return the ids of leads."""
    return {lead["id"] for lead in leads}


# Wrong totals

LIES: dict[str, tuple[Fault, ...]] = {
    "zero-in-the-middle": (Fault("early_end", 3, value="0"),),
    "zero-at-once": (Fault("early_end", 1, value="0"),),
    "negative": (Fault("early_end", 3, value="-5"),),
    "what-was-read": (Fault("early_end", 3, value="200"),),
    "fraction": (Fault("early_end", 3, value="200.0"),),
    "text-of-digits": (Fault("total", 1, None, value="1e400"),),
    "a-page-twice": (Fault("repeat_leads", 3),),
    "nothing": (Fault("early_end", 1),),
    "always-zero": (Fault("early_end", 3, value="0"), Fault("total", 1, None)),
}


@pytest.mark.parametrize("faults", LIES.values(), ids=LIES)
def test_a_wrong_total_removes_no_live_row(
    tap: Command, sandbox: Sandbox, sync: Sync, faults: tuple[Fault, ...]
) -> None:
    """A version is activated only if all leads were read, whatever the API counts."""
    sandbox.script(*faults)
    run = refreshed(tap, sync)
    is_activated = "ACTIVATE_VERSION" in run.stdout
    assert (run.code == 0) == is_activated
    assert not is_activated or ids(run.records) >= ids(sandbox.leads.all())
    sandbox.script()
    assert "ACTIVATE_VERSION" in refreshed(tap, sync).stdout


def test_leads_that_come_twice_count_once(
    tap: Command, sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """Changed leads are read again; the table is complete all the same."""

    def change() -> None:
        clock.sleep(1)
        sandbox.leads.change(30)

    sandbox.script(Fault(at=2, before=change))
    run = refreshed(tap, sync)
    assert len(run.records) > 250
    assert "ACTIVATE_VERSION" in run.stdout


def test_no_leads_despite_a_total_is_an_error(sandbox: Sandbox, sync: Sync) -> None:
    """0 of 250 leads ends with exit code 1."""
    sandbox.script(Fault("early_end"))
    run = sync()
    assert run.code == 1
    assert len(run.errors) == 1
    assert "The API says that there are 250 leads, and sent none" in run.errors[0]


@pytest.mark.parametrize(("total", "warned"), [(350, False), (351, True)])
def test_pages_may_end_a_page_early(
    sandbox: Sandbox, sync: Sync, total: int, *, warned: bool
) -> None:
    """Leads may be deleted during a sync."""
    sandbox.script(Fault("total", 1, None, value=str(total)))
    run = sync()
    assert (run.code, len(run.records)) == (0, 250)
    assert ("leads too early" in run.log) == warned


# Many leads with one timestamp

PER_MINUTE = 6


@pytest.mark.parametrize("refuses", [False, True], ids=["", "dead-cursors"])
@pytest.mark.parametrize("seconds", [0, 30], ids=["one-timestamp", "half-a-minute"])
def test_a_crowd_is_read_in_as_many_runs_as_its_pages_need(
    tap: Command, clock: FakeClock, seconds: float, *, refuses: bool
) -> None:
    """A run that is out of quota is resumed exactly where it stopped.

    If the cursor died since, it goes on from the last lead.
    """
    limits = Limits(per_minute=PER_MINUTE, per_hour=0)
    with Sandbox(leads=0, clock=clock.time, limits=limits) as sandbox:
        for _ in range(10):
            sandbox.leads.add(20)
            clock.sleep(seconds / 10)
        config = {**sandbox.config(), "page_size": 10, "max_wait_seconds": 0}
        config["requests_per_minute"] = PER_MINUTE
        runs = list[Run]()
        while not runs or "unfinished" in part_of(runs[-1].state):
            state = runs[-1].state if runs else None
            sandbox.script(Fault("refuse_cursor") if state and refuses else Fault())
            runs.append(tap(config=config, state=state, clock=clock))
            assert runs[-1].code == 0, runs[-1].log
            assert len(runs) <= math.ceil(20 / PER_MINUTE) + 2 * refuses
            clock.sleep(HOUR)
        read = [lead["id"] for run in runs for lead in run.records]
        assert {*read} == ids(sandbox.leads.all())
        assert refuses or len(sandbox.requests) == len(read) / 10 == 20


@pytest.mark.parametrize("lifetime", [0, 1, 3])
def test_a_tie_can_take_more_pages_than_a_cursor_lives(
    tap: Command, clock: FakeClock, lifetime: int
) -> None:
    """Inside of one `updated_at`, reading goes on by `offset`."""
    with Sandbox(leads=0, clock=clock.time, limits=NO_LIMITS) as sandbox:
        sandbox.leads.add(300, updated_at="2026-01-01T00:00:00.000Z")
        sandbox.leads.add(20)
        fault = Fault("cursor_lifetime", times=None, count=lifetime)
        refuse = Fault("refuse_cursor", times=None)
        sandbox.script(fault if lifetime else refuse)
        config = {**sandbox.config(), "page_size": 10, "requests_per_minute": 0}
        run = tap(config=config, clock=clock)
        assert run.code == 0
        assert ids(run.records) == ids(sandbox.leads.all())
        assert len(sandbox.requests) <= 32 * 4


def test_leads_that_leave_a_tie_cause_no_gap(tap: Command, clock: FakeClock) -> None:
    """Where leads before the offset have changed, reading steps back."""
    with Sandbox(leads=0, clock=clock.time, limits=NO_LIMITS) as sandbox:
        sandbox.leads.add(300, updated_at="2026-01-01T00:00:00.000Z")

        def change() -> None:
            clock.sleep(10)
            sandbox.leads.change(120)

        sandbox.script(Fault("refuse_cursor", at=16, before=change))
        config = {**sandbox.config(), "page_size": 10, "requests_per_minute": 0}
        run = tap(config=config, clock=clock)
        assert run.code == 0
        newest = {lead["id"]: lead for lead in run.leads}
        assert newest == {lead["id"]: lead for lead in sandbox.leads.all()}


@pytest.mark.parametrize("stopped", [False, True], ids=["one-run", "two-runs"])
def test_leads_that_move_to_the_end_hide_none(
    tap: Command, clock: FakeClock, *, stopped: bool
) -> None:
    """A lead that was read and has changed since does not mark where reading was."""
    with Sandbox(leads=0, clock=clock.time, limits=NO_LIMITS) as sandbox:
        sandbox.leads.add(30, updated_at="2026-01-01T00:00:00.000Z")
        read = [lead["id"] for lead in sandbox.leads.all()[:20]]

        def change() -> None:
            for lead in read[:4:-1]:
                clock.sleep(1)
                sandbox.leads.update(lead)

        config = {**sandbox.config(), "page_size": 10, "max_wait_seconds": 0}
        no_quota = Fault("error", 3, None, status=429, retry_after=600)
        refuse = Fault("refuse_cursor", 1 if stopped else 3, before=change)
        runs, state = list[Run](), None
        for fault in [no_quota, refuse] if stopped else [refuse]:
            sandbox.script(fault)
            runs.append(tap(config=config, state=state, clock=clock))
            assert runs[-1].code == 0
            state = runs[-1].state
        newest = {lead["id"]: lead for run in runs for lead in run.leads}
        assert newest == {lead["id"]: lead for lead in sandbox.leads.all()}


# Unreadable leads

IMPOSSIBLE: dict[str, tuple[str, str]] = {
    "null": ("null", "not an object"),
    "empty": ("{}", "no usable 'id'"),
    "no-id": ('{"id": null, "updated_at": "2027-01-01"}', "no usable 'id'"),
    "no-date": ('{"id": "x", "updated_at": ""}', "no usable 'updated_at'"),
}


@pytest.mark.parametrize(("lead", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("page", [1, 3])
def test_an_impossible_lead_blocks_no_other(
    sandbox: Sandbox, sync: Sync, lead: str, why: str, page: int
) -> None:
    """It is left out, all others are read, and exit code 1 says to look."""
    sandbox.script(Fault("raw_lead", page, 2, lead=lead))
    run = sync()
    assert run.code == 1
    assert run.leads == sandbox.leads.all()
    assert len(sandbox.requests) == 3 + 1
    assert bookmark_of(run.state) == sandbox.leads.all()[-1]["updated_at"]
    number = 51 if page == 3 else 101
    assert len(run.errors) == 1
    assert run.errors[0].startswith("Left out 1 lead that cannot be read (")
    assert why in run.errors[0]
    assert f"lead {number} of page {page}" in run.errors[0]


@pytest.mark.parametrize("status", [429, 503])
def test_an_impossible_lead_is_named_if_the_run_ends_early(
    sandbox: Sandbox, sync: Sync, status: int
) -> None:
    """The state passes it, so no later run would name it."""
    sandbox.script(
        Fault("raw_lead", 1, 2, lead="null"),
        Fault("error", 3, None, status=status, retry_after=600 if status == 429 else 1),
    )
    run = sync(max_wait_seconds=0, backoff_max_tries=2)
    assert run.code == 1
    assert len(run.errors) == 1
    assert "lead 101 of page 1" in run.errors[0]
    assert ("Gave up after 2 tries" in run.errors[0]) == (status == 503)
    assert ("leads are left for the next run" in run.log) == (status == 429)


@pytest.mark.parametrize(
    ("count", "end"), [(10, ")"), (11, ", and 1 more)"), (50, ", and 40 more)")]
)
def test_many_impossible_leads_are_one_short_line(
    sandbox: Sandbox, sync: Sync, count: int, end: str
) -> None:
    """The first ten are named."""
    page = {"leads": [None] * count, "next_cursor": None, "total": count}
    sandbox.script(Fault("body", times=2, body=json.dumps(page)))
    run = sync()
    assert run.code == 1
    assert f"Left out {count} leads" in run.errors[0]
    assert f"lead 10 of page 1{end}" in run.errors[0]
    assert len(run.errors[0]) < 700


@pytest.mark.parametrize(
    ("sent", "stored", "count"),
    [
        ({"contact_name": "Zo\0\0ë"}, {"contact_name": "Zoë"}, 1),
        ({"contact_name": "\ud83c!"}, {"contact_name": "\ufffd!"}, 1),
        ({"contact_name": "\udc00"}, {"contact_name": "\ufffd"}, 1),
        (
            {"contact_name": "Zo\0 \ud83c", "custom_fields": {"no\0tes": "a\udc00b"}},
            {"contact_name": "Zo \ufffd", "custom_fields": {"notes": "a\ufffdb"}},
            3,
        ),
    ],
    ids=["nul", "high-half", "low-half", "all"],
)
def test_text_that_no_database_takes_is_repaired(
    sandbox: Sandbox, sync: Sync, sent: Json, stored: Json, count: int
) -> None:
    """Half an emoji becomes U+FFFD, NUL is dropped, and one warning counts them."""
    lead = {**sandbox.leads.all()[0], **sent}
    page = json.dumps({"leads": [lead], "next_cursor": None, "total": 1})
    sandbox.script(Fault("body", body=page))
    run = sync()
    assert (run.code, run.leads) == (0, [{**lead, **stored}])
    (warning,) = [line for line in run.log.splitlines() if "WARNING" in line]
    assert f"{count} texts and numbers of leads were changed" in warning


@pytest.mark.parametrize(
    ("number", "stored"),
    [
        ("1e-20000", 0),
        ("-1e-400", 0),
        ("1e-99999999999999999999", 0),
        ("1e400", None),
        ("-1E+99999999999999999999", None),
        ("1e307", 1e307),
        ("0.0000001", 1e-7),
        ("0e-400", 0),
        ("12345678901234567890.5", 12345678901234567890.5),
    ],
)
def test_numbers_that_no_double_holds_are_repaired(
    sandbox: Sandbox, sync: Sync, number: str, stored: float | None
) -> None:
    """One that is too small becomes 0, and one that is too large null."""
    lead = {**sandbox.leads.all()[0], "custom_fields": {"budget": "NUMBER"}}
    page = json.dumps({"leads": [lead], "next_cursor": None, "total": 1})
    sandbox.script(Fault("body", body=page.replace('"NUMBER"', number)))
    run = sync()
    assert run.code == 0
    assert run.records[0]["custom_fields"]["budget"] == stored


# Clocks


def test_the_bookmark_does_not_pass_the_clock_of_the_api(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """If our clock is ahead, the API's clock limits the bookmark."""
    sandbox.leads.add(1, updated_at="2130-01-01T00:00:00.000Z")
    api_time = int(clock.now)
    clock.now += 7200
    page = {"leads": sandbox.leads.all()[-1:], "next_cursor": None, "total": 1}
    sandbox.script(Fault("body", body=json.dumps(page)))
    sandbox._clock = lambda: api_time  # noqa: SLF001
    run = sync()
    assert run.code == 0
    assert bookmark_of(run.state) == "2027-01-15T08:00:00.000Z"
    assert "The clock of this machine and the clock of the API differ by 2 h" in run.log


def test_an_api_that_rounds_loses_no_lead(tap: Command, clock: FakeClock) -> None:
    """After a refused cursor, reading resumes a second before the last lead."""
    with Sandbox(leads=0, clock=clock.time) as sandbox:
        sandbox.leads.add(30, updated_at="2026-01-01T00:00:00.000Z")
        rounds = Fault("rounds_up", times=None)
        sandbox.script(Fault("refuse_cursor", at=2), rounds)
        run = tap(config={**sandbox.config(), "page_size": 20}, clock=clock)
        assert ids(run.records) == ids(sandbox.leads.all())
