"""Which state a sync may use, and how a bookmark moves."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from singer_sdk.exceptions import ConfigValidationError

from tap_mega.shared.timestamps import format_timestamp
from tap_mega.state.document import Source, read_state
from tap_mega.state.values import Part, Pass, Resume
from testing.harness import part_of

if t.TYPE_CHECKING:
    from tap_mega.state.document import Document

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
    return {**source.facts, **BOOKMARK, **changes}


def unfinished(**changes: t.Any) -> Json:
    """Return what a sync leaves that stopped before its end."""
    position = {"at": VALUE, "id": "x", "offset": 1, "cursor": "c"}
    return {"started_at": VALUE, "position": {**position, **changes}}


def read(
    given_state: object, *sources: Source, now: dt.datetime = NOW
) -> tuple[Document, list[str]]:
    """Return what a sync of these sources uses of a state, and the warnings."""
    return read_state(given_state, sources or (SOURCE,), now)


def start_over(given_state: object, *sources: Source) -> str:
    """Return the only warning about a state of which the first source uses nothing."""
    document, (warning,) = read(given_state, *sources)
    assert document[(sources or (SOURCE,))[0].customer_id] == Part()
    assert warning.startswith("Starting over")
    return warning


@pytest.mark.parametrize("rest", [{}, {"unfinished": unfinished()}], ids=str)
def test_a_state_of_the_same_source_is_used(rest: Json) -> None:
    """Its values stay as they are, without a warning."""
    document, warnings = read(state(part(**rest)))
    assert (document.to_json(), warnings) == (state(part(**rest)), [])


def test_unknown_keys_of_a_part_are_dropped() -> None:
    """Another tap or an older run left them."""
    document, warnings = read(state(part(progress_markers="x")))
    assert (document.to_json(), warnings) == (state(part()), [])


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
        ({"unfinished": 5}, "values that this version does not write"),
        ({"unfinished": unfinished(at="soon")}, "does not write"),
        ({"unfinished": unfinished(offset=-1)}, "does not write"),
        ({"unfinished": unfinished(id=None)}, "does not write"),
    ],
    ids=str,
)
def test_a_state_of_another_source_starts_over(changes: Json, word: str) -> None:
    """The warning says what is different, and the bookmark is gone."""
    assert word in start_over(state(part(**changes)))


def test_other_filters_start_over() -> None:
    """A sync with filters does not use the bookmark of one without, nor the reverse."""
    filtered = SOURCE._replace(filters={"status": "won"})
    for made_with, used_by in ((SOURCE, filtered), (filtered, SOURCE)):
        warning = start_over(state(part(made_with)), used_by)
        assert "was made with other filters" in warning
    assert read(state(part(filtered)), filtered)[1] == []


def test_the_order_of_filters_does_not_matter() -> None:
    """A program that writes the settings may sort them differently each time."""
    filters = {"status": "won", "lead_line": "buyer"}
    one, other = (
        SOURCE._replace(filters=dict(items))
        for items in (filters.items(), reversed(filters.items()))
    )
    document, warnings = read(state(part(one)), other)
    assert (document.to_json(), warnings) == (state(part(one)), [])


def test_the_state_does_not_reveal_the_filters() -> None:
    """`search` may be the e-mail address of a lead."""
    source = SOURCE._replace(filters={"search": "someone@example.com"})
    document, _ = read(state(part(source)), source)
    assert "someone" not in str(document.to_json())


def test_other_customers_keep_their_parts() -> None:
    """They are there again if the tap reads them again."""
    other = part(SOURCE._replace(customer_id=OTHER), unknown=5)
    document, warnings = read(state(other, part()))
    assert (document.to_json(), warnings) == (state(other, part()), [])
    assert document.others == 1


def test_a_customer_that_was_added_has_no_warning() -> None:
    """It has no part yet. One that starts over for another reason is named."""
    added = SOURCE._replace(customer_id=OTHER)
    assert read(state(part()), SOURCE, added)[1] == []
    moved = state(part(), part(added, api_url="https://mega.example"))
    warning = start_over(moved, added, SOURCE)
    assert warning.startswith(f"Starting over for customer {OTHER}: ")


def test_the_same_customer_in_capitals_is_the_same() -> None:
    """A UUID is the same UUID in capital letters."""
    capitals = part(context={"customer_id": CUSTOMER.upper()})
    document, warnings = read(state(capitals))
    assert (document.to_json(), warnings) == (state(part()), [])


def test_a_customer_that_is_there_twice_starts_over() -> None:
    """Nobody knows which of the two bookmarks is true."""
    assert "has this customer twice" in start_over(state(part(), part()))


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "STATE", "value": {}},
        {"bookmarks": []},
        {"bookmarks": {"leads": VALUE}},
        {"bookmarks": {"leads": BOOKMARK}},
        state("leads"),  # type: ignore[arg-type]
        state({"context": "x"}),
        state({"replication_key_value": VALUE}),
        {"bookmarks": {"leads": {"partitions": 5}}},
        {"bookmarks": {"leads": {"partitions": {"customer_id": CUSTOMER}}}},
        {"bookmarks": {"leads": {"partitions": [part()], "table": {"version": -1}}}},
    ],
    ids=str,
)
def test_a_state_of_another_shape_starts_over(shape: object) -> None:
    """A state of another shape is ignored, with a warning."""
    assert "does not have the shape" in start_over(shape)


@pytest.mark.parametrize(
    "shape", [{}, {"bookmarks": {}}, {"bookmarks": {"leads": {}}}], ids=str
)
def test_a_state_without_a_bookmark_is_a_first_run(shape: Json) -> None:
    """It is not a reason for a warning."""
    document, warnings = read(shape)
    assert (document[CUSTOMER], warnings) == (Part(), [])


@pytest.mark.parametrize("value", ["soon", "", 2026, ["2026-01-01"], {}, True], ids=str)
def test_a_bookmark_that_is_not_a_date_is_an_error(value: object) -> None:
    """The line names the key in the state."""
    with pytest.raises(ConfigValidationError) as error:
        read(state(part(replication_key_value=value)))
    assert "'replication_key_value'" in error.value.errors[0]


@example(ahead=dt.timedelta(minutes=5))
@given(ahead=st.timedeltas(dt.timedelta(0), dt.timedelta(minutes=5)))
def test_a_bookmark_a_little_ahead_becomes_now(ahead: dt.timedelta) -> None:
    """Another machine's clock made it."""
    value = format_timestamp(NOW + ahead)
    document, warnings = read(state(part(replication_key_value=value)))
    assert (document[CUSTOMER].bookmark, warnings) == (NOW, [])


