"""Any response body is either a page or a ValueError."""

from __future__ import annotations

import datetime as dt
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_mega.api.page import created_at, parse_page

Json: t.TypeAlias = dict[str, t.Any]

LEAD = {"id": "1", "updated_at": "2026-07-01T18:20:00.000Z"}

text = st.text(st.characters(exclude_categories=()))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=8,
)
leads = st.just(LEAD) | st.fixed_dictionaries(
    {"id": values, "updated_at": values | st.just(LEAD["updated_at"])}
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "leads": st.lists(leads | values) | values,
        "next_cursor": st.none() | text | values,
        "total": st.integers() | values,
    },
)
GOOD = json.dumps({"leads": [LEAD, LEAD], "next_cursor": None, "total": 2}).encode()
damaged = st.builds(
    lambda noise, at: GOOD[:at] + noise + GOOD[at:],
    st.binary(max_size=40),
    st.integers(0, len(GOOD)),
)
"""What a page becomes that was changed on its way."""


@given(body=st.binary() | bodies.map(lambda it: json.dumps(it).encode()) | damaged)
def test_any_body_is_a_page_or_is_not(body: bytes) -> None:
    """Nothing but ValueError is raised, and each lead is read or named."""
    try:
        page = parse_page(body)
    except ValueError:
        return
    assert len(page.leads) == len(page.timestamps)
    assert len(page.leads) + len(page.rejected) == len(json.loads(body)["leads"])
    assert all(isinstance(lead["id"], str) and lead["id"] for lead in page.leads)
    assert page.total is None or 0 <= page.total < 2**63
    (page.next_cursor or "").encode()
    json.dumps(page.leads, default=str, ensure_ascii=False).encode()


def page_of(*leads: str) -> bytes:
    """Return a page with these leads, as JSON."""
    return f'{{"leads": [{", ".join(leads)}], "next_cursor": null}}'.encode()


@pytest.mark.parametrize(
    "body",
    [
        page_of(json.dumps(LEAD), f'{{"a": {"1" * 5000}}}'),
        page_of(json.dumps(LEAD), "[" * 2000 + "]" * 2000),
        page_of(json.dumps(LEAD), "", json.dumps(LEAD)),
    ],
    ids=["digits", "levels", "gap"],
)
def test_a_body_that_cannot_be_read_is_not_a_page(body: bytes) -> None:
    """A request for it is sent again, and then a person hears of it."""
    with pytest.raises(ValueError, match="the response was not a page of leads"):
        parse_page(body)


@pytest.mark.parametrize(
    ("total", "read"),
    [(0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None), (True, None)],
)
def test_a_total_that_cannot_be_is_none(total: object, read: int | None) -> None:
    """The API then says nothing about how many leads there are."""
    body = json.dumps({"leads": [], "next_cursor": None, "total": total})
    assert parse_page(body.encode()).total == read


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_an_id_is_not_repaired(odd: str) -> None:
    """It could become that of another lead, whose row it would replace."""
    page = parse_page(page_of(json.dumps(LEAD), json.dumps({**LEAD, "id": "1" + odd})))
    assert page.leads == [LEAD]
    assert page.rejected == ("no usable 'id': lead 2",)


def test_a_repaired_name_does_not_replace_another() -> None:
    """Two properties stay two, or the right one stays."""
    page = parse_page(page_of(json.dumps({**LEAD, "id\0": "2"})))
    assert page.leads == [LEAD]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-07-01T20:20:00+02:00", dt.datetime(2026, 7, 1, 18, 20, tzinfo=dt.UTC)),
        ("soon", None),
        (None, None),
    ],
)
def test_when_a_lead_was_created(value: object, read: dt.datetime | None) -> None:
    """In UTC, if it is known."""
    assert created_at({"created_at": value}) == read
    assert created_at({}) is None


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (
            "00000000-0000-4000-8000-00000000ABCD",
            "lead 1 with the ID 00000000-0000-4000-8000-00000000ABCD",
        ),
        ("ana@example.com", "lead 1"),
    ],
)
def test_a_lead_that_is_left_out_is_named(key: str, reason: str) -> None:
    """By its ID, if that is a UUID: other text may be of a person."""
    lead = {"id": key, "updated_at": None}
    body = json.dumps({"leads": [lead], "next_cursor": None}).encode()
    assert parse_page(body).rejected == (f"no usable 'updated_at': {reason}",)
