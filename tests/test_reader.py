"""How a reader turns responses into pages and waits, without a server or a clock."""

from __future__ import annotations

import datetime as dt
import itertools
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.page import Page
from tap_mega.api.position import Position
from tap_mega.api.rate_limit import MARGIN_SECONDS, RateLimiter
from tap_mega.api.reader import Reader, Wait
from tap_mega.shared.errors import BadRequestError, RateLimitedError, TemporaryError
from tap_mega.sync.full_refresh import FullRefresh
from testing.clock import FakeClock

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Response: t.TypeAlias = Page | Exception

START = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
MAX_TRIES = 3
PAGE_SIZE = 2


def page(*seconds: float, cursor: str | None = None, total: int | None = None) -> Page:
    """Return a page of leads that changed so many seconds after the start."""
    timestamps = [START + dt.timedelta(seconds=it) for it in seconds]
    return Page([{"id": str(it)} for it in seconds], timestamps, cursor, total)


class FakeClient:
    """Answers with what it is given, and keeps what it was asked for."""

    def __init__(self, *responses: Response) -> None:
        """Answer with these, one after another."""
        self.responses = iter(responses)
        self.requests: list[dict[str, t.Any]] = []

    def get(self, params: Mapping[str, t.Any]) -> Page:
        """Return the next page, or raise the next error."""
        self.requests.append({name: it for name, it in params.items() if it})
        response = next(self.responses)
        if isinstance(response, Exception):
            raise response
        return response


def reading(
    client: FakeClient, page_size: int = PAGE_SIZE, until: dt.datetime | None = None
) -> Reader:
    """Return a reader that gives up after three tries."""
    return Reader(
        client,
        RateLimiter(per_minute=0, per_hour=0),
        page_size=page_size,
        until=until,
        backoff=lambda: iter((1.0, 2.0, 4.0)),
        max_tries=MAX_TRIES,
        now=FakeClock().monotonic,
    )


def steps(*responses: Response) -> list[Page | Wait]:
    """Return all that a reader yields at these responses."""
    return list(reading(FakeClient(*responses)).pages(None))


def outcome(client: FakeClient) -> tuple[list[Page | Wait], FatalAPIError | None]:
    """Return what a reader yields, and the error that ends it."""
    found: list[Page | Wait] = []
    try:
        for step in reading(client).pages(None):
            found.append(step)  # noqa: PERF402 - what came before an error counts
    except FatalAPIError as error:
        return found, error
    return found, None


def waits(steps: list[Page | Wait]) -> Iterator[float]:
    """Yield the seconds of the waits."""
    return (it.seconds for it in steps if isinstance(it, Wait))


def test_it_follows_cursors_until_there_is_none() -> None:
    """Each page is asked for with the cursor of the one before."""
    pages = [page(1, cursor="a"), page(cursor="b"), page(2)]
    client = FakeClient(*pages)
    assert list(reading(client).pages(START)) == pages
    since = {"updated_since": "2026-07-01T00:00:00.000Z"}
    cursors: list[dict[str, str]] = [{}, {"cursor": "a"}, {"cursor": "b"}]
    assert client.requests == [since | it for it in cursors]


def test_nothing_is_requested_before_it_is_needed() -> None:
    """A page is yielded before the next one is requested."""
    client = FakeClient(page(1, cursor="a"), page(2))
    pages = reading(client).pages(None)
    assert not client.requests
    next(pages)
    assert len(client.requests) == 1


def test_it_counts_what_it_has_read() -> None:
    """`read`, `total`, `left` and `position` speak of the pages so far."""
    reader = reading(FakeClient(page(1, 2, cursor="a", total=3), page(3, total=3)))
    pages = reader.pages(None)
    assert (reader.read, reader.total, reader.left) == (0, None, 0)
    assert reader.position.last is None
    next(pages)
    assert (reader.read, reader.total, reader.left) == (2, 3, 1)
    next(pages)
    assert (reader.read, reader.left) == (3, 0)
    assert reader.position.last == START + dt.timedelta(seconds=3)


