"""How a reader turns responses into pages and waits, without a server or a clock."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t

import pytest
from singer_sdk.exceptions import FatalAPIError

from tap_mega.api.client import Request
from tap_mega.api.page import CursorPaginator, Page
from tap_mega.api.position import CREATED_AT, UPDATED_AT, Position
from tap_mega.api.rate_limit import RateLimiter
from tap_mega.api.reader import MAX_SHORT_ENDS, OUT_OF_ORDER, Reader
from tap_mega.api.retry import NO_QUOTA, Retrier, Wait
from tap_mega.shared.errors import BadRequestError, RateLimitedError, TemporaryError
from tap_mega.shared.timestamps import format_timestamp
from tap_mega.state.values import Resume
from testing.clock import FakeClock

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_mega.api.reader import Pages

    Response: t.TypeAlias = Page | Exception

START = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
MAX_TRIES = 3
PAGE_SIZE = 2
REFUSED = BadRequestError("unknown cursor")
BROKEN = TemporaryError("it broke")
DAMAGED = ("not an object: lead 1",)


def page(*seconds: float, cursor: str | None = None, total: int | None = None) -> Page:
    """Return a page of leads that changed so many seconds after the start."""
    timestamps = [START + dt.timedelta(seconds=it) for it in seconds]
    leads = [
        {"id": str(it), "created_at": format_timestamp(at)}
        for it, at in zip(seconds, timestamps, strict=True)
    ]
    return Page(leads, timestamps, cursor, total)


def at(offset: int, cursor: str | None = "a") -> Resume:
    """Return a position at the start, after so many leads of the same second."""
    return Resume(START, "x", offset, cursor)


class FakeAPI:
    """Answers with what it is given, and keeps what it was asked for."""

    def __init__(self, *responses: Response) -> None:
        """Answer with these, one after another."""
        self.responses = iter(responses)
        self.params: list[dict[str, t.Any]] = []

    @property
    def requests(self) -> list[dict[str, t.Any]]:
        """What tells the requests apart."""
        common = ("sort_by", "limit")
        return [{k: v for k, v in it.items() if k not in common} for it in self.params]

    def read(self, reader: Reader, since: dt.datetime | None = None) -> Iterator[Step]:
        """Yield the pages and waits of a reader."""
        return self.answer(reader.pages(since))

    def answer(self, steps: Pages) -> Iterator[Step]:
        """Yield all steps that are no request."""
        answer: Response | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            answer = None
            if isinstance(step, Request):
                self.params.append({k: v for k, v in step.params.items() if v})
                answer = next(self.responses)
            elif isinstance(step, Page):
                yield step._replace(new=())
            else:
                yield step


Step: t.TypeAlias = Page | Wait


def new_reader(clock: FakeClock | None = None, **more: t.Any) -> Reader:
    """Return a reader that gives up after three tries."""
    retrier = Retrier(
        more.pop("limiter", RateLimiter(per_minute=0, per_hour=0)),
        backoff=lambda: iter((1.0, 2.0, 4.0)),
        max_tries=MAX_TRIES,
        now=(clock or FakeClock()).monotonic,
        log=logging.getLogger(),
    )
    return Reader(retrier, CursorPaginator, **{"page_size": PAGE_SIZE, **more})


def steps(*responses: Response) -> list[Step]:
    """Return all that a reader yields at these responses."""
    return list(FakeAPI(*responses).read(new_reader()))


def outcome(api: FakeAPI, **more: t.Any) -> tuple[list[Step], FatalAPIError | None]:
    """Return what a reader yields, and the error that ends it."""
    found: list[Step] = []
    try:
        for step in api.read(new_reader(**more)):
            found.append(step)  # noqa: PERF402 - what came before an error counts
    except FatalAPIError as error:
        return found, error
    return found, None


def waits(steps: list[Step]) -> list[float]:
    """Return the seconds of the waits."""
    return [it.seconds for it in steps if isinstance(it, Wait)]


@pytest.mark.parametrize(
    ("order", "parameter"),
    [(UPDATED_AT, "updated_since"), (CREATED_AT, "created_since")],
)
def test_it_follows_cursors_until_there_is_none(order: str, parameter: str) -> None:
    """Each page is asked for with the cursor of the one before."""
    pages = [page(1, cursor="a"), page(cursor="b"), page(2)]
    api = FakeAPI(*pages)
    assert list(api.read(new_reader(order=order), START)) == pages
    all_have = {"sort_by": order, parameter: format_timestamp(START), "limit": 2}
    cursors: list[dict[str, str]] = [{}, {"cursor": "a"}, {"cursor": "b"}]
    assert api.params == [all_have | it for it in cursors]


def test_it_counts_what_it_has_read() -> None:
    """`read`, `total`, `left` and `position` speak of the pages so far."""
    reader = new_reader()
    pages = FakeAPI(page(1, 2, cursor="a", total=3), page(3, total=3)).read(reader)
    assert (reader.read, reader.total, reader.left) == (0, None, 0)
    assert reader.position.last is None
    next(pages)
    assert (reader.read, reader.total, reader.left) == (2, 3, 1)
    next(pages)
    assert (reader.read, reader.left) == (3, 0)
    assert reader.position.last == START + dt.timedelta(seconds=3)


def test_a_page_with_an_unusable_lead_is_asked_for_once_more() -> None:
    """The better answer counts. What it lacks is not left to read."""
    worse = page(1, cursor="a", total=5)._replace(rejected=DAMAGED * 2)
    better = page(1, cursor="a", total=5)._replace(rejected=DAMAGED)
    for answers in ([better, worse], [worse, better]):
        api, reader = FakeAPI(*answers, page(2, total=5)), new_reader()
        pages = api.read(reader)
        assert next(pages) == better
        assert (reader.read, reader.left, len(reader.rejected)) == (1, 3, 1)
        next(pages)
        assert api.requests == [{}, {}, {"cursor": "a"}]


def test_a_lead_that_was_damaged_on_its_way_is_read() -> None:
    """The second answer has it, and nothing is left out."""
    reader = new_reader()
    answers = page()._replace(rejected=DAMAGED), page(1)
    assert list(FakeAPI(*answers).read(reader)) == [page(1)]
    assert reader.rejected == []


@pytest.mark.parametrize(
    ("order", "count"), [(UPDATED_AT, 1), (CREATED_AT, 1 + MAX_SHORT_ENDS)]
)
def test_a_full_refresh_asks_again_if_leads_are_left(order: str, count: int) -> None:
    """What it does not read looks deleted. Changes come again in the next run."""
    api = FakeAPI(*[page(1, total=9)] * MAX_SHORT_ENDS * 2)
    assert len(list(api.read(new_reader(order=order)))) == count


def test_a_failure_is_a_wait_and_another_try() -> None:
    """The wait comes from the backoff, and says which try failed and why."""
    found = steps(BROKEN, page(1))
    assert found == [Wait(1, "Try 1 of 3 failed: it broke", is_retry=True), page(1)]


def test_each_page_has_its_own_tries() -> None:
    """Failures of one page do not count for the next."""
    broken = [BROKEN] * (MAX_TRIES - 1)
    found = steps(*broken, page(1, cursor="a"), *broken, page(2))
    assert waits(found) == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("asked", "waited"), [(None, 1), (0, 1), (0.5, 1), (30, 30)], ids=str
)
def test_a_failure_waits_at_least_as_long_as_the_api_asks(
    asked: float | None, waited: float
) -> None:
    """`Retry-After` counts where it is longer than the backoff."""
    assert waits(steps(TemporaryError("busy", asked), page())) == [waited]


@pytest.mark.parametrize(
    ("asked", "waited"), [(None, 1), (0, 1), (-5, 1), (7200, 7200)], ids=str
)
def test_a_429_waits_as_the_api_asks(asked: float | None, waited: float) -> None:
    """Its wait is not a retry, and lasts at least a second."""
    (wait, _) = steps(RateLimitedError("", asked), page())
    assert wait == Wait(waited, NO_QUOTA)


@pytest.mark.parametrize(
    ("seconds", "count", "hours"), [(3600, 4, 4.0), (14_399, 2, 8.0), (14_400, 1, 4.0)]
)
@pytest.mark.parametrize("first", [[], [page(1, cursor="a")]], ids=["start", "later"])
def test_it_gives_up_after_four_hours_without_a_new_lead(
    first: list[Page], seconds: float, count: int, hours: float
) -> None:
    """Another program may use the key up."""
    found, error = outcome(FakeAPI(*first, *[RateLimitedError("", seconds)] * 9))
    assert waits(found) == [seconds] * count
    assert f"0 pages and {hours} hours of waiting returned no new lead" in str(error)


def test_it_gives_up_at_the_fiftieth_page_without_a_new_lead() -> None:
    """Such pages may go on for ever."""
    found, error = outcome(FakeAPI(*(page(cursor=str(it)) for it in range(99))))
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
    whole = page(1, 2, cursor="a", total=9)._replace(rejected=DAMAGED)
    reader = new_reader(until=START + dt.timedelta(seconds=2))
    (last,) = FakeAPI(whole, whole).read(reader)
    assert last == page(1)._replace(rejected=DAMAGED)
    assert (reader.read, reader.total, reader.left) == (1, 2, 0)


def test_a_refused_cursor_resumes_from_the_last_lead() -> None:
    """A new sweep starts a second before it, and skips most of what was read."""
    api = FakeAPI(page(1, 2, cursor="a", total=3), REFUSED, page(2, 3, total=3))
    reader = new_reader()
    assert len(list(api.read(reader))) == 2
    since = {"updated_since": "2026-07-01T00:00:01.000Z"}  # a second before the last
    assert api.requests[2] == {**since, "offset": 1}
    assert (reader.read, reader.new, reader.total, reader.left) == (4, 3, 3, 0)


def test_a_lead_that_comes_again_is_the_last_one() -> None:
    """It counts once, at its new place."""
    position = Position()
    position.advance(page(1, 1.5))
    again = page(2)._replace(leads=[{"id": "1"}])
    assert position.advance(again) == []
    resume = position.resume(None)
    assert resume
    assert (resume.id, resume.offset) == ("1", 2)


def test_a_resumed_position_counts_the_leads_of_its_last_second() -> None:
    """What an earlier run read counts as long as it is within this second."""
    position = Position(resume=at(5))
    offsets = []
    for it in (page(0.5), page(1), page(10, 10.5)):
        position.advance(it)
        offsets.append(position.offset)
    assert offsets == [6, 7, 2]


@pytest.mark.parametrize(
    ("page_size", "read", "offset"), [(10, 20, 15), (1, 20, 19), (10, 2, None)]
)
def test_half_a_page_comes_again_after_a_refused_cursor(
    page_size: int, read: int, offset: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A lead that has moved is on it. A warning says what happened."""
    known = Page([{"id": "x"}], [START], None, None)
    api = FakeAPI(REFUSED, known)
    reader = new_reader(page_size=page_size, resume=at(read))
    assert list(api.read(reader)) == [known]
    assert api.requests[1].get("offset") == offset
    assert "The API refused a cursor: starting a new one" in caplog.text


