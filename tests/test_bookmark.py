"""Which state a sync may use, and how a bookmark moves."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from singer_sdk.exceptions import ConfigValidationError
from tap_mega.config.customers import Customer
from tap_mega.state.bookmark import Bookmark, Source, source_of
from tap_mega.sync.table_refresh import TableRefresh

from tap_mega.api.position import Position
from tap_mega.shared.timestamps import format_timestamp, parse_timestamp
from tap_mega.state.document import usable_state
from tap_mega.sync.full_refresh import FullRefresh

Json: t.TypeAlias = dict[str, t.Any]

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
CUSTOMER = "00000000-0000-4000-8000-00000000cafe"
OTHER = "11111111-1111-4111-8111-111111111111"
SOURCE = Source("https://app.gomega.ai", CUSTOMER, {})
VALUE = "2026-06-30T12:00:00.000Z"
BOOKMARK = {"replication_key": "updated_at", "replication_key_value": VALUE}

timestamps = st.datetimes(
    dt.datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    dt.datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
)


def state(*parts: Json) -> Json:
    """Return a state with these parts."""
    return {"bookmarks": {"leads": {"partitions": list(parts)}}}


def part(source: Source = SOURCE, **changes: t.Any) -> Json:
    """Return the part of a customer, as a sync of this source leaves it."""
    return {"context": source.context, **source.facts, **BOOKMARK, **changes}


def test_a_state_of_the_same_source_is_used() -> None:
    """Its bookmark stays as it is, without a warning."""
    assert usable_state(state(part()), [SOURCE], NOW) == (state(part()), [])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"api_url": "http://127.0.0.1:8765"}, "'api_url'"),
        ({"api_url": None}, "'api_url'"),
        ({"context": {"customer_id": OTHER}}, "'customer_id'"),
        ({"filters": "another digest"}, "filters"),
        ({"replication_key": "created_at"}, "'updated_at'"),
        ({"replication_key_value": "2130-01-01"}, "future"),
        ({"replication_key_value": "2026-07-01T12:05:01Z"}, "future"),
    ],
    ids=str,
)
def test_a_state_of_another_source_starts_over(changes: Json, word: str) -> None:
    """The warning says what changed, and the bookmark is gone."""
    used, (warning,) = usable_state(state(part(**changes)), [SOURCE], NOW)
    assert warning.startswith("Starting over: the state ")
    assert word in warning
    own = [
        it
        for it in used["bookmarks"]["leads"]["partitions"]
        if it["context"] == SOURCE.context
    ]
    assert own == [{"context": SOURCE.context, **SOURCE.facts}]


def test_other_filters_start_over() -> None:
    """A sync with filters does not use the bookmark of one without, nor the reverse."""
    filtered = SOURCE._replace(filters={"status": "won"})
    for made_with, used_by in ((SOURCE, filtered), (filtered, SOURCE)):
        _, (warning,) = usable_state(state(part(made_with)), [used_by], NOW)
        assert "was made with other filters" in warning
    assert usable_state(state(part(filtered)), [filtered], NOW)[1] == []


def test_the_order_of_filters_does_not_matter() -> None:
    """A program that writes the settings may sort them differently each time."""
    filters = {"status": "won", "lead_line": "buyer"}
    one, other = (
        SOURCE._replace(filters=dict(items))
        for items in (filters.items(), reversed(filters.items()))
    )
    assert usable_state(state(part(one)), [other], NOW) == (state(part(one)), [])


@pytest.mark.parametrize("version", [True, False, 0, -1, 1.5, "1", None], ids=str)
def test_what_is_not_a_version_is_dropped(version: object) -> None:
    """The bookmark beside it stays."""
    used, warnings = usable_state(state(part(version=version)), [SOURCE], NOW)
    assert (used, warnings) == (state(part()), [])


def test_the_version_of_the_last_load_is_kept() -> None:
    """The next one is larger, even if the clock was put back."""
    kept = state(part(version=1))
    assert usable_state(kept, [SOURCE], NOW) == (kept, [])
    content = part(version=int(NOW.timestamp()) + 5)
    refresh = TableRefresh([FullRefresh(content, NOW, "", is_whole=True)])
    refresh.begin(NOW)
    assert refresh.version == content["version"] == int(NOW.timestamp()) + 6


def test_the_state_does_not_reveal_the_filters() -> None:
    """`search` may be the e-mail address of a lead."""
    source = SOURCE._replace(filters={"search": "someone@example.com"})
    used, _ = usable_state(state(part(source)), [source], NOW)
    assert "someone" not in str(used)


def test_a_state_of_0_1_0_is_taken_over() -> None:
    """It had no parts, and named its filters only."""
    old: Json = {"bookmarks": {"leads": BOOKMARK}}
    assert usable_state(old, [SOURCE], NOW) == (state(part()), [])
    filtered = SOURCE._replace(filters={"status": "won"})
    old = {"bookmarks": {"leads": {**BOOKMARK, "filters": {"status": "won"}}}}
    assert usable_state(old, [filtered], NOW) == (state(part(filtered)), [])
    assert "other filters" in usable_state(old, [SOURCE], NOW)[1][0]


def test_other_customers_keep_their_parts() -> None:
    """They are there again if the tap reads them again."""
    other = part(SOURCE._replace(customer_id=OTHER))
    used, warnings = usable_state(state(other, part()), [SOURCE], NOW)
    assert (used, warnings) == (state(other, part()), [])


def test_a_customer_that_was_added_has_no_warning() -> None:
    """It has no part yet. One that starts over for another reason is named."""
    added = SOURCE._replace(customer_id=OTHER)
    assert usable_state(state(part()), [SOURCE, added], NOW)[1] == []
    moved = state(part(), part(added, api_url="https://mega.example"))
    (warning,) = usable_state(moved, [SOURCE, added], NOW)[1]
    assert warning.startswith(f"Starting over for customer {OTHER}: ")


def test_the_same_customer_in_capitals_is_the_same() -> None:
    """A UUID is the same UUID in capital letters."""
    config = {"api_url": "https://app.gomega.ai/"}
    assert source_of(Customer(CUSTOMER.upper(), ""), config) == SOURCE


def test_a_customer_that_is_there_twice_starts_over() -> None:
    """Nobody knows which of the two bookmarks is true."""
    used, (warning,) = usable_state(state(part(), part()), [SOURCE], NOW)
    assert "has this customer twice" in warning
    assert used == state({"context": SOURCE.context, **SOURCE.facts})


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "STATE", "value": {}},
        {"bookmarks": []},
        {"bookmarks": {"leads": VALUE}},
        state("leads"),  # type: ignore[arg-type]
        state({"context": "x"}),
        state({"replication_key_value": VALUE}),
        {"bookmarks": {"leads": {"partitions": 5}}},
        {"bookmarks": {"leads": {"partitions": {"customer_id": CUSTOMER}}}},
        {"bookmarks": {"leads": {**BOOKMARK, "filters": 5}}},
    ],
    ids=str,
)
def test_a_state_of_another_shape_starts_over(shape: object) -> None:
    """A state of another shape is ignored, with a warning."""
    used, (warning,) = usable_state(shape, [SOURCE], NOW)
    assert used == {}
    assert "does not have the shape" in warning


@pytest.mark.parametrize(
    "shape", [{}, {"bookmarks": {}}, {"bookmarks": {"leads": {}}}], ids=str
)
def test_a_state_without_a_bookmark_is_a_first_run(shape: Json) -> None:
    """It is not a reason for a warning."""
    assert usable_state(shape, [SOURCE], NOW) == ({}, [])


@pytest.mark.parametrize("value", ["soon", "", 2026, ["2026-01-01"], {}, True], ids=str)
def test_a_bookmark_that_is_not_a_date_is_an_error(value: object) -> None:
    """The line names the key in the state."""
    with pytest.raises(ConfigValidationError) as error:
        usable_state(state(part(replication_key_value=value)), [SOURCE], NOW)
    assert "'replication_key_value'" in error.value.errors[0]


@example(ahead=dt.timedelta(minutes=5))
@given(ahead=st.timedeltas(dt.timedelta(0), dt.timedelta(minutes=5)))
def test_a_bookmark_a_little_ahead_becomes_now(ahead: dt.timedelta) -> None:
    """Another machine's clock made it."""
    value = format_timestamp(NOW + ahead)
    ahead_of_now = state(part(replication_key_value=value))
    used, warnings = usable_state(ahead_of_now, [SOURCE], NOW)
    (found,) = used["bookmarks"]["leads"]["partitions"]
    assert parse_timestamp(found["replication_key_value"]) == NOW
    assert warnings == []


