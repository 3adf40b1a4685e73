"""The sandbox answers requests as the vendor's document specifies."""

from __future__ import annotations

import datetime as dt
import doctest
import re
import typing as t

import pytest
import requests
import schemathesis

import sandbox as sandbox_package
from sandbox import Sandbox
from sandbox.document import LEADS_PATH, document, filter_names
from sandbox.people import OPEN_STAGES, STAGES, LeadMaker
from tap_mega.config.schema import SETTINGS

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from testing.clock import FakeClock

    Lead: t.TypeAlias = dict[str, t.Any]

TIMEOUT_SECONDS = 60
LIST_LEADS = schemathesis.openapi.from_dict(document())[LEADS_PATH]["GET"]
OLD = "2025-02-02T02:02:02.000Z"
FUTURE = "2030-01-01T00:00:00.000Z"


def send(
    sandbox: Sandbox,
    headers: t.Mapping[str, str | None] | None = None,
    /,
    *,
    method: str = "GET",
    path: str = LEADS_PATH,
    stream: bool = False,
    **query: object,
) -> requests.Response:
    """Send a request. A header with the value None is left out."""
    all_headers: dict[str, t.Any] = {
        "Authorization": f"Bearer {sandbox.token}",
        "x-customer-id": sandbox.customer_id,
        **(headers or {}),
    }
    return requests.request(
        method,
        sandbox.url + path,
        params=t.cast("dict[str, str]", query),
        headers=all_headers,
        timeout=TIMEOUT_SECONDS,
        allow_redirects=False,
        stream=stream,
    )


def get(
    sandbox: Sandbox,
    headers: t.Mapping[str, str | None] | None = None,
    /,
    **query: t.Any,
) -> requests.Response:
    """Send a request and check the response against the document."""
    response = send(sandbox, headers, **query)
    LIST_LEADS.validate_response(response)
    return response


def list_leads(sandbox: Sandbox, **query: object) -> list[Lead]:
    """Return the leads of the first page."""
    leads: list[Lead] = get(sandbox, **query).json()["leads"]
    return leads


def list_pages(sandbox: Sandbox, **query: object) -> list[Lead]:
    """Follow the cursors and return all pages."""
    pages = [get(sandbox, **query).json()]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(get(sandbox, **{**query, "cursor": cursor}).json())
    return pages


def list_all(sandbox: Sandbox, **query: object) -> list[Lead]:
    """Follow the cursors and return the leads of all pages."""
    return [lead for page in list_pages(sandbox, **query) for lead in page["leads"]]


def ids(leads: list[Lead]) -> list[str]:
    """Return the ids of leads, in the same order."""
    return [lead["id"] for lead in leads]


def test_the_documentation_of_the_package_is_true() -> None:
    """The examples in its docstring run."""
    result = doctest.testmod(sandbox_package)
    assert result.failed == 0
    assert result.attempted > 10


# Authentication and routes


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Authorization", None, "the token is missing"),
        ("Authorization", "Bearer mega_wrong", "the token is missing"),
        ("Authorization", f"Basic {Sandbox.token}", "the token is missing"),
        ("Authorization", Sandbox.token, "the token is missing"),
        ("x-customer-id", None, "x-customer-id is missing"),
        ("x-customer-id", "00000000-0000-4000-8000-000000000002", "another customer"),
        ("Authorization", f"Bearer {Sandbox.token_without_scope}", "public_api:leads"),
    ],
)
def test_wrong_credentials_are_rejected(
    api: Sandbox, name: str, value: str | None, message: str
) -> None:
    """A wrong or missing credential gives 401, a missing permission 403."""
    response = get(api, {name: value})
    error = response.json()["error"]
    assert message in error["message"]
    found = (response.status_code, error["type"])
    if "missing" in message:
        assert found == (401, "authentication_error")
    else:
        assert found == (403, "authorization_error")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *((method, "/api", 404) for method in ("GET", "POST")),
        *((it, LEADS_PATH, 405) for it in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD")),
    ],
)
def test_other_paths_and_methods_are_rejected(
    clock: FakeClock, method: str, path: str, status: int
) -> None:
    """The document only defines GET of one path. The request counts for the limits."""
    with Sandbox(leads=0, clock=clock.time) as sandbox:
        response = send(sandbox, method=method, path=path)
    assert response.status_code == status
    assert response.headers.get("Allow") == ("GET" if status == 405 else None)
    assert response.headers["RateLimit-Remaining"] == "59"
    if method == "HEAD":
        assert not response.content
    else:
        assert response.json()["error"]["code"] == status


