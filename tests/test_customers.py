"""Many customers in one run: settings, turns, failures, states and one table."""

from __future__ import annotations

import json
import typing as t

import pytest

from sandbox import Fault, Sandbox
from testing.clock import FakeClock
from testing.harness import full_table
from testing.least_times import least_seconds_sliding

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.harness import Command, Run, Sync

    Json: t.TypeAlias = dict[str, t.Any]

TOKENS = ("mega_0123456789abcdef", "mega_fedcba9876543210")
IDS = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-00000000000A")
PAIRS = [
    {"customer_id": name, "auth_token": token}
    for name, token in zip(IDS, TOKENS, strict=True)
]


@pytest.fixture
def sandbox(clock: FakeClock) -> Iterator[Sandbox]:
    """An API with three customers: 250, 5 and 120 leads."""
    with Sandbox(customers=3, leads=[250, 5, 120], clock=clock.time) as api:
        yield api


def listed(sandbox: Sandbox) -> set[tuple[str, str]]:
    """Return the keys of all leads of all customers."""
    return {
        (customer.customer_id, lead["id"])
        for customer in sandbox.customers
        for lead in customer.leads.all()
    }


def keys(run: Run) -> list[tuple[str, str]]:
    """Return the keys of the records, in their order."""
    return [(lead["customer_id"], lead["id"]) for lead in run.records]


def parts(state: Json) -> dict[str, Json]:
    """Return the parts of a state by their customers."""
    found = state["bookmarks"]["leads"]["partitions"]
    return {part["context"]["customer_id"]: part for part in found}


# Settings

WRONG: dict[str, tuple[Json, str]] = {
    "both": ({"auth_token": TOKENS[0]}, "'customers' replaces 'auth_token': set only"),
    "empty": ({"customers": []}, "'customers' must have at least one customer"),
    "object": ({"customers": {}}, "'customers' must be a list"),
    "text": ({"customers": ["x"]}, "'customers' (position 1) must be a JSON object"),
    "part-missing": (
        {"customers": [PAIRS[0], {"customer_id": IDS[1]}]},
        "'customers' (position 2) lacks 'auth_token'",
    ),
    "part-unknown": (
        {"customers": [{**PAIRS[0], "name": "x"}]},
        "'customers' (position 1) has no 'name', only customer_id, auth_token",
    ),
    "no-id": (
        {"customers": [{"auth_token": TOKENS[0]}]},
        "'customers' (position 1) lacks 'customer_id'",
    ),
    "no-uuid": (
        {"customers": [PAIRS[0], {**PAIRS[1], "customer_id": "acme"}]},
        "'customers.customer_id' (position 2) must be a UUID",
    ),
    "odd-token": (
        {"customers": [{**PAIRS[0], "auth_token": "mega_ 1"}]},
        "'customers.auth_token' (position 1) must be text without white space",
    ),
    "customer-twice": (
        {"customers": [PAIRS[1], {**PAIRS[0], "customer_id": IDS[1].lower()}]},
        "'customers' has the same customer_id at positions 1 and 2",
    ),
    "token-twice": (
        {"customers": [PAIRS[0], {**PAIRS[1], "auth_token": TOKENS[0]}]},
        "'customers' has the same auth_token at positions 1 and 2",
    ),
}


@pytest.mark.parametrize(("settings", "line"), WRONG.values(), ids=WRONG)
def test_an_invalid_list_is_one_line(
    tap: Command, sandbox: Sandbox, settings: Json, line: str
) -> None:
    """It names `customers` and the position, and never a token."""
    run = tap(config={**sandbox.config(), **settings})
    assert run.code == 1
    assert len(run.errors) == 1
    assert line in run.errors[0]
    assert not [token for token in TOKENS if token in run.log]
    assert not sandbox.requests