@given(started_at=timestamps, moves=st.lists(timestamps, max_size=10))
def test_a_bookmark_never_moves_back_nor_past_the_start(
    started_at: dt.datetime, moves: list[dt.datetime]
) -> None:
    """It is the newest of the timestamps before the start of the run."""
    bookmark = Bookmark({}, started_at)
    assert bookmark.value is None
    for move in moves:
        position = Position()
        position.last = move
        bookmark.advance(position, None)
    assert bookmark.value == max((min(it, started_at) for it in moves), default=None)


def unfinished(started_at: dt.datetime, last: dt.datetime) -> Json:
    """Return a part whose sync stopped at a lead."""
    rest = {
        "updated_at": format_timestamp(last),
        "id": "x",
        "offset": 1,
        "cursor": "c",
        "started_at": format_timestamp(started_at),
    }
    return part(unfinished=rest)


def test_a_resumed_sync_started_when_the_first_part_of_it_did() -> None:
    """A change since then may be on a page that was read before."""
    started_at = NOW - dt.timedelta(hours=1)
    bookmark = Bookmark(unfinished(started_at, started_at), NOW)
    position = Position()
    position.last = NOW
    bookmark.advance(position, None)
    assert bookmark.value == started_at


@pytest.mark.parametrize(
    ("seconds", "resumes"), [(None, True), (-1, True), (0, True), (1, False)], ids=str
)
def test_a_sync_resumes_unless_the_start_date_is_later(
    seconds: float | None, *, resumes: bool
) -> None:
    """Leads before the new `start_date` are not wanted any more."""
    last = NOW - dt.timedelta(hours=1)
    earliest = None if seconds is None else last + dt.timedelta(seconds=seconds)
    start = Bookmark(unfinished(NOW, last), NOW).start(earliest, lookback_seconds=60)
    assert (start.cursor == "c") == resumes
    if not resumes:
        assert start.since == earliest