@given(moves=st.lists(timestamps, max_size=10))
def test_a_bookmark_never_moves_back(moves: list[dt.datetime]) -> None:
    """It is the newest of the timestamps to which it was moved."""
    value = Part()
    for move in moves:
        value = value.moved(move, None)
    assert value.bookmark == max(moves, default=None)


def test_a_changed_part_is_in_the_state() -> None:
    """The state is what the parts say, also if it was written before."""
    document, _ = read(state(part()))
    assert document.to_json() == state(part())
    position = Resume(NOW, "y", 7)
    document[CUSTOMER] = document[CUSTOMER].moved(NOW, Pass(NOW, position))
    now = format_timestamp(NOW)
    rest = {"started_at": now, "position": {"at": now, "id": "y", "offset": 7}}
    changed = part(replication_key_value=now, unfinished=rest)
    assert document.to_json() == state(changed)


def test_a_full_refresh_from_the_future_is_given_up_for_all() -> None:
    """It counts with a clock that was wrong, and no customer can end it alone."""
    other = SOURCE._replace(customer_id=OTHER)
    parts = [
        part(refresh={"started_at": "2026-07-01T12:06:00Z", "is_confirmed": True}),
        part(other, refresh={"started_at": VALUE}),
    ]
    given_state = state(*parts)
    given_state["bookmarks"]["leads"]["table"] = {"is_closed": False}
    document, _ = read(given_state, SOURCE, other)
    assert document.table.is_closed
    for it in (document[CUSTOMER], document[OTHER]):
        assert (it.refresh, it.is_due) == (None, True)


def test_leads_that_a_full_refresh_has_yet_to_load_are_not_lost() -> None:
    """Its bookmark is ahead of them. With an anchor, all leads were loaded before."""
    begun = part(refresh={"started_at": VALUE, "read": 1})
    loaded = {**begun, "anchor": {"at": VALUE, "rows": 1}}
    for it, expected in ((begun, None), (loaded, VALUE)):
        document, _ = read(state(it))
        document.forget_deletions()
        assert document[CUSTOMER].refresh is None
        values = part_of(document.to_json())
        assert values.get("replication_key_value") == expected
