"""The sandbox answers requests as the vendor's document specifies."""

from __future__ import annotations

import base64
import datetime as dt
import doctest
import typing as t

import pytest
import requests
import schemathesis

import sandbox as sandbox_package
from sandbox import NO_LIMITS, Sandbox
from sandbox.document import LEADS_PATH, document
from sandbox.people import LeadMaker

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock

    Lead: t.TypeAlias = dict[str, t.Any]

LIST_LEADS = schemathesis.openapi.from_dict(document())[LEADS_PATH]["GET"]


def get(
    sandbox: Sandbox,
    headers: t.Mapping[str, str | None] | None = None,
    /,
    **query: object,
) -> requests.Response:
    """Send a request and check the response against the document.

    A header with the value None is left out.
    """
    all_headers: dict[str, t.Any] = {
        "Authorization": f"Bearer {sandbox.token}",
        "x-customer-id": sandbox.customer_id,
        **(headers or {}),
    }
    response = requests.get(
        sandbox.url + LEADS_PATH,
        t.cast("dict[str, str]", query),
        headers=all_headers,
        timeout=10,
        allow_redirects=False,
    )
    LIST_LEADS.validate_response(response)
    return response


def list_leads(sandbox: Sandbox, **query: object) -> list[Lead]:
    """Return the leads of the first page."""
    leads: list[Lead] = get(sandbox, **query).json()["leads"]
    return leads


def list_all(sandbox: Sandbox, **query: object) -> list[Lead]:
    """Follow the cursors and return the leads of all pages."""
    page = get(sandbox, **query).json()
    leads: list[Lead] = page["leads"]
    while cursor := page["next_cursor"]:
        page = get(sandbox, **{**query, "cursor": cursor}).json()
        leads += page["leads"]
    return leads


def ids(leads: list[Lead]) -> list[str]:
    """Return the ids of leads, in the same order."""
    return [lead["id"] for lead in leads]


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """A sandbox with 60 leads and no rate limits."""
    with Sandbox(leads=60, limits=NO_LIMITS, clock=clock.time) as sandbox:
        yield sandbox


def test_the_documentation_of_the_package_is_true() -> None:
    """The examples in its docstring run."""
    result = doctest.testmod(sandbox_package)
    assert result.failed == 0
    assert result.attempted > 10


# Authentication and routes


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer mega_wrong"}, 401),
        ({"Authorization": f"Basic {Sandbox.token}"}, 401),
        ({"Authorization": Sandbox.token}, 401),
        ({"x-customer-id": None}, 401),
        ({"x-customer-id": "00000000-0000-4000-8000-000000000002"}, 403),
        ({"Authorization": f"Bearer {Sandbox.token_without_scope}"}, 403),
    ],
)
def test_wrong_credentials_are_rejected(
    api: Sandbox, headers: dict[str, str | None], status: int
) -> None:
    """A wrong or missing credential gives 401, a missing permission 403."""
    response = get(api, headers)
    error = response.json()["error"]
    error_type = {401: "authentication_error", 403: "authorization_error"}[status]
    assert response.status_code == status
    assert (error["type"], error["code"]) == (error_type, status)


def test_the_missing_scope_is_named(api: Sandbox) -> None:
    """The error message names the scope that the token lacks."""
    response = get(api, {"Authorization": f"Bearer {api.token_without_scope}"})
    assert "public_api:leads:read" in response.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_path_gives_404(api: Sandbox, method: str) -> None:
    """The sandbox has one endpoint."""
    response = requests.request(method, api.url + "/api", timeout=10)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_another_method_gives_405(api: Sandbox, method: str) -> None:
    """The error is in the envelope, and the header Allow names the right method."""
    response = requests.request(method, api.url + LEADS_PATH, timeout=10)
    error = response.json()["error"]
    assert (response.status_code, response.headers["Allow"]) == (405, "GET")
    assert (error["type"], error["code"]) == ("invalid_request_error", 405)


def test_head_gives_405_without_a_body(api: Sandbox) -> None:
    """The document only defines GET."""
    response = requests.head(api.url + LEADS_PATH, timeout=10)
    assert (response.status_code, response.content) == (405, b"")


def test_only_loopback_addresses_are_allowed() -> None:
    """The sandbox refuses an address that other machines can reach."""
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(host="0.0.0.0", leads=0)  # noqa: S104 - the sandbox refuses it


# Pages