def test_only_loopback_addresses_are_allowed() -> None:
    """The sandbox refuses an address that other machines can reach."""
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(host="0.0.0.0", leads=0)  # noqa: S104 - the sandbox refuses it


# Pages


def test_a_page_has_the_documented_properties(api: Sandbox) -> None:
    """By default a page has 20 leads. No empty page follows a full last one."""
    first, second, third = list_pages(api)
    assert len(first["leads"]) == first["limit"] == 20
    assert (first["total"], first["offset"]) == (60, 0)
    assert len(second["leads"]) == len(third["leads"]) == 20


@pytest.mark.parametrize("sort_by", ["created_at", "updated_at"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
@pytest.mark.parametrize("filters", [(), ("created", "updated")])
def test_cursors_and_offsets_reach_every_lead_in_order(
    api: Sandbox, sort_by: str, sort_dir: str, filters: tuple[str, ...]
) -> None:
    """Leads are sorted by timestamp, then id. `total` counts what the filters match."""
    for lead in api.leads.all()[10:30]:
        api.leads.update(lead["id"], **{sort_by: "2026-12-12T12:12:12.000Z"})
    leads = api.leads.all()
    since = {it: sorted(x[f"{it}_at"] for x in leads)[12] for it in filters}
    leads = [x for x in leads if all(x[f"{it}_at"] >= since[it] for it in since)]
    leads.sort(key=lambda x: (x[sort_by], x["id"]), reverse=sort_dir == "desc")
    expected = ids(leads)
    assert (len(expected) < 60) == bool(filters)

    query = {"sort_by": sort_by, "sort_dir": sort_dir, "limit": 7}
    query |= {f"{name}_since": value for name, value in since.items()}
    pages = list_pages(api, **query)
    assert [id_ for page in pages for id_ in ids(page["leads"])] == expected
    assert {page["total"] for page in pages} == {len(expected)}
    for offset in (0, 5, len(expected) - 1, len(expected)):
        page = get(api, **query, offset=offset).json()
        assert ids(page["leads"]) == expected[offset : offset + 7]
        assert (page["total"], page["offset"]) == (len(expected), offset)
    after = list_leads(api, **query, cursor=pages[0]["next_cursor"], offset=3)
    assert ids(after) == expected[10:17]


@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_sorting_by_last_interaction_has_no_cursors(
    api: Sandbox, sort_dir: str
) -> None:
    """Leads without an interaction are last, and next_cursor is null."""
    query = {"sort_by": "last_interaction_at", "sort_dir": sort_dir}
    page = get(api, **query, limit=50).json()
    rest = list_leads(api, **query, limit=50, offset=50)
    dates = [lead["last_interaction_at"] for lead in page["leads"] + rest]
    known = [date for date in dates if date]
    assert page["next_cursor"] is None
    assert known == sorted(known, reverse=sort_dir == "desc")
    assert dates == known + [None] * (60 - len(known))


def test_leads_are_sorted_by_time_not_by_text(api: Sandbox) -> None:
    """Offsets and fractional digits count; the text is sent as stored."""
    texts = [
        "2030-01-01T12:00:00+09:00",  # 03:00 UTC
        "2030-01-01T04:00:00Z",
        "2030-01-01T04:00:00.000001Z",
        "2030-01-01T04:00:00.5Z",
        "2029-12-31T23:30:00-05:00",  # 04:30 UTC
    ]
    for lead, text in zip(api.leads.all(), reversed(texts), strict=False):
        api.leads.update(lead["id"], updated_at=text)
    assert [x["updated_at"] for x in list_all(api, limit=7)][-5:] == texts


# Filters and parameters

FILTERED: dict[str, Callable[[Lead], str | None]] = {
    "status": lambda lead: lead["status"],
    "stageId": lambda lead: (lead["current_stage"] or {}).get("id"),
    "search": lambda lead: lead["contact_email"],
    "created_since": lambda lead: lead["created_at"],
    "updated_since": lambda lead: lead["updated_at"],
    "lead_line": lambda lead: lead["custom_fields"].get("lead_line"),
}
"""What each filter of the document compares."""
NO_SETTING = {"updated_since"}
"""The tap itself sets this filter: it is the bookmark."""


def test_every_filter_of_the_document_is_known(api: Sandbox) -> None:
    """It selects leads in the sandbox, and the tap has a setting for it."""
    settings = SETTINGS["properties"]["filters"]["properties"].keys()
    assert settings | NO_SETTING == {
        re.sub("[A-Z]", lambda it: f"_{it[0].lower()}", name) for name in filter_names()
    }
    leads = api.leads.all()
    for name in filter_names():
        values = {x["id"]: FILTERED[name](x) for x in leads}
        value = next(it for it in [*values.values()][30:] if it)
        is_since = name.endswith("_since")
        expected = [
            id_
            for id_, it in values.items()
            if it == value or (is_since and it and it > value)
        ]
        page = get(api, **{name: value}, limit=60).json()
        assert (ids(page["leads"]), page["total"]) == (expected, len(expected))
        assert 0 < len(expected) < 60


def test_values_can_be_written_in_several_ways(api: Sandbox) -> None:
    """RFC 3339 allows `t` and `z`, and the case of a UUID does not matter."""
    leads = api.leads.all()
    since = leads[40]["updated_at"]
    stage = next(x["current_stage"]["id"] for x in leads[41:] if x["current_stage"])
    found = list_leads(api, updated_since=since, stageId=stage)
    assert list_leads(api, updated_since=since.lower(), stageId=stage.upper()) == found
    assert found


def test_some_parameters_change_nothing(api: Sandbox) -> None:
    """An empty search matches all leads. An unknown parameter is ignored."""
    assert list_leads(api, search="") == list_leads(api, page=7) == list_leads(api)
    assert list_leads(api, status="") == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        *((it, True) for it in ("bảo ngọc", "STRAẞE", "Chau@Example.com")),
        *((it, True) for it in ("+1 415-555.0132", "5550132")),
        *((it, False) for it in ("()", "nobody is called so", "None")),
    ],
)
def test_search_matches_name_email_and_phone(
    api: Sandbox, text: str, *, is_found: bool
) -> None:
    """Neither case nor the format of a phone number matters. Null matches nothing."""
    api.leads.add(contact_name=None, contact_email=None)
    found = api.leads.add(
        contact_name="Bảo Ngọc Straße",
        contact_email="chau@example.com",
        contact_phone="(415) 555-0132",
    )
    assert ids(list_leads(api, search=text)) == (found if is_found else [])


