"""The sandbox answers as the vendor's document says, to whoever may ask."""

from __future__ import annotations

import datetime as dt
import typing as t

import pytest
import requests
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest, MockResponse

from sandbox import NO_LIMITS, Sandbox
from sandbox.document import LEADS_PATH, document
from sandbox.people import LeadMaker

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.clock import FakeClock

    Lead: t.TypeAlias = dict[str, t.Any]

VENDOR = "https://app.gomega.ai"
DOCUMENT = OpenAPI.from_dict(document())


def ask(
    sandbox: Sandbox,
    headers: t.Mapping[str, str | None] | None = None,
    /,
    **query: object,
) -> requests.Response:
    """Return the answer to a request; fail where the document has another idea of it.

    A header that is None is left out.
    """
    told: dict[str, t.Any] = {
        "Authorization": f"Bearer {sandbox.token}",
        "x-customer-id": sandbox.customer_id,
        **(headers or {}),
    }
    url, given = sandbox.url + LEADS_PATH, t.cast("dict[str, str]", query)
    answer = requests.get(url, given, headers=told, timeout=10, allow_redirects=False)
    DOCUMENT.validate_response(
        MockRequest(VENDOR, "get", LEADS_PATH),
        MockResponse(answer.content, answer.status_code, dict(answer.headers)),
    )
    return answer


def listed(sandbox: Sandbox, **query: object) -> list[Lead]:
    """Return the leads of one page."""
    leads: list[Lead] = ask(sandbox, **query).json()["leads"]
    return leads


def walk(sandbox: Sandbox, **query: object) -> list[Lead]:
    """Return the leads of all pages, following the cursors."""
    page = ask(sandbox, **query).json()
    leads: list[Lead] = page["leads"]
    while cursor := page["next_cursor"]:
        page = ask(sandbox, **{**query, "cursor": cursor}).json()
        leads += page["leads"]
    return leads


def ids(leads: list[Lead]) -> list[str]:
    """Return the ids of leads, in their order."""
    return [lead["id"] for lead in leads]


@pytest.fixture
def api(clock: FakeClock) -> Iterator[Sandbox]:
    """A sandbox with 60 leads and without limits."""
    with Sandbox(leads=60, limits=NO_LIMITS, clock=clock.time) as sandbox:
        yield sandbox


# Who may ask


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
def test_who_may_not_ask_is_refused(
    api: Sandbox, headers: dict[str, str | None], status: int
) -> None:
    """A wrong or missing credential answers 401, one without the right to it 403."""
    answer = ask(api, headers)
    error = answer.json()["error"]
    kind = {401: "authentication_error", 403: "authorization_error"}[status]
    assert answer.status_code == status
    assert (error["type"], error["code"]) == (kind, status)


def test_the_missing_scope_is_named(api: Sandbox) -> None:
    """Who lacks the scope is told which."""
    answer = ask(api, {"Authorization": f"Bearer {api.token_without_scope}"})
    assert "public_api:leads:read" in answer.json()["error"]["message"]


