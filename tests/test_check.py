"""`--test` tells whether the credentials are right, and nothing of a lead."""

from __future__ import annotations

import typing as t

from sandbox import Fault, Sandbox

if t.TYPE_CHECKING:
    from testing.clock import FakeClock
    from testing.harness import Command, Run, Sync


def lines(run: Run) -> list[str]:
    """Return the log of a run without time and logger."""
    return [line.split(" | ", 3)[-1] for line in run.log.splitlines()]


def test_right_credentials_are_one_line_and_one_request(
    sync: Sync, sandbox: Sandbox
) -> None:
    """It says how many leads there are, and how long a first load takes."""
    run = sync("--test", page_size=1)
    assert (run.code, run.stdout) == (0, "")
    assert len(sandbox.requests) == 1
    assert lines(run)[-1] == (
        f"Customer {sandbox.config()['customer_id']}: The credentials are valid, and "
        "the token may read leads. A first load reads 250 leads with 250 requests, in "
        "about 4 min"
    )
    assert len(run.log.splitlines()) == 1


def test_a_quota_that_is_spent_is_not_waited_for(
    sync: Sync, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The log says when to run the check again."""
    sandbox.script(Fault("error", 1, None, status=429, retry_after=420))
    run = sync("--test")
    assert (run.code, clock.sleeps) == (1, [])
    (line,) = run.errors
    assert line.startswith("The credentials could not be checked: the API answered 429")
    assert line.endswith("Run again at 08:07 UTC, in 7 min")


def test_it_gives_up_after_three_tries(
    sync: Sync, sandbox: Sandbox, clock: FakeClock
) -> None:
    """`--test` sends at most three requests."""
    sandbox.script(Fault("error", times=None))
    run = sync("--test")
    assert (run.code, len(sandbox.requests)) == (1, 3)
    assert sum(clock.sleeps) < 6
    message = "Gave up after 3 tries: the API answered 503 (api_error)"
    assert run.errors == [f"{message}. Run --test again later"]


def test_a_slow_api_takes_longer_than_the_quota(
    sync: Sync, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The first page says how long the others may take."""
    sandbox.script(Fault(times=None, before=lambda: clock.sleep(30)))
    run = sync("--test", page_size=25)
    assert "reads 250 leads with 10 requests, in about 5 min" in run.log


def test_filters_that_nothing_matches_are_named(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """`--test` says so, before a load does."""
    config = {**sandbox.config(), "start_date": "2100-01-01"}
    config["filters"] = {"status": "of no lead"}
    run = tap("--test", config=config, clock=clock)
    assert run.code == 0
    assert lines(run)[-1].endswith(
        "There is no lead that matches the settings 'filters.status' and 'start_date'. "
        "The setting 'start_date' lies in the future"
    )
    assert "of no lead" not in run.log


def test_each_customer_is_one_request_and_one_line(
    tap: Command, clock: FakeClock
) -> None:
    """All failures are listed, each with its setting, and the others are fine."""
    with Sandbox(customers=4, leads=5, clock=clock.time) as sandbox:
        statuses = {1: 401, 3: 403}
        faults = (Fault("error", customer=k, status=v) for k, v in statuses.items())
        sandbox.script(*faults)
        run = tap("--test", config=sandbox.config(), clock=clock)
        assert (run.code, len(sandbox.requests)) == (1, 4)
        for line, (number, status) in zip(run.errors, statuses.items(), strict=True):
            assert line.startswith(f"Customer {sandbox.customers[number].customer_id}:")
            assert f"the API answered {status}" in line
            assert "the setting" in line
        assert run.log.count("credentials are valid") == 2


def test_all_that_is_missing_is_named(tap: Command) -> None:
    """Both settings, at once."""
    run = tap("--test", config={})
    assert run.code == 1
    assert [it.split("'")[1] for it in run.errors] == ["auth_token", "customer_id"]


def test_another_value_is_refused(sync: Sync, sandbox: Sandbox) -> None:
    """A typo in `--test=schema` prints no lead."""
    run = sync("--test=shema")
    assert (run.code, run.stdout, len(run.errors)) == (1, "", 1)
    assert "'all', 'schema'" in run.errors[0]
    assert sandbox.requests == []