def test_it_steps_back_by_the_page_until_it_finds_what_it_has_read() -> None:
    """Leads before the offset may have left their place."""
    api = FakeAPI(REFUSED, *[page(9)] * 4)
    assert list(api.read(new_reader(resume=at(6)))) == [page(9)]
    assert [it.get("offset") for it in api.requests] == [None, 5, 3, 1, None]


def test_refused_cursors_without_progress_end() -> None:
    """Such an API is read as long as any other that sends no new lead."""
    answers: list[Response] = [page(1, cursor="a"), REFUSED]
    found, error = outcome(FakeAPI(*answers * 99))
    assert len(found) == 50
    assert "50 pages and 0.0 hours of waiting returned no new lead" in str(error)


@pytest.mark.parametrize("order", [UPDATED_AT, CREATED_AT])
@pytest.mark.parametrize(
    "pages",
    [[page(1, 3, 2)], [page(1, 2, cursor="a"), page(1.999)]],
    ids=["within-a-page", "between-pages"],
)
def test_a_wrong_order_is_fatal(pages: list[Page], order: str) -> None:
    """The reader does not yield the page with the disorder."""
    found, error = outcome(FakeAPI(*pages), order=order)
    assert found == pages[:-1]
    assert str(error) == OUT_OF_ORDER.format(order=order)


@pytest.mark.parametrize("cursors", ["aa", "aba", "abca"])
def test_cursors_that_repeat_are_fatal(cursors: str) -> None:
    """A circle of pages does not end."""
    api = FakeAPI(*(page(cursor=it) for it in cursors))
    _, error = outcome(api)
    assert "the same cursor twice" in str(error)
    assert len(api.requests) == len(cursors)