def test_a_page_has_the_documented_properties(api: Sandbox) -> None:
    """By default a page has 20 leads, the total and the next cursor."""
    page = get(api).json()
    assert len(page["leads"]) == page["limit"] == 20
    assert (page["total"], page["offset"]) == (60, 0)
    assert get(api, cursor=page["next_cursor"]).json()["leads"]


def test_custom_fields_are_sent_on_request(api: Sandbox) -> None:
    """Leads only have custom_fields with include_custom_fields=true."""
    with_them = list_leads(api, include_custom_fields="true", limit=60)
    without = list_leads(api, limit=60)
    assert with_them == api.leads.all()
    assert without == [
        {name: value for name, value in lead.items() if name != "custom_fields"}
        for lead in with_them
    ]


@pytest.mark.parametrize("sort_by", ["created_at", "updated_at"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_cursors_reach_every_lead_in_order(
    api: Sandbox, sort_by: str, sort_dir: str
) -> None:
    """Each lead is listed once, sorted by timestamp and, for ties, by id."""
    for lead in api.leads.all()[10:30]:
        api.leads.update(lead["id"], **{sort_by: "2026-02-02T02:02:02.000Z"})
    leads_read = list_all(api, sort_by=sort_by, sort_dir=sort_dir, limit=7)
    keys = [(lead[sort_by], lead["id"]) for lead in api.leads.all()]
    keys.sort(reverse=sort_dir == "desc")
    assert [(x[sort_by], x["id"]) for x in leads_read] == keys


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


def test_offset_skips_leads(api: Sandbox) -> None:
    """A page starts at `offset` and has `limit` leads."""
    assert list_leads(api, offset=5, limit=3) == list_leads(api, limit=8)[5:]


def test_the_last_page_has_no_next_cursor(api: Sandbox) -> None:
    """If a page holds all remaining leads, no empty page follows."""
    page = get(api, limit=30).json()
    last = get(api, limit=30, cursor=page["next_cursor"]).json()
    assert len(last["leads"]) == 30
    assert last["next_cursor"] is None


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


def test_filters_select_matching_leads(api: Sandbox) -> None:
    """`status`, `stageId` and `lead_line` filter the leads and the total."""
    all_leads = api.leads.all()
    stage = next(x["current_stage"]["id"] for x in all_leads if x["current_stage"])
    matches: dict[tuple[str, str], t.Callable[[Lead], bool]] = {
        ("status", "won"): lambda x: x["status"] == "won",
        ("stageId", stage): lambda x: (x["current_stage"] or {}).get("id") == stage,
        ("lead_line", "seller"): lambda x: (
            x["custom_fields"].get("lead_line") == "seller"
        ),
    }
    for (name, value), match in matches.items():
        expected = ids([lead for lead in all_leads if match(lead)])
        page = get(api, **{name: value}, limit=60).json()
        assert 0 < len(expected) < 60
        assert (ids(page["leads"]), page["total"]) == (expected, len(expected))


@pytest.mark.parametrize("name", ["created", "updated"])
def test_created_since_and_updated_since_are_inclusive(api: Sandbox, name: str) -> None:
    """A lead with that timestamp is listed, an earlier lead is not."""
    all_leads = sorted(api.leads.all(), key=lambda x: (x[f"{name}_at"], x["id"]))
    query = {"sort_by": f"{name}_at", "limit": 60}
    since = all_leads[40][f"{name}_at"]
    expected = [x["id"] for x in all_leads if x[f"{name}_at"] >= since]
    assert ids(list_leads(api, **{f"{name}_since": since}, **query)) == expected
    after = dt.datetime.fromisoformat(since) + dt.timedelta(milliseconds=1)
    later = [x["id"] for x in all_leads if x[f"{name}_at"] > since]
    query[f"{name}_since"] = after.isoformat()
    assert ids(list_leads(api, **query)) == later


def test_the_letters_of_a_timestamp_can_be_in_lower_case(api: Sandbox) -> None:
    """RFC 3339 allows `t` and `z`."""
    since = api.leads.all()[40]["updated_at"]
    expected = list_leads(api, updated_since=since)
    assert list_leads(api, updated_since=since.lower()) == expected != []


def test_a_stage_id_can_be_in_upper_case(api: Sandbox) -> None:
    """The case of a UUID does not matter."""
    leads = api.leads.all()
    stage = next(x["current_stage"]["id"] for x in leads if x["current_stage"])
    assert list_leads(api, stageId=stage.upper()) == list_leads(api, stageId=stage)


def test_an_empty_status_or_search_is_allowed(api: Sandbox) -> None:
    """No lead has an empty status, and an empty search matches all leads."""
    assert list_leads(api, status="") == []
    assert list_leads(api, search="") == list_leads(api)


def test_a_filter_applies_to_every_page(api: Sandbox) -> None:
    """Filters work with cursors, and `total` counts the matching leads."""
    expected = [x["id"] for x in api.leads.all() if x["status"] == "lost"]
    page = get(api, status="lost", limit=2).json()
    second = get(api, status="lost", limit=2, cursor=page["next_cursor"]).json()
    assert ids(list_all(api, status="lost", limit=2)) == expected
    assert second["total"] == page["total"] == len(expected) > 4


@pytest.mark.parametrize(
    "text", ["bảo ngọc", "STRAẞE", "Chau@Example.com", "+1 415-555.0132", "5550132"]
)
def test_search_matches_name_email_and_phone(api: Sandbox, text: str) -> None:
    """Case does not matter, nor does the format of a phone number."""
    (lead,) = api.leads.add(
        contact_name="Bảo Ngọc Straße",
        contact_email="chau@example.com",
        contact_phone="(415) 555-0132",
    )
    assert ids(list_leads(api, search=text)) == [lead]


def test_search_without_a_match_finds_nothing(api: Sandbox) -> None:
    """A text without digits does not match every phone."""
    assert not list_leads(api, search="()")
    assert not list_leads(api, search="nobody is called so")


def test_search_ignores_null(api: Sandbox) -> None:
    """A search for `None` does not match a missing name or e-mail address."""
    api.leads.add(contact_name=None, contact_email=None)
    assert not list_leads(api, search="None")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "ten"),
        ("offset", "-1"),
        ("sort_by", "name"),
        ("sort_dir", "up"),
        ("lead_line", "both"),
        ("stageId", "won"),
        ("updated_since", "yesterday"),
        ("updated_since", "2026-01-01"),
        ("created_since", "2026-02-30T00:00:00Z"),
        ("include_custom_fields", "maybe"),
        ("include_custom_fields", "1"),
        ("include_custom_fields", "True"),
        ("limit", "1_0"),
        ("limit", "\N{ARABIC-INDIC DIGIT ONE}"),
        ("offset", "9223372036854775808"),
        ("offset", "9" * 5000),
        ("updated_since", "2026-01-01T00:00:00Z\n"),
        ("updated_since", "2026-01-01 00:00:00Z"),
        ("stageId", "{00000000-0000-4000-8000-00000000cafe}"),
        ("cursor", ""),
        ("cursor", "garbage"),
        ("cursor", "bnVsbA"),
        ("cursor", "\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("cursor", "\x00"),
    ],
)
def test_invalid_parameters_are_rejected(api: Sandbox, name: str, value: str) -> None:
    """An invalid value gives 400 and a message that names the parameter."""
    response = get(api, **{name: value})
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert name in error["message"]