def test_the_list_comes_from_the_environment(
    tap: Command, sandbox: Sandbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`TAP_MEGA_CUSTOMERS` is JSON."""
    config = sandbox.config()
    monkeypatch.setenv("TAP_MEGA_CUSTOMERS", json.dumps(config["customers"]))
    monkeypatch.setenv("TAP_MEGA_API_URL", str(config["api_url"]))
    run = tap("--config=ENV", clock=clock)
    assert run.code == 0
    assert len(run.records) == 375


# Turns


def test_all_leads_of_all_customers_are_read(sandbox: Sandbox, sync: Sync) -> None:
    """Each page is one request, with the key of its customer and no other."""
    run = sync()
    assert run.code == 0
    assert set(keys(run)) == listed(sandbox)
    assert len(run.records) == 375
    tokens = {it.customer_id: it.auth_token for it in sandbox.customers}
    assert len(sandbox.requests) == 3 + 1 + 2
    for request in sandbox.requests:
        token = tokens[request.headers["x-customer-id"]]
        assert request.headers["authorization"] == f"Bearer {token}"


@pytest.mark.slow
def test_many_customers_take_as_long_as_the_slowest(tap: Command) -> None:
    """5 x 300 pages take the time of 1 x 300, within 5 %, without a 429."""
    seconds = []
    for customers in (1, 5):
        clock = FakeClock()
        with Sandbox(customers=customers, leads=300, clock=clock.time) as sandbox:
            run = tap(config={**sandbox.config(), "page_size": 1}, clock=clock)
            assert run.code == 0
            assert {it.status for it in sandbox.requests} == {200}
            assert len(sandbox.requests) == 300 * customers
        seconds.append(sum(clock.sleeps))
    assert seconds[0] >= least_seconds_sliding(300)
    assert seconds[1] <= 1.05 * seconds[0]


def test_a_run_ends_only_if_all_that_is_left_has_to_wait(
    sandbox: Sandbox, sync: Sync
) -> None:
    """`max_wait_seconds` stops no customer while another one can be read."""
    sandbox.script(Fault("error", 2, None, customer=0, status=429, retry_after=7200))
    run = sync()
    assert run.code == 0
    names = [it.customer_id for it in sandbox.customers]
    read = [names.index(name) for name, _ in keys(run)]
    assert [read.count(number) for number in range(3)] == [100, 5, 120]
    assert "About 150 leads are left for the next run" in run.log
    assert "unfinished" in parts(run.state)[names[0]]
    sandbox.script()
    rest = sync(state=run.state)
    assert set(keys(run) + keys(rest)) == listed(sandbox)


# Failures

FAILURES: dict[str, tuple[Fault, str]] = {
    "withdrawn": (Fault("error", 1, None, customer=1, status=401), "401"),
    "forbidden": (Fault("error", 1, None, customer=0, status=403), "403"),
    "failing": (Fault("error", 2, None, customer=0, status=503), "Gave up after"),
    "disorder": (Fault("disorder", 2, None, customer=2), "sorts by updated_at"),
}


@pytest.mark.parametrize(("fault", "words"), FAILURES.values(), ids=FAILURES)
def test_one_bad_customer_hurts_no_other(
    sandbox: Sandbox, sync: Sync, fault: Fault, words: str
) -> None:
    """The others are read to their end; one line names the one that failed."""
    sandbox.script(fault)
    bad = sandbox.customers[t.cast("int", fault.customer)].customer_id
    run = sync()
    assert run.code == 1
    assert len(run.errors) == 1
    assert run.errors[0].startswith(f"Customer {bad}: ")
    assert "; 2 of 3 customers are done, 1 failed" in run.log
    assert words in run.errors[0]
    good = {key for key in listed(sandbox) if key[0] != bad}
    assert good <= set(keys(run))
    before = len(sandbox.requests)
    sandbox.script()
    rest = sync(state=run.state)
    assert rest.code == 0
    assert set(keys(run) + keys(rest)) == listed(sandbox)
    assert len(sandbox.requests) - before <= 3 + 2
    repeated = len(run.records) + len(rest.records) - len(listed(sandbox))
    assert repeated < 20


def test_each_failure_has_its_line(sandbox: Sandbox, sync: Sync) -> None:
    """All are listed at the end, and nothing else is an error."""
    sandbox.script(
        Fault("error", 1, None, customer=0, status=401),
        Fault("error", 1, None, customer=2, status=403),
    )
    run = sync()
    assert run.code == 1
    names = [sandbox.customers[number].customer_id for number in (0, 2)]
    assert [it.split(":")[0] for it in run.errors] == [f"Customer {it}" for it in names]


# States


def test_a_customer_that_is_added_is_read_from_its_beginning(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A customer that was removed and added again keeps its bookmark."""
    config = sandbox.config()
    first, second, third = config["customers"]
    one = tap(config={**config, "customers": [first, second]}, clock=clock)
    two = tap(config={**config, "customers": [third]}, state=one.state, clock=clock)
    assert len(two.records) == 120
    assert parts(one.state).items() <= parts(two.state).items()
    all_three = tap(config=config, state=two.state, clock=clock)
    assert len(all_three.records) < 15
    assert "WARNING" not in all_three.log


def test_a_state_goes_out_with_each_page(sandbox: Sandbox, sync: Sync) -> None:
    """Killed after any line, the next run reads what is missing and little else."""
    whole = sync()
    lines = whole.stdout.splitlines(keepends=True)
    for length in range(0, len(lines), 40):
        text = [json.loads(line) for line in lines[:length]]
        states = [it["value"] for it in text if it["type"] == "STATE"]
        state = states[-1] if states else None
        rest = sync(state=state)
        read = {
            (it["record"]["customer_id"], it["record"]["id"])
            for it in text
            if it["type"] == "RECORD"
        }
        assert read | set(keys(rest)) == listed(sandbox)
        assert len(read) + len(rest.records) - 375 <= 100 + 15


def test_a_state_of_one_customer_is_used_by_many(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The shape of the state is the same, whether there is one customer or many."""
    config = sandbox.config()
    one = {**config["customers"][0], "api_url": sandbox.url}
    first = tap(config=one, clock=clock)
    many = tap(config=config, state=first.state, clock=clock)
    assert len(many.records) < 125 + 10


# One table


def test_the_key_names_the_customer(
    tap: Command, sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """Two customers may share an `id`: nothing says that it is unique across them."""
    (shared,) = sandbox.customers[0].leads.add(1)
    sandbox.customers[1].leads.add(1, id=shared)
    run = sync()
    assert run.schema["key_properties"] == ["customer_id", "id"]
    assert len([it for it in run.records if it["id"] == shared]) == 2
    assert len(set(keys(run))) == len(run.records) == 377
    one = {**sandbox.config()["customers"][0], "api_url": sandbox.url}
    assert tap(config=one, clock=clock).schema["key_properties"] == ["id"]


@pytest.mark.parametrize("bad", [None, 0, 2])
def test_rows_are_removed_for_all_customers_or_for_none(
    tap: Command, sandbox: Sandbox, clock: FakeClock, bad: int | None
) -> None:
    """ACTIVATE_VERSION speaks for the whole table."""
    if bad is not None:
        sandbox.script(Fault("error", 2, None, customer=bad, status=403))
    config = {**sandbox.config(), "emit_activate_version_messages": True}
    catalog = full_table(tap, config=config)
    run = tap(config=config, catalog=catalog, clock=clock)
    assert ("ACTIVATE_VERSION" in run.stdout) == (bad is None)
    assert (run.code == 0) == (bad is None)
    versions = {it["version"] for it in run.messages if it["type"] == "RECORD"}
    assert len(versions) == 1


# Pace and progress


def test_progress_speaks_of_all_customers(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """One line for all, about every ten seconds, and one at the end."""
    sandbox.script(Fault(times=None, before=lambda: clock.sleep(6)))
    run = sync()
    lines = [it.split(" | ")[-1] for it in run.log.splitlines() if " Read " in it]
    assert 2 <= len(lines) <= 3 + 1
    assert "; 0 of 3 customers are done, about " in lines[0]
    assert lines[-1].startswith("Read 375 of 375 leads (100 %)")
    assert lines[-1].endswith("; 3 of 3 customers are done")


def test_a_wait_says_how_many_customers_wait(sandbox: Sandbox, sync: Sync) -> None:
    """One line a minute for all of them, and until when."""
    sandbox.script(Fault("error", 2, 1, customer=0, status=429, retry_after=600))
    run = sync()
    assert run.code == 0
    waits = [it.split(" | ")[-1] for it in run.log.splitlines() if "Waiting" in it]
    assert len(waits) == 10
    for line in waits:
        assert line.endswith(". Resuming at 08:10:00 UTC; one customer waits")


def test_logs_stay_readable_with_200_customers(tap: Command, clock: FakeClock) -> None:
    """A run in which nothing goes wrong has a handful of lines."""
    with Sandbox(customers=200, leads=3, clock=clock.time) as sandbox:
        run = tap(config=sandbox.config(), clock=clock)
        assert run.code == 0
        assert len(run.records) == 600
        assert len([it for it in run.log.splitlines() if "METRIC" not in it]) < 6