def test_a_lead_that_cannot_be_read_is_not_left_to_read() -> None:
    """`left` counts the leads that may still come."""
    first = page(1, cursor="a", total=5)._replace(rejected=("not an object: lead 2",))
    reader = reading(FakeClient(first, page(2, total=5)))
    next(reader.pages(None))
    assert (reader.read, reader.left) == (1, 3)


@pytest.mark.parametrize(("read", "problem"), [(99, False), (98, True)])
def test_one_lead_in_a_hundred_may_be_deleted_meanwhile(
    read: int, *, problem: bool
) -> None:
    """If the last total agrees, all leads that are left were read."""
    pages = [page(*range(read), cursor="a", total=100), page(total=read)]
    reader = reading(FakeClient(*pages))
    refresh = FullRefresh({}, START, "", is_whole=True)
    refresh.begin(1)
    for step in reader.pages(None):
        refresh.advance(t.cast("Page", step), reader)
    assert bool(refresh.problem()) == problem


def test_a_failure_is_a_wait_and_another_try() -> None:
    """The wait comes from the backoff, and says which try failed and why."""
    found = steps(TemporaryError("it broke"), page(1))
    assert found == [Wait(1, "Try 1 of 3 failed: it broke", is_retry=True), page(1)]


def test_it_gives_up_after_the_last_try() -> None:
    """Two waits, then an error that says so, and no request more."""
    client = FakeClient(*[TemporaryError("it broke")] * (MAX_TRIES + 1))
    found, error = outcome(client)
    assert list(waits(found)) == [1, 2]
    assert "Gave up after 3 tries: it broke" in str(error)
    assert len(client.requests) == MAX_TRIES


def test_each_page_has_its_own_tries() -> None:
    """Failures of one page do not count for the next."""
    broken = [TemporaryError("it broke")] * (MAX_TRIES - 1)
    found = steps(*broken, page(1, cursor="a"), *broken, page(2))
    assert list(waits(found)) == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("asked", "waited"), [(None, 1), (0, 1), (0.5, 1), (30, 30)], ids=str
)
def test_a_failure_waits_at_least_as_long_as_the_api_asks(
    asked: float | None, waited: float
) -> None:
    """`Retry-After` counts where it is longer than the backoff."""
    assert list(waits(steps(TemporaryError("busy", asked), page()))) == [waited]


@pytest.mark.parametrize(
    ("asked", "waited"), [(None, 1), (0, 1), (-5, 1), (7200, 7200)], ids=str
)
def test_a_429_waits_as_the_api_asks(asked: float | None, waited: float) -> None:
    """Its wait is not a retry, and lasts at least a second."""
    (wait, _) = steps(RateLimitedError("", asked), page())
    reason = "the API answered 429: the key has no quota left"
    assert wait == Wait(waited, reason)


@pytest.mark.parametrize(
    ("seconds", "count", "hours"), [(3600, 4, 4.0), (14_399, 2, 8.0), (14_400, 1, 4.0)]
)
@pytest.mark.parametrize("first", [[], [page(1, cursor="a")]], ids=["start", "later"])
def test_it_gives_up_after_four_hours_without_a_new_lead(
    first: list[Page], seconds: float, count: int, hours: float
) -> None:
    """Another program may use the key up."""
    client = FakeClient(*first, *[RateLimitedError("", seconds)] * 9)
    found, error = outcome(client)
    assert list(waits(found)) == [seconds] * count
    assert f"0 pages and {hours} hours of waiting returned no new lead" in str(error)


def test_it_gives_up_at_the_fiftieth_page_without_a_new_lead() -> None:
    """Such pages may go on for ever."""
    found, error = outcome(FakeClient(*(page(cursor=str(it)) for it in range(99))))
    assert len(found) == 49
    assert "50 pages and 0.0 hours of waiting returned no new lead" in str(error)