def test_other_paths_and_methods_are_not_found(api: Sandbox) -> None:
    """There is one endpoint."""
    for answer in (
        requests.get(api.url + "/api", timeout=10),
        requests.post(api.url + LEADS_PATH, timeout=10),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"


def test_only_this_machine_may_connect() -> None:
    """An address that others could reach is refused."""
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(host="0.0.0.0", leads=0)  # noqa: S104 - that is the point


# What is listed


def test_a_page_holds_what_the_document_says(api: Sandbox) -> None:
    """20 leads unless asked otherwise, how many there are, and the next cursor."""
    page = ask(api).json()
    assert len(page["leads"]) == page["limit"] == 20
    assert (page["total"], page["offset"]) == (60, 0)
    assert ask(api, cursor=page["next_cursor"]).json()["leads"]


def test_custom_fields_come_when_asked_for(api: Sandbox) -> None:
    """Each lead has custom_fields with include_custom_fields=true, and only then."""
    with_them = listed(api, include_custom_fields="true", limit=60)
    without = listed(api, limit=60)
    assert with_them == api.leads.all()
    assert without == [
        {name: value for name, value in lead.items() if name != "custom_fields"}
        for lead in with_them
    ]


@pytest.mark.parametrize("sort_by", ["created_at", "updated_at"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_cursors_lead_through_every_lead_in_order(
    api: Sandbox, sort_by: str, sort_dir: str
) -> None:
    """Each lead comes once, by date and then by id, also where dates are the same."""
    for lead in api.leads.all()[10:30]:
        api.leads.update(lead["id"], **{sort_by: "2026-02-02T02:02:02.000Z"})
    walked = walk(api, sort_by=sort_by, sort_dir=sort_dir, limit=7)
    down = sort_dir == "desc"
    key = [(lead[sort_by], lead["id"]) for lead in api.leads.all()]
    assert [(x[sort_by], x["id"]) for x in walked] == sorted(key, reverse=down)


@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_the_last_interaction_sorts_without_cursors(
    api: Sandbox, sort_dir: str
) -> None:
    """Leads that nobody has talked to come last, and there is no next cursor."""
    query = {"sort_by": "last_interaction_at", "sort_dir": sort_dir}
    page = ask(api, **query, limit=50).json()
    rest = listed(api, **query, limit=50, offset=50)
    dates = [lead["last_interaction_at"] for lead in page["leads"] + rest]
    known = [date for date in dates if date]
    assert page["next_cursor"] is None
    assert known == sorted(known, reverse=sort_dir == "desc")
    assert dates == known + [None] * (60 - len(known))


def test_offset_skips_leads(api: Sandbox) -> None:
    """Offset and limit cut a piece out of the order."""
    assert listed(api, offset=5, limit=3) == listed(api, limit=8)[5:]


def test_the_last_page_has_no_next_cursor(api: Sandbox) -> None:
    """When a page holds exactly what is left, there is no empty one after it."""
    page = ask(api, limit=30).json()
    last = ask(api, limit=30, cursor=page["next_cursor"]).json()
    assert len(last["leads"]) == 30
    assert last["next_cursor"] is None


def test_order_is_by_time_not_by_text(api: Sandbox) -> None:
    """Other offsets and fraction digits sort where their moment is, sent as stored."""
    texts = [
        "2030-01-01T12:00:00+09:00",  # 03:00 UTC
        "2030-01-01T04:00:00Z",
        "2030-01-01T04:00:00.000001Z",
        "2030-01-01T04:00:00.5Z",
        "2029-12-31T23:30:00-05:00",  # 04:30 UTC
    ]
    for lead, text in zip(api.leads.all(), reversed(texts), strict=False):
        api.leads.update(lead["id"], updated_at=text)
    assert [x["updated_at"] for x in walk(api, limit=7)][-5:] == texts


# What is asked for


def test_each_filter_keeps_what_matches(api: Sandbox) -> None:
    """By status, stage and lead line: all leads that match, and their number."""
    everyone = api.leads.all()
    stage = next(x["current_stage"]["id"] for x in everyone if x["current_stage"])
    matches: dict[tuple[str, str], t.Callable[[Lead], bool]] = {
        ("status", "won"): lambda x: x["status"] == "won",
        ("stageId", stage): lambda x: (x["current_stage"] or {}).get("id") == stage,
        ("lead_line", "seller"): lambda x: (
            x["custom_fields"].get("lead_line") == "seller"
        ),
    }
    for (name, value), match in matches.items():
        expected = ids([lead for lead in everyone if match(lead)])
        page = ask(api, **{name: value}, limit=60).json()
        assert 0 < len(expected) < 60
        assert (ids(page["leads"]), page["total"]) == (expected, len(expected))


@pytest.mark.parametrize("name", ["created", "updated"])
def test_since_is_inclusive(api: Sandbox, name: str) -> None:
    """A lead from that very moment is listed, one from a millisecond before is not."""
    everyone = sorted(api.leads.all(), key=lambda x: (x[f"{name}_at"], x["id"]))
    query = {"sort_by": f"{name}_at", "limit": 60}
    since = everyone[40][f"{name}_at"]
    expected = [x["id"] for x in everyone if x[f"{name}_at"] >= since]
    assert ids(listed(api, **{f"{name}_since": since}, **query)) == expected
    moment = dt.datetime.fromisoformat(since) + dt.timedelta(milliseconds=1)
    later = [x["id"] for x in everyone if x[f"{name}_at"] > since]
    query[f"{name}_since"] = moment.isoformat()
    assert ids(listed(api, **query)) == later


def test_a_filter_holds_on_every_page(api: Sandbox) -> None:
    """Cursor and filters go together, and the total is that of the filters."""
    expected = [x["id"] for x in api.leads.all() if x["status"] == "lost"]
    page = ask(api, status="lost", limit=2).json()
    second = ask(api, status="lost", limit=2, cursor=page["next_cursor"]).json()
    assert ids(walk(api, status="lost", limit=2)) == expected
    assert second["total"] == page["total"] == len(expected) > 4


@pytest.mark.parametrize(
    "text", ["bảo ngọc", "STRAẞE", "Chau@Example.com", "+1 415-555.0132", "5550132"]
)
def test_search_finds_name_address_and_phone(api: Sandbox, text: str) -> None:
    """In any case, and phones in any format."""
    (lead,) = api.leads.add(
        contact_name="Bảo Ngọc Straße",
        contact_email="chau@example.com",
        contact_phone="(415) 555-0132",
    )
    assert ids(listed(api, search=text)) == [lead]


def test_search_finds_nothing_that_is_not_there(api: Sandbox) -> None:
    """A text without digits does not match every phone."""
    assert not listed(api, search="()")
    assert not listed(api, search="nobody is called so")


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
        ("status", ""),
        ("cursor", ""),
        ("cursor", "garbage"),
        ("cursor", "bnVsbA"),
    ],
)
def test_what_the_document_does_not_allow_is_refused(
    api: Sandbox, name: str, value: str
) -> None:
    """A value that a parameter cannot have answers 400, and names the parameter."""
    answer = ask(api, **{name: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert name in error["message"]


def test_unknown_parameters_are_ignored(api: Sandbox) -> None:
    """As servers do."""
    assert listed(api, page=7) == listed(api)


@pytest.mark.parametrize(
    "other",
    [
        {"sort_by": "created_at"},
        {"sort_dir": "desc"},
        {"sort_by": "last_interaction_at"},
    ],
)
def test_a_cursor_belongs_to_its_order(api: Sandbox, other: dict[str, str]) -> None:
    """With another sort it is refused."""
    cursor = ask(api).json()["next_cursor"]
    assert ask(api, cursor=cursor, **other).status_code == 400


# How leads change


def test_changed_leads_move_to_the_end(api: Sandbox, clock: FakeClock) -> None:
    """Changes are visible, and dated now."""
    before = {x["id"]: x for x in api.leads.all()}
    changed = api.leads.change(7)
    since = dt.datetime.fromtimestamp(clock.now, dt.UTC).isoformat()
    after = listed(api, updated_since=since, include_custom_fields="true")
    assert ids(after) == sorted(changed)
    assert len(set(changed)) == 7
    for lead in after:
        kept = {**lead, "updated_at": before[lead["id"]]["updated_at"]}
        assert kept != before[lead["id"]]


def test_dates_of_changes_never_go_back(api: Sandbox, clock: FakeClock) -> None:
    """Also when the clock does."""
    (first,) = api.leads.add()
    clock.now -= 100
    (second,) = api.leads.add()
    dates = {x["id"]: x["updated_at"] for x in api.leads.all()}
    assert dates[first] == dates[second]


def test_a_lead_that_changes_while_paged_comes_again(api: Sandbox) -> None:
    """Paging is by position in the order: nobody is skipped."""
    page = ask(api, limit=30).json()
    moved = page["leads"][0]["id"]
    api.leads.update(moved, status="won")
    rest = walk(api, limit=30, cursor=page["next_cursor"])
    assert set(ids(page["leads"] + rest)) == {x["id"] for x in api.leads.all()}
    assert rest[-1]["id"] == moved


def test_new_leads_are_as_told(api: Sandbox, clock: FakeClock) -> None:
    """Fields that are given override what is made up; the rest is dated now."""
    added = api.leads.add(2, updated_at="2030-01-01T00:00:00.000Z", score=None)
    leads = [x for x in api.leads.all() if x["id"] in added]
    now = dt.datetime.fromtimestamp(clock.now, dt.UTC)
    for lead in leads:
        assert lead["updated_at"] == "2030-01-01T00:00:00.000Z"
        assert lead["score"] is None
        assert dt.datetime.fromisoformat(lead["created_at"]) == now
    assert ask(api).json()["total"] == api.leads.count() == 62


def test_merged_leads_vanish_into_others_that_change(api: Sandbox) -> None:
    """A merge takes one lead off the list and dates the survivor now."""
    before = {x["id"]: x["updated_at"] for x in api.leads.all()}
    gone = api.leads.merge(3)
    after = {x["id"]: x["updated_at"] for x in api.leads.all()}
    assert set(before) - set(after) == set(gone)
    assert sum(before[id_] != date for id_, date in after.items()) == 3


def test_deleted_leads_vanish(api: Sandbox) -> None:
    """Nothing else changes."""
    before = api.leads.all()
    gone = api.leads.delete(4)
    assert len(set(gone)) == 4
    assert api.leads.all() == [lead for lead in before if lead["id"] not in gone]


def test_more_leads_than_there_are_cannot_change(api: Sandbox) -> None:
    """Who asks for that is told how many there are."""
    for change in (api.leads.change, api.leads.merge, api.leads.delete):
        with pytest.raises(ValueError, match="60 leads"):
            change(61)
    assert api.leads.count() == 60


def test_a_lead_that_the_document_forbids_is_not_written(api: Sandbox) -> None:
    """Each lead is checked against the vendor's schema."""
    (lead, *_) = api.leads.all()
    wrongs: list[Lead] = [
        {"score": "high"},
        {"updated_at": "now"},
        {"custom_fields": {"a": []}},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            api.leads.update(lead["id"], **wrong)
    assert lead in api.leads.all()


# What the made-up leads are like


def test_the_same_seed_makes_the_same_leads(clock: FakeClock) -> None:
    """And the same changes; another seed makes others."""

    def made(seed: int) -> list[Lead]:
        with Sandbox(leads=20, seed=seed, clock=clock.time) as sandbox:
            sandbox.leads.change(5)
            sandbox.leads.delete(2)
            return sandbox.leads.all()

    assert made(1) == made(1) != made(2)


def test_leads_hold_all_that_the_document_knows(clock: FakeClock) -> None:
    """Each documented value, nulls, every custom type, ties, and names in Unicode."""
    with Sandbox(leads=1500, clock=clock.time) as sandbox:
        leads = sandbox.leads.all()
        for _ in walk(sandbox, limit=100, include_custom_fields="true"):
            """Each page is checked against the document by the way."""
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


def test_leads_are_as_old_as_they_should_be(clock: FakeClock) -> None:
    """Created within a year, and quiet for the ten minutes before the start."""
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