INVALID_VALUES = {
    "limit": ("0", "101", "ten", "1_0", "\N{ARABIC-INDIC DIGIT ONE}"),
    "offset": ("-1", "9223372036854775808", "9" * 5000),
    "sort_by": ("name",),
    "sort_dir": ("up",),
    "lead_line": ("both",),
    "stageId": ("won", "{00000000-0000-4000-8000-00000000cafe}"),
    "updated_since": (
        *("yesterday", "2026-01-01", "2026-01-01 00:00:00Z"),
        "2026-01-01T00:00:00Z\n",
    ),
    "created_since": ("2026-02-30T00:00:00Z",),
    "include_custom_fields": ("maybe", "1", "True"),
    "cursor": ("", "garbage", "bnVsbA", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\x00"),
}


@pytest.mark.parametrize("name", INVALID_VALUES)
def test_invalid_parameters_are_rejected(api: Sandbox, name: str) -> None:
    """An invalid value gives 400 and a message that names the parameter."""
    for value in INVALID_VALUES[name]:
        response = get(api, **{name: value})
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (400, "invalid_request_error")
        assert name in error["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("sort_by", it) for it in ("created_at", "last_interaction_at")),
        ("sort_dir", "desc"),
    ],
)
def test_a_cursor_is_only_valid_for_its_sort_order(
    api: Sandbox, name: str, value: str
) -> None:
    """With another sort order it gives 400."""
    cursor = get(api).json()["next_cursor"]
    assert get(api, cursor=cursor, **{name: value}).status_code == 400