@pytest.mark.parametrize(("count", "warned"), [(24, False), (25, True)])
def test_half_of_the_pages_without_a_new_lead_are_a_warning(
    count: int, *, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A person can look before the reader gives up."""
    pages = [*(page(cursor=str(it)) for it in range(count)), page()]
    assert len(steps(*pages)) == count + 1
    assert ("No progress: 25 pages" in caplog.text) == warned


def test_the_end_is_exclusive() -> None:
    """A lead that changed exactly then is left out, and no page is requested more."""
    rejected = ("not an object: lead 1",)
    client = FakeClient(page(1, 2, cursor="a", total=9)._replace(rejected=rejected))
    reader = reading(client, until=START + dt.timedelta(seconds=2))
    assert list(reader.pages(None)) == [page(1)._replace(rejected=rejected)]
    assert (reader.read, reader.total, reader.left) == (1, 2, 0)


@given(
    st.lists(
        st.lists(st.sampled_from(["429", "failure", "page"]), max_size=6), max_size=4
    )
)
def test_only_failures_count_as_tries(day: list[list[str]]) -> None:
    """A page is given up if and only if it fails as often as it may be tried."""
    responses: list[Response] = []
    expected = 0
    alive = True
    for number, events in enumerate([*day, ["page"]]):
        failures = itertools.takewhile(lambda it: it != "page", [*events, "page"])
        kinds = list(failures)
        made = {
            "429": RateLimitedError("", 5),
            "failure": TemporaryError("it broke"),
        }
        responses += [made[kind] for kind in kinds]
        last = number == len(day)
        responses.append(page(number, cursor=None if last else f"{number}"))
        alive = alive and kinds.count("failure") < MAX_TRIES
        expected += alive
    found, error = outcome(FakeClient(*responses))
    assert (error is None) == alive
    assert sum(isinstance(step, Page) for step in found) == expected


def test_a_refused_cursor_resumes_from_the_last_lead() -> None:
    """A new sweep starts a second before it, and skips most of what was read."""
    client = FakeClient(
        page(1, 2, cursor="a", total=3),
        BadRequestError("unknown cursor"),
        page(2, 3, total=3),
    )
    reader = reading(client)
    assert len(list(reader.pages(None))) == 2
    since = {"updated_since": "2026-07-01T00:00:01.000Z"}  # a second before the last
    assert client.requests[2] == {**since, "offset": 1}
    assert (reader.read, reader.new, reader.total, reader.left) == (4, 3, 3, 0)


@pytest.mark.parametrize(("stored", "offset"), [(-1, 1), (0, 1), (1, 1), (5, 5)])
def test_a_position_counts_at_least_its_own_lead(stored: int, offset: int) -> None:
    """The offset of a state includes the lead that it names."""
    state = {"updated_at": "2026-07-01T00:00:00.000Z", "id": "x", "offset": stored}
    assert Position.from_state(state).offset == offset


def test_a_lead_that_comes_again_is_the_last_one() -> None:
    """It counts once, at its new place."""
    position = Position()
    position.advance(page(1, 1.5))
    again = page(2)._replace(leads=[{"id": "1"}])
    assert position.advance(again) == 0
    assert position.to_state()["id"] == "1"
    assert position.offset == 2


def test_a_resumed_position_counts_the_leads_of_its_last_second() -> None:
    """What an earlier run read counts as long as it is within this second."""
    state = {"updated_at": "2026-07-01T00:00:00.000Z", "id": "x", "offset": 5}
    position = Position.from_state(state)
    position.advance(page(0.5))
    assert position.offset == 6
    position.advance(page(1))
    assert position.offset == 7
    position.advance(page(10, 10.5))
    assert position.offset == 2


@pytest.mark.parametrize(
    ("page_size", "read", "offset"), [(10, 20, 15), (1, 20, 19), (10, 2, None)]
)
def test_half_a_page_comes_again_after_a_refused_cursor(
    page_size: int, read: int, offset: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A lead that has moved is on it. A warning says what happened."""
    known = Page([{"id": "x"}], [START], None, None)
    client = FakeClient(BadRequestError("unknown cursor"), known)
    reader = reading(client, page_size)
    state = {"updated_at": "2026-07-01T00:00:00.000Z", "id": "x", "offset": read}
    reader.position = Position.from_state(state)
    assert list(reader.pages(None, "a")) == [known]
    assert client.requests[1].get("offset") == offset
    assert "The API refused a cursor: starting a new one" in caplog.text


def test_it_steps_back_by_the_page_until_it_finds_what_it_has_read() -> None:
    """Leads before the offset may have left their place."""
    client = FakeClient(BadRequestError("unknown cursor"), *[page(9)] * 4)
    reader = reading(client)
    state = {"updated_at": "2026-07-01T00:00:00.000Z", "id": "x", "offset": 6}
    reader.position = Position.from_state(state)
    assert list(reader.pages(None, "a")) == [page(9)]
    assert [it.get("offset") for it in client.requests] == [None, 5, 3, 1, None]


def test_a_refused_cursor_without_progress_is_fatal() -> None:
    """A sweep that read nothing new would be refused for ever."""
    client = FakeClient(
        page(1, cursor="a"),
        BadRequestError("unknown cursor"),
        page(1, cursor="b"),
        BadRequestError("unknown cursor"),
    )
    with pytest.raises(BadRequestError):
        list(reading(client).pages(None))
    assert len(client.requests) == 4


def test_a_refused_first_request_is_fatal() -> None:
    """A 400 without a cursor is about the filters: trying again does not help."""
    client = FakeClient(BadRequestError("bad filter"))
    with pytest.raises(BadRequestError, match="bad filter"):
        list(reading(client).pages(None))


@pytest.mark.parametrize(
    "pages",
    [[page(1, 3, 2)], [page(1, 2, cursor="a"), page(1.999)]],
    ids=["within-a-page", "between-pages"],
)
def test_a_wrong_order_is_fatal(pages: list[Page]) -> None:
    """The reader does not yield the page with the disorder."""
    found, error = outcome(FakeClient(*pages))
    assert found == pages[:-1]
    assert "sorts by updated_at" in str(error)


def test_the_same_timestamp_twice_is_in_order() -> None:
    """Leads of one import share their `updated_at`."""
    assert len(steps(page(1, 1, cursor="a"), page(1, 2))) == 2


@pytest.mark.parametrize("cursors", ["aa", "aba", "abca"])
def test_cursors_that_repeat_are_fatal(cursors: str) -> None:
    """A circle of pages does not end."""
    client = FakeClient(*(page(cursor=it) for it in cursors))
    with pytest.raises(FatalAPIError, match="the same cursor twice"):
        list(reading(client).pages(None))
    assert len(client.requests) == len(cursors)


@pytest.mark.parametrize("elapsed", [0, 59.9])
def test_it_waits_where_the_limit_is_reached(elapsed: float) -> None:
    """The wait comes before the request, however short it is, and names the limit."""
    clock = FakeClock()
    limiter = RateLimiter(per_minute=1, per_hour=0)
    limiter.record(clock.now)
    clock.sleep(elapsed)
    client = FakeClient(page())
    reader = Reader(
        client,
        limiter,
        page_size=PAGE_SIZE,
        backoff=lambda: iter(()),
        max_tries=1,
        now=clock.monotonic,
    )
    pages = reader.pages(None)
    wait = next(pages)
    assert isinstance(wait, Wait)
    assert wait.seconds == pytest.approx(60 - elapsed + MARGIN_SECONDS)
    assert wait.reason == "the limit of 1 request per minute is reached"
    assert not client.requests
    clock.sleep(wait.seconds)
    assert next(pages) == page()
