"""Any response body is either a page or a ValueError."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_mega.api.page import parse_page
from tap_mega.api.parser import split_list

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


@example(body=b'{"next_cursor": null, "leads": ["{}]}')
@given(body=st.binary() | bodies.map(lambda it: json.dumps(it).encode()))
def test_any_body_is_a_page_or_is_not(body: bytes) -> None:
    """Nothing but ValueError is raised, and only a lead may be broken JSON."""
    try:
        page = parse_page(body)
    except ValueError:
        return
    assert len(page.leads) == len(page.timestamps)
    rest, items = split_list(body, "leads")
    assert json.loads(rest)["leads"] == []
    assert len(page.leads) + len(page.rejected) == len(items)
    assert all(isinstance(lead["id"], str) and lead["id"] for lead in page.leads)
    assert page.total is None or 0 <= page.total < 2**63
    json.dumps(page.leads, default=str).encode()


@given(st.binary(max_size=40), st.integers(0, 200))
def test_a_page_that_was_cut_or_changed_raises_nothing_else(
    noise: bytes, position: int
) -> None:
    """A body that was damaged on its way is read, or is not a page."""
    body = json.dumps({"leads": [LEAD, LEAD], "next_cursor": None, "total": 2}).encode()
    for damaged in (body[:position], body[:position] + noise + body[position:]):
        try:
            page = parse_page(damaged)
        except ValueError:
            continue
        assert all(lead["id"] for lead in page.leads)


@given(st.lists(values, max_size=5), text, values)
def test_a_list_is_cut_where_its_items_end(
    items: list[t.Any], name: str, other: t.Any
) -> None:
    """Each item is cut out whole, and the rest of the object stays."""
    content = {"first": other, name: 1, "leads": items, "last": other}
    rest, cut = split_list(json.dumps(content).encode(), "leads")
    assert json.dumps(json.loads(rest)) == json.dumps({**content, "leads": []})
    assert [json.dumps(json.loads(it)) for it in cut] == list(map(json.dumps, items))


def test_a_gap_in_the_list_hides_no_lead() -> None:
    """Two commas in a row are a lead that cannot be read, between two that can."""
    lead = json.dumps(LEAD)
    page = parse_page(f'{{"leads": [{lead}, , {lead}], "next_cursor": null}}'.encode())
    assert page.leads == [LEAD, LEAD]
    assert page.rejected == ("too many digits in a number, or not JSON: lead 2",)


@pytest.mark.parametrize(
    ("total", "read"),
    [(0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None), (True, None)],
)
def test_a_total_that_cannot_be_is_none(total: object, read: int | None) -> None:
    """The API then says nothing about how many leads there are."""
    body = json.dumps({"leads": [], "next_cursor": None, "total": total})
    assert parse_page(body.encode()).total == read


@pytest.mark.parametrize("other", ["null", "1" * 5000])
def test_each_change_of_a_lead_is_counted_once(other: str) -> None:
    """A warning says how many texts and numbers were changed."""
    odd = '"a": 1e-20000, "b": 1e20000, "c": "\\ud83d\\u0000", "\\u0000": 0'
    lead = json.dumps(LEAD).replace("{", "{" + odd + ", ")
    page = parse_page(f'{{"leads": [{lead}, {other}], "next_cursor": null}}'.encode())
    assert page.leads == [{**LEAD, "a": 0, "b": None, "c": "\ufffd", "": 0}]
    assert page.repaired == 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"leads": 5}',
        b'{"leads": [',
        b'{"x": {"leads": []}}',
        b'"leads" [',
    ],
)
def test_a_body_without_the_list_has_none_to_cut(body: bytes) -> None:
    """Only a list of the object itself counts."""
    with pytest.raises(ValueError, match="list"):
        split_list(body, "leads")


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