# Changes


def test_changed_leads_get_a_new_updated_at(api: Sandbox, clock: FakeClock) -> None:
    """Each changed lead differs, and its `updated_at` is now."""
    before = {x["id"]: x for x in api.leads.all()}
    changed = api.leads.change(7)
    since = dt.datetime.fromtimestamp(clock.now, dt.UTC).isoformat()
    after = list_leads(api, updated_since=since, include_custom_fields="true")
    assert ids(after) == sorted(changed)
    assert len(set(changed)) == 7
    for lead in after:
        content = {**lead, "updated_at": before[lead["id"]]["updated_at"]}
        assert content != before[lead["id"]]


def test_most_changes_move_a_lead_to_the_next_stage(api: Sandbox) -> None:
    """Some move it elsewhere, some leave it, and the status follows the stage."""
    slugs = [None, *(slug for slug, *_ in STAGES)]
    steps = []
    for _ in range(10):
        before = [x["current_stage"] or {} for x in api.leads.all()]
        api.leads.change(60)
        for old, lead in zip(before, api.leads.all(), strict=True):
            new = (lead["current_stage"] or {}).get("slug")
            assert (lead["status"] == "won") == (new == "closed-won")
            if slugs.index(old.get("slug")) <= OPEN_STAGES:
                steps.append(slugs.index(new) - slugs.index(old.get("slug")))
    assert 0.5 < steps.count(1) / len(steps) < 0.75
    assert 0.1 < steps.count(0) / len(steps) < 0.3


def test_timestamps_of_changes_never_decrease(api: Sandbox, clock: FakeClock) -> None:
    """This holds even if the clock goes back."""
    (first,) = api.leads.add()
    clock.now -= 100
    (second,) = api.leads.add()
    dates = {x["id"]: x["updated_at"] for x in api.leads.all()}
    assert dates[first] == dates[second]


@pytest.mark.parametrize(
    "fields",
    [
        {"created_at": OLD},  # an import
        {"created_at": OLD, "updated_at": OLD},  # a late commit
        {"updated_at": FUTURE, "score": None},
    ],
)
def test_new_leads_have_the_given_fields(
    api: Sandbox, clock: FakeClock, fields: Lead
) -> None:
    """Given fields override generated values, and other timestamps are now."""
    added = api.leads.add(2, **fields)
    now = dt.datetime.fromtimestamp(clock.now, dt.UTC)
    for lead in (x for x in api.leads.all() if x["id"] in added):
        assert fields.items() <= lead.items()
        for name in {"created_at", "updated_at"} - fields.keys():
            assert dt.datetime.fromisoformat(lead[name]) == now
    assert get(api).json()["total"] == api.leads.count() == 62


def test_merged_leads_disappear_and_the_survivors_change(api: Sandbox) -> None:
    """A merge removes one lead and updates another."""
    before = {x["id"]: x["updated_at"] for x in api.leads.all()}
    gone = api.leads.merge(3)
    after = {x["id"]: x["updated_at"] for x in api.leads.all()}
    assert set(before) - set(after) == set(gone)
    assert sum(before[id_] != date for id_, date in after.items()) == 3


