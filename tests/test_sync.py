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
from jsonschema import Draft202012Validator, FormatChecker

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
    from testing.clock import FakeClock
    from testing.harness import Command, Run, Written

    Json: t.TypeAlias = dict[str, t.Any]


def by_id(leads: list[Json]) -> dict[str, Json]:
    """Return the last version of each lead, by its id."""
    return {lead["id"]: lead for lead in leads}


def full_refresh(
    tap: Command, sandbox: Sandbox, clock: FakeClock, **settings: t.Any
) -> Run:
    """Run a full-table sync with ACTIVATE_VERSION turned on."""
    emit = {"emit_activate_version_messages": True}
    config = {**sandbox.config(), **settings, **emit}
    return tap(config=config, catalog=full_table(tap), clock=clock)


def earlier(timestamp: str, **duration: float) -> str:
    """Return an earlier timestamp in the API's format."""
    then = dt.datetime.fromisoformat(timestamp) - dt.timedelta(**duration)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("mode", ["incremental", "full_table"])
def test_the_log_says_how_a_sync_replicates(
    tap: Command, sandbox: Sandbox, clock: FakeClock, mode: str
) -> None:
    """The line of the SDK stays; only its errors have lines of our own."""
    catalog = full_table(tap) if mode == "full_table" else None
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert f"Beginning sync of 'leads' in {mode} mode" in run.log


def test_a_full_sync_reads_every_lead_once(tap: Command, clock: FakeClock) -> None:
    """A sync of 2,345 leads sends 24 requests and reads each lead once, unchanged."""
    with Sandbox(leads=2345, clock=clock.time) as sandbox:
        run = tap(config=sandbox.config(), clock=clock)
        assert run.code == 0
        assert len(sandbox.requests) == 24
        assert run.leads == sandbox.leads.all()
        assert len(run.records) == 2345


