"""Test the real `meltano run tap-mega target-postgres` with a real PostgreSQL."""

from __future__ import annotations

import json
import socket
import typing as t

import pytest

from demo.pipeline import CommandError, Pipeline, temporary_schema
from sandbox import Sandbox
from tests.loaders import in_utc

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demo.pipeline import Table

LEADS = 345
CHANGED = 37
SCHEMA = "mega_test"
# In this zone, a time that is converted to the session's zone is hours off.
NEW_YORK = "options=-c%20timezone%3DAmerica/New_York"
TIMES = ("created_at", "updated_at", "last_interaction_at")
PRIMARY_KEY = """
SELECT attname AS name FROM pg_index
JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indisprimary AND indrelid = 'leads'::regclass
"""


class Synced(t.NamedTuple):
    """Hold the result of two runs, with changed leads in between."""

    pipeline: Pipeline
    sandbox: Sandbox
    table: Table
    requests: tuple[int, int]
    """The number of requests of each run."""
    rows: tuple[int, int]
    """The number of rows after each run."""
    contacted_others: bool
    """Whether a request was sent to another machine."""


@pytest.fixture(scope="module")
def database_url(database_url: str) -> str:
    """Provide the URL of a database whose sessions are in New York."""
    return f"{database_url}{'&' if '?' in database_url else '?'}{NEW_YORK}"


@pytest.fixture(scope="module")
def synced(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Synced]:
    """Run a full load, change some leads, and run an incremental sync."""
    with (
        Sandbox(leads=LEADS) as sandbox,
        socket.create_server(("127.0.0.1", 0)) as proxy,
        temporary_schema(database_url, SCHEMA) as table,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        folder, config = tmp_path_factory.mktemp("meltano"), sandbox.config()
        Pipeline(folder, config, database_url, SCHEMA).install()
        # Requests to other machines reach the proxy. The other variables are the
        # developer's own, and must have no effect.
        proxy_url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name, value in {
            "HTTP_PROXY": proxy_url,
            "HTTPS_PROXY": proxy_url,
            "PGHOST": "192.0.2.1",
            "TAP_MEGA_START_DATE": "2100-01-01",
            "TARGET_POSTGRES_HOST": "192.0.2.1",
            "MELTANO_ENVIRONMENT": "prod",
        }.items():
            monkeypatch.setenv(name, value)
        folder = tmp_path_factory.mktemp("meltano")
        pipeline = Pipeline(folder, config, database_url, SCHEMA)
        first = run(pipeline, sandbox, table)
        sandbox.leads.change(CHANGED)
        sandbox.leads.add(1)
        second = run(pipeline, sandbox, table)
        requests, rows = zip(first, second, strict=True)
        others = has_caller(proxy)
        yield Synced(pipeline, sandbox, table, requests, rows, contacted_others=others)


def run(pipeline: Pipeline, sandbox: Sandbox, table: Table) -> tuple[int, int]:
    """Run the pipeline, and return the numbers of requests and rows."""
    sandbox.requests.clear()
    pipeline.run()
    return len(sandbox.requests), len(table.select("SELECT 1 FROM leads"))


def has_caller(server: socket.socket) -> bool:
    """Return whether a client has connected."""
    server.setblocking(False)  # noqa: FBT003 - the parameter has no name
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def as_stored(lead: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the expected row of a lead: its times are in UTC, without a zone."""
    times = {name: lead[name] and in_utc(lead[name]) for name in TIMES}
    return {**lead, **times}


def test_the_second_run_reads_the_changes_only(synced: Synced) -> None:
    """The first one needs a request per hundred leads. Both may need some counts."""
    assert synced.rows == (LEADS, LEADS + 1)
    assert synced.requests[0] == 5
    assert 1 <= synced.requests[1] <= 4


def test_the_table_equals_the_source(synced: Synced) -> None:
    """Each row is the newest version of its lead, with unchanged JSON and UTC times."""
    rows = {row["id"]: row for row in synced.table.select("SELECT * FROM leads")}
    leads = synced.sandbox.leads.all()
    assert rows.keys() == {lead["id"] for lead in leads}
    for expected in map(as_stored, leads):
        assert expected.items() <= rows[expected["id"]].items()


def test_the_table_has_its_primary_key(synced: Synced) -> None:
    """The primary key of the table is `id`."""
    assert synced.table.select(PRIMARY_KEY) == [{"name": "id"}]


def test_no_other_table_is_loaded(synced: Synced) -> None:
    """The second stream exists only with `include_lead_changes`."""
    tables = synced.table.select(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s",
        SCHEMA,
    )
    assert tables == [{"table_name": "leads"}]


def test_the_state_holds_the_bookmark(synced: Synced) -> None:
    """Meltano's state has the newest `updated_at` that was read."""
    newest = max(lead["updated_at"] for lead in synced.sandbox.leads.all())
    assert in_utc(synced.pipeline.bookmark()) == in_utc(newest)


def test_no_other_machine_is_contacted(synced: Synced) -> None:
    """A run contacts neither Meltano's hub nor any other machine."""
    assert not synced.contacted_others


def test_the_schedule_runs_the_job(synced: Synced) -> None:
    """One job loads changes every hour, and finds deleted leads."""
    schedules = json.loads(
        synced.pipeline.meltano("schedule", "list", "--format=json").stdout
    )
    jobs = schedules["schedules"]["job"]
    assert {it["cron_interval"]: it["job"]["tasks"] for it in jobs} == {
        "0 * * * *": ["tap-mega target-postgres"],
    }


def test_a_run_that_fails_says_why(synced: Synced, tmp_path: Path) -> None:
    """The error names the command and contains the output of the tap."""
    config = {**synced.sandbox.config(), "auth_token": "mega_wrong"}
    pipeline = Pipeline(tmp_path, config, "postgresql://127.0.0.1/none", SCHEMA)
    with pytest.raises(CommandError, match="meltano run tap-mega") as failure:
        pipeline.run()
    assert "auth_token" in failure.value.output


@pytest.mark.slow
def test_a_variable_can_set_one_filter(tmp_path: Path) -> None:
    """Meltano passes the filter of a variable on, beside those of the whole object."""
    config = {"filters": '{"lead_line": "buyer"}', "filters_status": "won"}
    pipeline = Pipeline(tmp_path, config, "postgresql://127.0.0.1/none", SCHEMA)
    found = json.loads(pipeline.meltano("config", "print", "tap-mega").stdout)
    filters = {name: it for name, it in found["filters"].items() if it is not None}
    assert filters == {"lead_line": "buyer", "status": "won"}