def test_deleted_leads_disappear(api: Sandbox) -> None:
    """They are a number of leads or given ones. Other leads stay the same."""
    before = api.leads.all()
    one, two, three = ids(before)[10:40:10]
    assert api.leads.delete(one) == [one]
    assert api.leads.delete([two, three]) == [two, three]
    gone = {one, two, three, *api.leads.delete(4)}
    assert len(gone) == 7
    assert api.leads.all() == [lead for lead in before if lead["id"] not in gone]


def test_hidden_leads_are_not_listed_until_they_are_shown(api: Sandbox) -> None:
    """A key that loses rights lists only a share of the leads."""
    before = api.leads.all()
    hidden = api.leads.hide(45)
    page = get(api).json()
    assert page["total"] == len(page["leads"]) == 15
    assert not set(ids(page["leads"])) & set(hidden)
    assert api.leads.show() == hidden
    assert api.leads.show() == []
    assert api.leads.all() == before


@pytest.mark.parametrize("name", ["change", "merge", "delete", "hide"])
@pytest.mark.parametrize(
    ("which", "problem"),
    [(61, "60 leads"), (["x"], "no lead 'x'"), ("x", "no lead 'x'")],
)
def test_leads_that_do_not_exist_are_an_error(
    api: Sandbox, name: str, which: object, problem: str
) -> None:
    """The message says how many leads there are, or which one is missing."""
    with pytest.raises(ValueError, match=problem):
        getattr(api.leads, name)(which)
    assert api.leads.count() == 60


def test_a_merge_leaves_a_lead(api: Sandbox) -> None:
    """All leads cannot be merged, because there is none that they go into."""
    with pytest.raises(ValueError, match="a merge of all 60 leads"):
        api.leads.merge(60)
    assert len(api.leads.merge(59)) == 59


@pytest.mark.parametrize(
    ("name", "value"),
    [("score", "high"), ("updated_at", "now"), ("custom_fields", {"a": []})],
)
def test_an_invalid_lead_is_not_stored(api: Sandbox, name: str, value: object) -> None:
    """Each lead is checked against the document's schema."""
    (lead, *_) = api.leads.all()
    with pytest.raises(ValueError, match=name):
        api.leads.update(lead["id"], **{name: value})
    assert lead in api.leads.all()


# Made-up leads


def test_leads_cover_all_documented_values(clock: FakeClock) -> None:
    """They cover documented values, nulls, custom field types, ties and Unicode."""
    with Sandbox(leads=1500, clock=clock.time) as sandbox:
        leads = sandbox.leads.all()
        for _ in list_all(sandbox, limit=100, include_custom_fields="true"):
            """`get` checks each page against the document."""
    values = {name: {str(x[name]) for x in leads} for name in leads[0]}
    custom = {(k, type(v)) for x in leads for k, v in x["custom_fields"].items()}
    assert values["status"] == {"active", "won", "lost", "nurture", "archived"}
    assert (len(values["source_platform"]), len(values["source_type"])) == (12, 7)
    assert values["qualified"] == {"True", "False", "None"}
    assert len(values["current_stage"]) == 12 + 1
    for name in ("contact_name", "contact_phone", "contact_email", "owner", "score"):
        assert "None" in values[name]
    assert {type_ for _, type_ in custom} == {str, int, float, bool, type(None)}
    assert {type_ for k, type_ in custom if k == "budget"} >= {str, int, float}
    assert len(values["updated_at"]) < len(leads) == len(values["id"])
    assert not "".join(values["contact_name"]).isascii()


def test_leads_are_at_most_a_year_old(clock: FakeClock) -> None:
    """They change until ten minutes before the start of the sandbox."""
    leads = list(LeadMaker(seed=1).past(20_000, clock.now))
    created, updated = (
        [clock.now - dt.datetime.fromisoformat(it[name]).timestamp() for it in leads]
        for name in ("created_at", "updated_at")
    )
    assert all(a >= b >= 600 for a, b in zip(created, updated, strict=True))
    assert sum(age < min(updated) + 60 for age in updated) < 10
    assert 300 * 86400 < max(created) - min(created) < 366 * 86400