def test_unknown_parameters_are_ignored(api: Sandbox) -> None:
    """A parameter that the document does not name changes nothing."""
    assert list_leads(api, page=7) == list_leads(api)


@pytest.mark.parametrize(
    "decoded",
    [
        '["updated_at","asc",0]',
        '["updated_at","asc",0,"",0,0,0]',
        '["updated_at","asc",%s,"",0,0]' % (2**63),
        '["updated_at","asc",%s,"",0,0]' % ("9" * 5000),
        '["updated_at","asc",NaN,"",0,0]',
        '["updated_at","asc",1e400,"",0,0]',
        '["updated_at","asc",0.5,"",0,0]',
        '["updated_at","asc","0","",0,0]',
        '["updated_at","asc",[0],"",0,0]',
        '["updated_at","asc",0,null,0,0]',
        '["updated_at","asc",0,{"a":1},0,0]',
        '["updated_at","asc",0,"\\ud83d",0,0]',
        '["updated_at","asc",0,"",0,true]',
        '["updated_at","asc",0,"",0, 0]',
        "[" * 100_000,
        '{"sort_by":"updated_at"}',
    ],
)
def test_a_forged_cursor_is_rejected(api: Sandbox, decoded: str) -> None:
    """A cursor that the sandbox did not issue gives 400, whatever it holds."""
    cursor = base64.urlsafe_b64encode(decoded.encode()).decode().rstrip("=")
    assert get(api, cursor=cursor[:7000]).status_code == 400


