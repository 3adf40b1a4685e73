"""Test the requests, the records and the state of a sync."""

from __future__ import annotations

import datetime as dt
import decimal
import gc
import json
import re
import socket
import sys
import typing as t
from urllib.parse import urlsplit

import pytest

from sandbox import Fault, Sandbox
from tap_mega.tap import TapMega
from testing.harness import (
    FLATTENING,
    bookmark_of,
    full_table,
    part_of,
    state_of,
    stream_of,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from testing.clock import FakeClock
    from testing.harness import Command, Run, Sync, Written

Json: t.TypeAlias = dict[str, t.Any]


def by_id(leads: list[Json]) -> dict[str, Json]:
    """Return the last version of each lead, by its id."""
    return {lead["id"]: lead for lead in leads}


def full_refresh(tap: Command, sync: Sync, **settings: t.Any) -> Run:
    """Run a full-table sync with ACTIVATE_VERSION turned on."""
    emit = {"emit_activate_version_messages": True}
    return sync(catalog=full_table(tap), **settings, **emit)


def earlier(timestamp: str, **duration: float) -> str:
    """Return an earlier timestamp in the API's format."""
    then = dt.datetime.fromisoformat(timestamp) - dt.timedelta(**duration)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_full_sync_reads_every_lead_once(tap: Command, clock: FakeClock) -> None:
    """A sync of 2,345 leads sends 24 requests and reads each lead once, unchanged."""
    with Sandbox(leads=2345, clock=clock.time) as sandbox:
        run = tap(config=sandbox.config(), clock=clock)
        assert run.code == 0
        assert len(sandbox.requests) == 24
        assert run.leads == sandbox.leads.all()
        assert len(run.records) == 2345
        assert "Beginning sync of 'leads' in incremental mode" in run.log
        assert "no lead" not in run.log


def test_an_idle_poll_is_one_request(sandbox: Sandbox, sync: Sync) -> None:
    """It repeats only the look-back, and ends with the same state.

    The last line of the tap's own output works as the file of `--state`.
    """
    first = sync()
    sandbox.requests.clear()
    poll = sync(state=first.messages[-1])
    assert len(sandbox.requests) == 1
    since = earlier(str(first.bookmark), seconds=60)
    assert all(lead["updated_at"] >= since for lead in poll.records)
    assert len(poll.records) < 10
    assert poll.messages[-1] == {"type": "STATE", "value": first.state}
    assert "WARNING" not in poll.log


def test_a_poll_reads_what_changed(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """A poll after 137 changes reads all of them and little else, in two requests."""
    first = sync()
    sandbox.requests.clear()
    clock.sleep(600)
    changed = sandbox.leads.change(137)
    poll = sync(state=first.state)
    read = by_id(poll.leads)
    assert set(changed) <= set(read)
    assert len(read) < 137 + 10
    assert len(sandbox.requests) == 2
    assert {**by_id(first.leads), **read} == by_id(sandbox.leads.all())


def test_each_request_has_all_parameters(sandbox: Sandbox, sync: Sync) -> None:
    """Every page is requested with order, limit, custom fields and `updated_since`."""
    sync(start_date="2020-01-01")
    pages = [request.query for request in sandbox.requests]
    same = {
        "sort_by": "updated_at",
        "sort_dir": "asc",
        "limit": "100",
        "include_custom_fields": "true",
        "updated_since": "2020-01-01T00:00:00.000Z",
    }
    assert pages[0] == same
    assert [set(page) - set(same) for page in pages[1:]] == [{"cursor"}] * 2
    assert all(same.items() <= page.items() for page in pages)


@pytest.mark.parametrize(
    ("settings", "user_agent"),
    [
        ({}, f"tap-mega/{TapMega.plugin_version}"),
        ({"user_agent": "acme-etl (ops@acme.example)"}, "acme-etl (ops@acme.example)"),
    ],
)
def test_each_request_has_all_headers(
    sandbox: Sandbox, sync: Sync, settings: Json, user_agent: str
) -> None:
    """The vendor's two headers, and a user agent. The response may be compressed."""
    sync(**settings)
    assert len(sandbox.requests) == 3
    for request in sandbox.requests:
        assert request.headers["authorization"] == f"Bearer {sandbox.token}"
        assert request.headers["x-customer-id"] == sandbox.customer_id
        assert request.headers["user-agent"] == user_agent
        assert "gzip" in request.headers["accept-encoding"]


def test_a_run_has_one_connection_and_closes_it(
    sandbox: Sandbox, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages of a sync use it. What has run in this process holds no socket."""
    connect, addresses = socket.socket.connect, list[object]()

    def counted(sock: socket.socket, address: t.Any) -> None:
        addresses.append(address)
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", counted)
    assert sync().code == 0
    assert len(addresses) == 1
    gc.collect()
    sockets = [it for it in gc.get_objects() if isinstance(it, socket.socket)]
    port = urlsplit(sandbox.url).port
    assert not [it for it in sockets if f"raddr=('127.0.0.1', {port})" in repr(it)]


FILTERS: dict[str, tuple[str, Callable[[Json], t.Any]]] = {
    "status": ("status", lambda lead: lead["status"]),
    "stage_id": ("stageId", lambda lead: (lead["current_stage"] or {}).get("id")),
    "search": ("search", lambda lead: lead["contact_email"]),
    "lead_line": ("lead_line", lambda lead: lead["custom_fields"].get("lead_line")),
}
"""The parameter of a filter, and what it compares. `created_since` is a time."""


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_reaches_the_api(sandbox: Sandbox, sync: Sync, name: str) -> None:
    """A filter is sent with each page, and every record matches it."""
    parameter, value_of = FILTERS[name]
    lead = next(it for it in sandbox.leads.all()[125:] if value_of(it))
    run = sync(filters={name: value_of(lead)})
    assert {it.query[parameter] for it in sandbox.requests} == {value_of(lead)}
    assert lead["id"] in by_id(run.records)
    assert len(run.records) < 250
    assert len({value_of(it).lower() for it in run.records}) == 1


@pytest.mark.parametrize("is_setting", [True, False], ids=["setting", "catalog"])
def test_custom_fields_can_be_left_out(
    tap: Command, sandbox: Sandbox, sync: Sync, *, is_setting: bool
) -> None:
    """Neither requests nor schema nor records have them."""
    catalog = json.loads(tap("--discover").stdout)
    for entry in stream_of(catalog)["metadata"]:
        selected = entry["breadcrumb"] != ["properties", "custom_fields"]
        entry["metadata"]["selected"] = selected
    catalog = None if is_setting else catalog
    run = sync(catalog=catalog, include_custom_fields=not is_setting)
    assert "include_custom_fields" not in sandbox.requests[0].query
    assert len(run.records) == 250
    assert all("custom_fields" not in lead for lead in run.records)
    assert "custom_fields" not in run.schema["schema"]["properties"]


BOOKMARK = "2026-06-30T12:00:00.000Z"


@pytest.mark.parametrize(
    ("bookmark", "settings", "since"),
    [
        (None, {}, None),
        (None, {"start_date": "2026-01-31T08:00:00"}, "2026-01-31T08:00:00.000Z"),
        (BOOKMARK, {}, "2026-06-30T11:59:00.000Z"),
        (BOOKMARK, {"lookback_seconds": 0}, BOOKMARK),
        (BOOKMARK, {"lookback_seconds": 3600}, "2026-06-30T11:00:00.000Z"),
        (BOOKMARK, {"start_date": "2020-01-01"}, "2026-06-30T11:59:00.000Z"),
        (BOOKMARK, {"start_date": "2026-06-30T11:59:30Z"}, "2026-06-30T11:59:30.000Z"),
        (BOOKMARK, {"start_date": BOOKMARK}, BOOKMARK),
        (BOOKMARK, {"start_date": "2026-07-01"}, "2026-07-01T00:00:00.000Z"),
    ],
    ids=str,
)
def test_a_sync_starts_at_the_start_date_or_before_the_bookmark(
    sandbox: Sandbox,
    sync: Sync,
    bookmark: str | None,
    settings: Json,
    since: str | None,
) -> None:
    """A poll starts `lookback_seconds` before it, and not before `start_date`."""
    state = bookmark and state_of(sandbox.config(), bookmark)
    run = sync(state=state, **settings)
    assert run.code == 0
    assert sandbox.requests[0].query.get("updated_since") == since
    assert {it["id"] for it in run.records} == {
        it["id"] for it in sandbox.leads.all() if it["updated_at"] >= (since or "")
    }


def test_a_full_table_sync_ignores_the_state(
    tap: Command, sandbox: Sandbox, sync: Sync
) -> None:
    """It reads all leads, and moves the bookmark.

    Without `emit_activate_version_messages`, no message removes rows.
    """
    state = state_of(sandbox.config(), BOOKMARK)
    run = sync(catalog=full_table(tap), state=state)
    assert run.leads == sandbox.leads.all()
    assert run.bookmark == run.records[-1]["updated_at"]
    assert "Beginning sync of 'leads' in full_table mode" in run.log
    assert "ACTIVATE_VERSION" not in run.stdout
    assert not any("version" in message for message in run.messages)
    assert "WARNING" not in run.log


BOOKMARK = "2026-06-30T12:00:00.000Z"


def test_values_leave_as_the_api_sent_them(sandbox: Sandbox, sync: Sync) -> None:
    """Text, numbers, booleans and nulls leave unchanged."""
    values: Json = {
        "digits": 1.25,
        "text": "500000",
        "big": 12345678901234567890123,
        "no": False,
        "nothing": None,
        "unicode": 'Zoë 🏠 \x85 \u2028 \u2029 \\ "',
        "": "nameless",
    }
    lead = sandbox.leads.add(1, custom_fields=values)[0]
    run = sync()
    assert by_id(run.records)[lead]["custom_fields"] == values


def test_a_number_of_many_digits_is_not_rounded(sandbox: Sandbox, sync: Sync) -> None:
    """A decimal keeps its digits even if no float can hold them, and is rescued."""
    number = "1234567890.12345678901234567890"
    lead = json.dumps(sandbox.leads.all()[0])[:-1] + f', "score": {number}}}'
    sandbox.script(Fault("body", body=f'{{"leads": [{lead}], "next_cursor": null}}'))
    message = json.loads(sync().lines[1], parse_float=decimal.Decimal)
    assert message["record"]["score"] is None
    assert message["record"]["rescued_data"] == {"score": decimal.Decimal(number)}


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_flattened_records_have_every_column(
    sandbox: Sandbox, sync: Sync, depth: int
) -> None:
    """Even if an object is null. A stream map adds its column."""
    sandbox.leads.add(1, current_stage=None, owner=None, custom_fields={})
    run = sync(
        flattening_enabled=True,
        flattening_max_depth=depth,
        stream_maps={"leads": {"source": "'mega'"}},
    )
    names = run.schema["schema"]["properties"].keys()
    assert len(run.records) == 251
    assert all(record.keys() == names for record in run.records)
    assert ("owner__name" in names) == ("owner" not in names) == (depth > 0)
    assert [it for it in run.records if it.get("owner__id", it.get("owner")) is None]
    assert {record["source"] for record in run.records} == {"mega"}


@pytest.mark.parametrize("method", ["FULL_TABLE", "INCREMENTAL"])
def test_a_page_is_one_write_before_the_next_request(
    tap: Command, sandbox: Sandbox, sync: Sync, method: str
) -> None:
    """The leads of a page and its STATE, which has the newest `updated_at`."""
    counts: list[int] = []

    def count_records() -> None:
        out = t.cast("Written", sys.stdout.buffer).getvalue()
        counts.append(out.count(b'"RECORD"'))

    catalog = full_table(tap)
    stream_of(catalog)["replication_method"] = method
    sandbox.script(*(Fault(at=page, before=count_records) for page in (1, 2, 3)))
    run = sync(catalog=catalog)
    assert counts == [0, 100, 200]
    others = [it for it in run.messages if it["type"] != "RECORD"]
    assert run.writes == len(others) < 10
    if method == "INCREMENTAL":
        leads = sandbox.leads.all()
        newest = [leads[it]["updated_at"] for it in (99, 199, 249)]
        assert list(dict.fromkeys(map(bookmark_of, run.states))) == newest


def test_a_map_that_replaces_an_object_is_not_flattened(sync: Sync) -> None:
    """A stream map that replaces an object cannot be flattened, and ends the sync."""
    run = sync(
        **FLATTENING, stream_maps={"leads": {"owner": "owner['id'] if owner else None"}}
    )
    assert run.code == 1
    assert len(run.errors) == 1
    assert "'stream_maps'" in run.errors[0]
    assert all("owner" not in record for record in run.records)


def test_the_last_message_is_a_state_with_the_newest_lead(
    sandbox: Sandbox, sync: Sync
) -> None:
    """The last message is a STATE with the newest `updated_at` that was read."""
    newest = sandbox.leads.all()[-1]["updated_at"]
    run = sync()
    assert run.messages[-1] == {
        "type": "STATE",
        "value": {
            "bookmarks": {
                "leads": {
                    "partitions": [
                        {
                            "context": {"customer_id": sandbox.customer_id},
                            "api_url": sandbox.url,
                            "replication_key": "updated_at",
                            "replication_key_value": newest,
                        }
                    ]
                }
            }
        },
    }


def test_an_account_without_leads_is_no_error(tap: Command, clock: FakeClock) -> None:
    """Without leads, each run writes a SCHEMA and a STATE without a bookmark."""
    with Sandbox(leads=0, clock=clock.time) as sandbox:
        run = tap(config=sandbox.config(), clock=clock)
        assert run.code == 0
        assert [it["type"] for it in run.messages] == ["SCHEMA", "STATE"]
        again = tap(config=sandbox.config(), state=run.state, clock=clock)
        assert again.code == 0
        assert "WARNING" not in again.log


def test_a_long_sync_logs_its_progress(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """About every ten seconds, a line gives the progress, speed and time left."""
    slow = Fault(times=None, before=lambda: clock.sleep(4))
    sandbox.script(slow)
    run = sync(page_size=25)
    lines = [line.split(" | ")[-1] for line in run.log.splitlines() if " Read " in line]
    assert [line.partition(" s with")[0] for line in lines] == [
        "Read 75 of 250 leads (30 %) in 12",
        "Read 150 of 250 leads (60 %) in 24",
        "Read 225 of 250 leads (90 %) in 36",
        "Read 250 of 250 leads (100 %) in 40",
    ]
    assert [line.partition(" s with")[2].partition(";")[0] for line in lines] == [
        " 3 requests, 6 leads per second, about 28 s left",
        " 6 requests, 6 leads per second, about 16 s left",
        " 9 requests, 6 leads per second, about 4 s left",
        " 10 requests, 6 leads per second",
    ]


def test_the_last_line_sums_up(sandbox: Sandbox, sync: Sync) -> None:
    """Leads, requests, refusals, waits, and how far the bookmark lies behind."""
    sandbox.leads.add(1, updated_at="2027-01-15T07:59:00.000Z")
    sandbox.script(Fault("error", 2, status=429, retry_after=600))
    run = sync()
    (line,) = [it.split(" | ")[-1] for it in run.log.splitlines() if "refusal" in it]
    assert line == (
        "Read 251 of 251 leads (100 %) in 10 min with 4 requests, 25 leads per minute; "
        "1 refusal (429), waited 10 min; the bookmark is 2027-01-15T07:59:00.000Z, 11 "
        "min ago"
    )
    counts = re.findall(r'"http_request_count","value":(\d+).*?"tags":(.*)}', run.log)
    assert [value for value, _ in counts] == ["3", "1"]
    assert '"http_status_code":429' in counts[1][1]


NOTHING: list[tuple[Json, str]] = [
    ({}, "There is no lead"),
    (
        {"filters": {"status": "of no lead"}},
        "There is no lead that matches the setting 'filters.status'",
    ),
    (
        {"start_date": "2027-01-15T07:00:00Z"},
        "There is no lead that matches the setting 'start_date'",
    ),
    (
        {"start_date": "2027-02-01", "end_date": "2027-02-02"},
        (
            "There is no lead that matches the settings 'start_date' and 'end_date'. "
            "The setting 'start_date' lies in the future"
        ),
    ),
]


@pytest.mark.parametrize(("settings", "line"), NOTHING, ids=lambda it: str(it)[:30])
def test_nothing_to_read_is_explained(
    tap: Command, clock: FakeClock, settings: Json, line: str
) -> None:
    """One line names the settings that leave nothing, and not their values."""
    with Sandbox(leads=0, clock=clock.time) as api:
        run = tap(config={**api.config(), **settings}, clock=clock)
    assert run.code == 0
    assert f" | {line}\n" in run.log
    assert "of no lead" not in run.log


def test_no_change_since_the_bookmark_is_explained(sync: Sync) -> None:
    """The line also says so if `end_date` is not after the bookmark."""
    state = sync().state
    part_of(state)["replication_key_value"] = "2027-01-15T07:59:59.000Z"
    run = sync(state=state)
    assert "| No lead has changed since the bookmark\n" in run.log
    run = sync(state=state, end_date="2027-01-01")
    assert run.code == 0
    assert "Nothing to read: the setting 'end_date' is not after the bookmark" in (
        run.log
    )


def test_a_full_table_sync_activates_its_version_after_the_last_row(
    tap: Command, sync: Sync
) -> None:
    """ACTIVATE_VERSION follows the last record, when all rows are loaded."""
    run = full_refresh(tap, sync)
    kinds = [message["type"] for message in run.messages]
    assert kinds.count("ACTIVATE_VERSION") == 1
    after = kinds[kinds.index("ACTIVATE_VERSION") + 1 :]
    assert "RECORD" not in after
    (version,) = {it["version"] for it in run.messages if it["type"] == "RECORD"}
    activated = run.messages[kinds.index("ACTIVATE_VERSION")]
    assert activated["version"] == version - 1
    assert kinds.count("RECORD") == 250


INCOMPLETE: dict[str, tuple[Json, tuple[Fault, ...]]] = {
    "a stream map filters": (
        {"stream_maps": {"leads": {"__filter__": "id > '4'"}}},
        (),
    ),
    "filters": ({"filters": {"status": "won"}}, ()),
    "start_date": ({"start_date": "2020-01-01"}, ()),
    "end_date": ({"end_date": "2027-01-01"}, ()),
    "failed": ({}, (Fault("error", 3, status=403),)),
    "unreadable": ({}, (Fault("raw_lead", 2, 2, lead="null"),)),
    "no quota": ({}, (Fault("error", 3, status=429, retry_after=7200),)),
}


@pytest.mark.parametrize(("settings", "faults"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_sync_activates_no_version(
    tap: Command,
    sandbox: Sandbox,
    sync: Sync,
    settings: Json,
    faults: tuple[Fault, ...],
) -> None:
    """A sync that did not read all leads does not remove the others."""
    sandbox.script(*faults)
    run = full_refresh(tap, sync, **settings)
    assert "ACTIVATE_VERSION" not in run.stdout
    assert ("No rows of deleted leads are removed" in run.log) == bool(settings)
    assert run.records


def test_pages_without_a_total_activate_no_version(
    tap: Command, sandbox: Sandbox, sync: Sync
) -> None:
    """A response without leads and total does not empty the table."""
    body = '{"leads": [], "next_cursor": null}'
    sandbox.script(Fault("body", 1, times=None, body=body))
    run = full_refresh(tap, sync)
    assert (run.code, run.records) == (0, [])
    assert "ACTIVATE_VERSION" not in run.stdout
    assert "No rows of deleted leads are removed: the API sent no lead" in run.log


def test_a_catalog_without_the_stream_logs_a_warning(
    tap: Command, sandbox: Sandbox
) -> None:
    """A catalog without the stream logs a warning and sends no request."""
    run = tap(config=sandbox.config(), catalog={"streams": []})
    assert run.code == 0
    assert "The catalog has no stream 'leads', so no leads are read" in run.log
    assert not sandbox.requests


def test_each_lead_says_whose_it_is(sandbox: Sandbox, sync: Sync) -> None:
    """A lead without `customer_id` is one of the customer that was read."""
    lead = {"id": "a", "updated_at": "2026-07-01T00:00:00Z"}
    leads = [lead, {**lead, "customer_id": None}, {**lead, "customer_id": "other"}]
    page = {"leads": leads, "next_cursor": None, "total": 3}
    sandbox.script(Fault("body", body=json.dumps(page)))
    run = sync()
    owners = [record["customer_id"] for record in run.records]
    assert owners == [sandbox.customer_id, sandbox.customer_id, "other"]