def test_an_idle_poll_is_one_request(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A poll without changes sends one request and repeats only the look-back."""
    first = tap(config=sandbox.config(), clock=clock)
    sandbox.requests.clear()
    poll = tap(config=sandbox.config(), state=first.state, clock=clock)
    assert len(sandbox.requests) == 1
    assert first.bookmark is not None
    since = earlier(first.bookmark, seconds=60)
    assert all(lead["updated_at"] >= since for lead in poll.records)
    assert len(poll.records) < 10
    assert poll.bookmark == first.bookmark


def test_a_poll_reads_what_changed(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A poll after 137 changes reads all of them and little else, in two requests."""
    first = tap(config=sandbox.config(), clock=clock)
    sandbox.requests.clear()
    clock.sleep(600)
    changed = sandbox.leads.change(137)
    poll = tap(config=sandbox.config(), state=first.state, clock=clock)
    read = by_id(poll.leads)
    assert set(changed) <= set(read)
    assert len(read) < 137 + 10
    assert len(sandbox.requests) == 2
    assert {**by_id(first.leads), **read} == by_id(sandbox.leads.all())


def test_each_request_has_all_parameters(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Every page is requested with order, limit, custom fields and `updated_since`."""
    config = {**sandbox.config(), "start_date": "2020-01-01"}
    tap(config=config, clock=clock)
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


def test_requests_have_credentials_and_a_user_agent(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Each request has the vendor's two headers and a user agent, and accepts gzip."""
    tap(config=sandbox.config(), clock=clock)
    assert len(sandbox.requests) == 3
    for request in sandbox.requests:
        assert request.headers["authorization"] == f"Bearer {sandbox.token}"
        assert request.headers["x-customer-id"] == sandbox.customer_id
        assert request.headers["user-agent"] == f"tap-mega/{TapMega.plugin_version}"
        assert "gzip" in request.headers["accept-encoding"]


def test_the_user_agent_can_be_set(tap: Command, sandbox: Sandbox) -> None:
    """The setting `user_agent` replaces the tap's default."""
    tap(config={**sandbox.config(), "user_agent": "acme-etl (ops@acme.example)"})
    assert sandbox.requests[0].headers["user-agent"] == "acme-etl (ops@acme.example)"


def test_connections_are_reused(
    tap: Command, sandbox: Sandbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages of a sync use one connection."""
    connect, addresses = socket.socket.connect, list[object]()

    def counted(sock: socket.socket, address: t.Any) -> None:
        addresses.append(address)
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", counted)
    tap(config=sandbox.config(), clock=clock)
    assert len(sandbox.requests) == 3
    assert len(addresses) == 1


def test_a_run_leaves_no_connection_open(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """What has run in this process holds no socket any more."""
    assert tap(config=sandbox.config(), clock=clock).code == 0
    gc.collect()
    sockets = [it for it in gc.get_objects() if isinstance(it, socket.socket)]
    port = urlsplit(sandbox.url).port
    assert not [it for it in sockets if f"raddr=('127.0.0.1', {port})" in repr(it)]


def filter_value(name: str, lead: Json) -> str:
    """Return the value of a lead that the filter compares."""
    values = {
        "status": lead["status"],
        "stage_id": (lead["current_stage"] or {}).get("id"),
        "search": lead["contact_email"],
        "created_since": lead["created_at"],
        "lead_line": lead["custom_fields"].get("lead_line"),
    }
    return t.cast("str", values[name])


@pytest.mark.parametrize(
    ("setting", "parameter"),
    [
        ("status", "status"),
        ("stage_id", "stageId"),
        ("search", "search"),
        ("created_since", "created_since"),
        ("lead_line", "lead_line"),
    ],
)
def test_each_filter_reaches_the_api(
    tap: Command, sandbox: Sandbox, clock: FakeClock, setting: str, parameter: str
) -> None:
    """A filter is sent with each page, and every record matches it."""
    leads = sandbox.leads.all()
    lead = next(it for it in leads[len(leads) // 2 :] if filter_value(setting, it))
    filters = {setting: filter_value(setting, lead)}
    run = tap(config={**sandbox.config(), "filters": filters}, clock=clock)
    assert all(
        request.query[parameter] == filters[setting] for request in sandbox.requests
    )
    assert lead["id"] in by_id(run.records)
    assert 0 < len(run.records) < len(leads)
    if setting != "created_since":
        assert {str(filter_value(setting, it)).lower() for it in run.records} == {
            filters[setting].lower()
        }


def test_created_since_may_be_a_plain_date(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The filter `created_since` reaches the API as a timestamp in its notation."""
    config = {**sandbox.config(), "filters": {"created_since": "2026-06-30"}}
    assert tap(config=config, clock=clock).code == 0
    (query,) = {request.query["created_since"] for request in sandbox.requests}
    assert query == "2026-06-30T00:00:00.000Z"


def test_custom_fields_can_be_left_out(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """With `include_custom_fields: false`, requests and schema omit custom fields."""
    run = tap(config={**sandbox.config(), "include_custom_fields": False}, clock=clock)
    assert "include_custom_fields" not in sandbox.requests[0].query
    assert len(run.records) == 250
    assert all("custom_fields" not in lead for lead in run.records)
    assert "custom_fields" not in run.schema["schema"]["properties"]


def test_deselecting_custom_fields_does_the_same(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A deselected `custom_fields` is not requested."""
    catalog = json.loads(tap("--discover").stdout)
    for entry in stream_of(catalog)["metadata"]:
        selected = entry["breadcrumb"] != ["properties", "custom_fields"]
        entry["metadata"]["selected"] = selected
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert "include_custom_fields" not in sandbox.requests[0].query
    assert len(run.records) == 250
    assert "custom_fields" not in run.schema["schema"]["properties"]


@pytest.mark.parametrize(
    ("start_date", "since"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("2026-01-31T08:00:00", "2026-01-31T08:00:00.000Z"),
        ("2026-01-31T08:00:00.123456Z", "2026-01-31T08:00:00.123456Z"),
        ("2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00.000Z"),
    ],
)
def test_a_first_sync_starts_at_the_start_date(
    tap: Command, sandbox: Sandbox, clock: FakeClock, start_date: str, since: str
) -> None:
    """`start_date` is a date or a date-time, in UTC unless it names a zone."""
    run = tap(config={**sandbox.config(), "start_date": start_date}, clock=clock)
    assert sandbox.requests[0].query["updated_since"] == since
    assert {it["id"] for it in run.records} == {
        it["id"] for it in sandbox.leads.all() if it["updated_at"] >= since[:19]
    }


BOOKMARK = "2026-06-30T12:00:00.000Z"


@pytest.mark.parametrize(
    ("settings", "since"),
    [
        ({}, "2026-06-30T11:59:00.000Z"),
        ({"lookback_seconds": 0}, BOOKMARK),
        ({"lookback_seconds": 3600}, "2026-06-30T11:00:00.000Z"),
        ({"start_date": "2020-01-01"}, "2026-06-30T11:59:00.000Z"),
        ({"start_date": "2026-06-30T11:59:30Z"}, "2026-06-30T11:59:30.000Z"),
        ({"start_date": BOOKMARK}, BOOKMARK),
        ({"start_date": "2026-07-01"}, "2026-07-01T00:00:00.000Z"),
    ],
    ids=str,
)
def test_a_poll_starts_before_the_bookmark(
    tap: Command,
    sandbox: Sandbox,
    clock: FakeClock,
    settings: Json,
    since: str | None,
) -> None:
    """A poll starts `lookback_seconds` before the bookmark, not before `start_date`."""
    run = tap(
        config={**sandbox.config(), **settings},
        state=state_of(sandbox.config(), BOOKMARK),
        clock=clock,
    )
    assert run.code == 0
    assert sandbox.requests[0].query.get("updated_since") == since


def test_a_full_table_sync_ignores_the_state(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A FULL_TABLE sync reads all leads, and moves the bookmark."""
    catalog = full_table(tap)
    run = tap(
        config=sandbox.config(),
        catalog=catalog,
        state=state_of(sandbox.config(), BOOKMARK),
        clock=clock,
    )
    assert run.leads == sandbox.leads.all()
    assert run.bookmark == run.records[-1]["updated_at"]


def test_each_record_satisfies_the_schema(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Every record fits the SCHEMA message."""
    run = tap(config=sandbox.config(), clock=clock)
    schema = Draft202012Validator(run.schema["schema"], format_checker=FormatChecker())
    assert run.schema["key_properties"] == ["id"]
    for record in run.records:
        schema.validate(record)


def test_values_leave_as_the_api_sent_them(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
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
    run = tap(config=sandbox.config(), clock=clock)
    assert by_id(run.records)[lead]["custom_fields"] == values


def test_a_number_of_many_digits_is_not_rounded(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A decimal keeps its digits even if no float can hold them, and is rescued."""
    number = "1234567890.12345678901234567890"
    lead = json.dumps(sandbox.leads.all()[0])[:-1] + f', "score": {number}}}'
    body = f'{{"leads": [{lead}], "next_cursor": null, "total": 1}}'
    sandbox.script(Fault("body", body=body))
    run = tap(config=sandbox.config(), clock=clock)
    record = json.loads(run.stdout.splitlines()[1], parse_float=decimal.Decimal)
    assert record["record"]["score"] is None
    assert record["record"]["rescued_data"] == {"score": decimal.Decimal(number)}


def test_an_undocumented_property_is_rescued(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A property that is not in the schema leaves in `rescued_data` only."""
    lead = {**sandbox.leads.all()[0], "shoe_size": 44}
    lead["current_stage"] = {"id": "1", "shelf": "top"}
    page = {"leads": [lead], "next_cursor": None, "total": 1}
    sandbox.script(Fault("body", body=json.dumps(page)))
    run = tap(config=sandbox.config(), clock=clock)
    assert run.code == 0
    assert set(run.records[0]) <= set(run.schema["schema"]["properties"])
    assert run.records[0]["current_stage"] == {"id": "1"}
    rescued = {"shoe_size": 44, "current_stage": {"shelf": "top"}}
    assert run.records[0]["rescued_data"] == rescued


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_flattened_records_have_every_column(
    tap: Command, sandbox: Sandbox, clock: FakeClock, depth: int
) -> None:
    """Every record has exactly the columns of the schema, even if an object is null."""
    sandbox.leads.add(1, current_stage=None, owner=None, custom_fields={})
    flattening = {"flattening_enabled": True, "flattening_max_depth": depth}
    run = tap(config={**sandbox.config(), **flattening}, clock=clock)
    names = run.schema["schema"]["properties"].keys()
    assert all(record.keys() == names for record in run.records)
    assert ("owner__name" in names) == ("owner" not in names) == (depth > 0)
    assert [it for it in run.records if it.get("owner__id", it.get("owner")) is None]


def test_a_stream_map_leaves_flattened_records_every_column(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A stream map beside flattening adds its column, even if an object is null."""
    sandbox.leads.add(1, current_stage=None, owner=None, custom_fields={})
    config = {
        **sandbox.config(),
        **FLATTENING,
        "stream_maps": {"leads": {"source": "'mega'"}},
    }
    run = tap(config=config, clock=clock)
    names = run.schema["schema"]["properties"].keys()
    assert run.code == 0
    assert len(run.records) == 251
    assert all(record.keys() == names for record in run.records)
    assert {record["source"] for record in run.records} == {"mega"}
    assert None in {record["owner__id"] for record in run.records}


def test_a_page_is_one_write(tap: Command, sandbox: Sandbox, clock: FakeClock) -> None:
    """The leads of a page and its STATE are one write."""
    run = tap(config=sandbox.config(), clock=clock)
    others = [it for it in run.messages if it["type"] != "RECORD"]
    assert run.writes == len(others)
    assert len(others) < 10


def test_a_map_that_replaces_an_object_is_not_flattened(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A stream map that replaces an object cannot be flattened, and ends the sync."""
    config = {
        **sandbox.config(),
        **FLATTENING,
        "stream_maps": {"leads": {"owner": "owner['id'] if owner else None"}},
    }
    run = tap(config=config, clock=clock)
    assert run.code == 1
    assert len(run.errors) == 1
    assert "'stream_maps'" in run.errors[0]
    assert all("owner" not in record for record in run.records)


@pytest.mark.parametrize("method", ["FULL_TABLE", "INCREMENTAL"])
def test_a_page_is_written_before_the_next_request(
    tap: Command, sandbox: Sandbox, clock: FakeClock, method: str
) -> None:
    """A page is written before the next request, with or without a new state."""
    counts: list[int] = []

    def count_records() -> None:
        out = t.cast("Written", sys.stdout.buffer).getvalue()
        counts.append(out.count(b'"RECORD"'))

    catalog = full_table(tap)
    stream_of(catalog)["replication_method"] = method
    sandbox.script(*(Fault(at=page, before=count_records) for page in (1, 2, 3)))
    tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert counts == [0, 100, 200]


def test_each_page_is_followed_by_a_state(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Each page is followed by a STATE with the page's newest `updated_at`."""
    run = tap(config={**sandbox.config(), "page_size": 50}, clock=clock)
    newest, records = None, 0
    for message in run.messages:
        if message["type"] == "RECORD":
            newest = message["record"]["updated_at"]
            records += 1
        elif message["type"] == "STATE" and records:
            assert records % 50 == 0
            assert bookmark_of(message["value"]) == newest
    assert records == 250
    assert len(run.states) >= 5


def test_the_last_message_is_a_state_with_the_newest_lead(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The last message is a STATE with the newest `updated_at` that was read."""
    newest = sandbox.leads.all()[-1]["updated_at"]
    run = tap(config=sandbox.config(), clock=clock)
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


def test_an_idle_poll_ends_with_a_state(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A poll without changes also ends with a STATE."""
    first = tap(config=sandbox.config(), clock=clock)
    poll = tap(config=sandbox.config(), state=first.state, clock=clock)
    assert poll.messages[-1] == {"type": "STATE", "value": first.state}


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
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """About every ten seconds, a line gives the progress, speed and time left."""
    slow = Fault(times=None, before=lambda: clock.sleep(4))
    sandbox.script(slow)
    run = tap(config={**sandbox.config(), "page_size": 25}, clock=clock)
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


def test_the_time_left_includes_the_quota(
    tap: Command, clock: FakeClock, sandbox: Sandbox
) -> None:
    """If the quota is the bottleneck, it determines the time left."""
    sandbox.script(Fault(times=None, before=lambda: clock.sleep(1)))
    config = {**sandbox.config(), "page_size": 10, "requests_per_minute": 5}
    run = tap(config=config, clock=clock)
    lines = [line for line in run.log.splitlines() if line.endswith(" left")]
    # 25 pages at 5 per minute: at the end of the second minute, three more follow.
    assert "Read 100 of 250 leads" in lines[0]
    assert lines[0].endswith("about 3 min left")
    assert run.code == 0


def test_the_last_line_sums_up(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Leads, requests, refusals, waits, and how far the bookmark lies behind."""
    sandbox.leads.add(1, updated_at="2027-01-15T07:59:00.000Z")
    sandbox.script(Fault("error", 2, status=429, retry_after=600))
    run = tap(config=sandbox.config(), clock=clock)
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


def test_no_change_since_the_bookmark_is_explained(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The line also says so if `end_date` is not after the bookmark."""
    state = tap(config=sandbox.config(), clock=clock).state
    part_of(state)["replication_key_value"] = "2027-01-15T07:59:59.000Z"
    run = tap(config=sandbox.config(), state=state, clock=clock)
    assert "| No lead has changed since the bookmark\n" in run.log
    config = {**sandbox.config(), "end_date": "2027-01-01"}
    run = tap(config=config, state=state, clock=clock)
    assert run.code == 0
    assert "Nothing to read: the setting 'end_date' is not after the bookmark" in (
        run.log
    )


def test_leads_that_are_read_need_no_explanation(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Neither do failures: their own line says what happened."""
    assert "no lead" not in tap(config=sandbox.config(), clock=clock).log
    sandbox.script(Fault("error", status=401))
    assert "no lead" not in tap(config=sandbox.config(), clock=clock).log


def test_a_whole_state_message_is_a_state(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The last line of the tap's own output works as the file of `--state`."""
    message = tap(config=sandbox.config(), clock=clock).messages[-1]
    assert message["type"] == "STATE"
    run = tap(config=sandbox.config(), state=message, clock=clock)
    assert "WARNING" not in run.log
    assert len(run.records) < 10


def test_a_full_table_sync_activates_its_version_after_the_last_row(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """ACTIVATE_VERSION follows the last record, when all rows are loaded."""
    run = full_refresh(tap, sandbox, clock)
    kinds = [message["type"] for message in run.messages]
    assert kinds.count("ACTIVATE_VERSION") == 1
    after = kinds[kinds.index("ACTIVATE_VERSION") + 1 :]
    assert "RECORD" not in after
    (version,) = {it["version"] for it in run.messages if it["type"] == "RECORD"}
    activated = run.messages[kinds.index("ACTIVATE_VERSION")]
    assert activated["version"] == version - 1
    assert kinds.count("RECORD") == 250


def test_a_full_table_sync_activates_no_version_unless_it_is_asked_to(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """With `emit_activate_version_messages` off, no message removes rows."""
    config = {**sandbox.config(), "emit_activate_version_messages": False}
    run = tap(config=config, catalog=full_table(tap), clock=clock)
    assert run.code == 0
    assert len(run.records) == 250
    assert "ACTIVATE_VERSION" not in {message["type"] for message in run.messages}
    assert not any("version" in message for message in run.messages)
    assert "WARNING" not in run.log


INCOMPLETE: dict[str, tuple[Json, tuple[Fault, ...]]] = {
    "a stream map filters": (
        {"stream_maps": {"leads": {"__filter__": "id > '4'"}}},
        (),
    ),
    "filters": ({"filters": {"status": "won"}}, ()),
    "start_date": ({"start_date": "2020-01-01"}, ()),
    "failed": ({}, (Fault("error", 3, status=403),)),
    "no quota": ({}, (Fault("error", 3, status=429, retry_after=7200),)),
}


@pytest.mark.parametrize(("settings", "faults"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_sync_activates_no_version(
    tap: Command,
    sandbox: Sandbox,
    clock: FakeClock,
    settings: Json,
    faults: tuple[Fault, ...],
) -> None:
    """A sync that did not read all leads does not remove the others."""
    sandbox.script(*faults)
    run = full_refresh(tap, sandbox, clock, **settings)
    assert "ACTIVATE_VERSION" not in run.stdout
    assert ("No rows of deleted leads are removed" in run.log) == bool(settings)
    assert run.records


def test_pages_that_end_too_early_activate_no_version(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """If the pages end before the API's total, no lead is removed."""
    body = '{"leads": [], "next_cursor": null}'
    sandbox.script(Fault("body", 3, times=None, body=body))
    run = full_refresh(tap, sandbox, clock)
    assert (run.code, len(run.records)) == (1, 200)
    assert "ACTIVATE_VERSION" not in run.stdout


def test_pages_without_a_total_activate_no_version(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A response without leads and total does not empty the table."""
    body = '{"leads": [], "next_cursor": null}'
    sandbox.script(Fault("body", 1, times=None, body=body))
    run = full_refresh(tap, sandbox, clock)
    assert (run.code, run.records) == (0, [])
    assert "ACTIVATE_VERSION" not in run.stdout
    assert "No rows of deleted leads are removed: the API sent no lead" in run.log


def test_a_discovered_catalog_logs_no_warning(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The catalog that `--discover` writes reads all leads without a warning."""
    catalog = json.loads(tap("--discover", config=sandbox.config()).stdout)
    run = tap(config=sandbox.config(), catalog=catalog, clock=clock)
    assert run.code == 0
    assert len(run.records) == 250
    assert "WARNING" not in run.log


def test_a_catalog_without_the_stream_logs_a_warning(
    tap: Command, sandbox: Sandbox
) -> None:
    """A catalog without the stream logs a warning and sends no request."""
    run = tap(config=sandbox.config(), catalog={"streams": []})
    assert run.code == 0
    assert "The catalog has no stream 'leads', so no leads are read" in run.log
    assert not sandbox.requests


def test_each_lead_says_whose_it_is(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """A lead without `customer_id` is one of the customer that was read."""
    lead = {"id": "a", "updated_at": "2026-07-01T00:00:00Z"}
    leads = [lead, {**lead, "customer_id": None}, {**lead, "customer_id": "other"}]
    page = {"leads": leads, "next_cursor": None, "total": 3}
    sandbox.script(Fault("body", body=json.dumps(page)))
    run = tap(config=sandbox.config(), clock=clock)
    owners = [record["customer_id"] for record in run.records]
    assert owners == [sandbox.customer_id, sandbox.customer_id, "other"]