@pytest.mark.parametrize(
    "other",
    [
        {"sort_by": "created_at"},
        {"sort_dir": "desc"},
        {"sort_by": "last_interaction_at"},
    ],
)
def test_a_cursor_is_only_valid_for_its_sort_order(
    api: Sandbox, other: dict[str, str]
) -> None:
    """With another sort order it gives 400."""
    cursor = get(api).json()["next_cursor"]
    assert get(api, cursor=cursor, **other).status_code == 400


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


def test_timestamps_of_changes_never_decrease(api: Sandbox, clock: FakeClock) -> None:
    """This holds even if the clock goes back."""
    (first,) = api.leads.add()
    clock.now -= 100
    (second,) = api.leads.add()
    dates = {x["id"]: x["updated_at"] for x in api.leads.all()}
    assert dates[first] == dates[second]


def test_a_lead_that_changes_while_paging_is_listed_again(api: Sandbox) -> None:
    """Cursors are keysets, so no lead is skipped."""
    page = get(api, limit=30).json()
    moved = page["leads"][0]["id"]
    api.leads.update(moved, status="won")
    rest = list_all(api, limit=30, cursor=page["next_cursor"])
    assert set(ids(page["leads"] + rest)) == {x["id"] for x in api.leads.all()}
    assert rest[-1]["id"] == moved


def test_new_leads_have_the_given_fields(api: Sandbox, clock: FakeClock) -> None:
    """Given fields override generated values, and other timestamps are now."""
    added = api.leads.add(2, updated_at="2030-01-01T00:00:00.000Z", score=None)
    leads = [x for x in api.leads.all() if x["id"] in added]
    now = dt.datetime.fromtimestamp(clock.now, dt.UTC)
    for lead in leads:
        assert lead["updated_at"] == "2030-01-01T00:00:00.000Z"
        assert lead["score"] is None
        assert dt.datetime.fromisoformat(lead["created_at"]) == now
    assert get(api).json()["total"] == api.leads.count() == 62


def test_merged_leads_disappear_and_the_survivors_change(api: Sandbox) -> None:
    """A merge removes one lead and updates another."""
    before = {x["id"]: x["updated_at"] for x in api.leads.all()}
    gone = api.leads.merge(3)
    after = {x["id"]: x["updated_at"] for x in api.leads.all()}
    assert set(before) - set(after) == set(gone)
    assert sum(before[id_] != date for id_, date in after.items()) == 3


def test_deleted_leads_disappear(api: Sandbox) -> None:
    """Other leads stay the same."""
    before = api.leads.all()
    gone = api.leads.delete(4)
    assert len(set(gone)) == 4
    assert api.leads.all() == [lead for lead in before if lead["id"] not in gone]


def test_changing_too_many_leads_is_an_error(api: Sandbox) -> None:
    """The error message says how many leads exist."""
    for change in (api.leads.change, api.leads.merge, api.leads.delete):
        with pytest.raises(ValueError, match="60 leads"):
            change(61)
    assert api.leads.count() == 60


def test_an_invalid_lead_is_not_stored(api: Sandbox) -> None:
    """Each lead is checked against the document's schema."""
    (lead, *_) = api.leads.all()
    invalid: list[Lead] = [
        {"score": "high"},
        {"updated_at": "now"},
        {"custom_fields": {"a": []}},
    ]
    for fields in invalid:
        with pytest.raises(ValueError, match=next(iter(fields))):
            api.leads.update(lead["id"], **fields)
    assert lead in api.leads.all()


# Made-up leads


def test_the_same_seed_makes_the_same_leads(clock: FakeClock) -> None:
    """Changes are the same, too. Another seed makes other leads."""

    def make_leads(seed: int) -> list[Lead]:
        with Sandbox(leads=20, seed=seed, clock=clock.time) as sandbox:
            sandbox.leads.change(5)
            sandbox.leads.delete(2)
            return sandbox.leads.all()

    assert make_leads(1) == make_leads(1) != make_leads(2)


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
    ages = [
        [
            clock.now - dt.datetime.fromisoformat(lead[name]).timestamp()
            for lead in leads
        ]
        for name in ("created_at", "updated_at")
    ]
    newest = min(ages[1])
    assert max(ages[0]) < 366 * 86400
    assert all(a >= b >= 600 for a, b in zip(*ages, strict=True))
    assert sum(age < newest + 60 for age in ages[1]) < 10
    assert max(ages[0]) - min(ages[0]) > 300 * 86400
