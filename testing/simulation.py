"""An API, a loader and a tap in memory, to try what no real day brings in time."""

from __future__ import annotations

import bisect
import copy
import dataclasses
import datetime as dt
import itertools
import logging
import typing as t

from typing_extensions import override

from tap_mega.api.page import CursorPaginator, Page
from tap_mega.config.schema import SETTINGS
from tap_mega.config.settings import Settings
from tap_mega.shared.errors import BadRequestError, RateLimitedError, TemporaryError
from tap_mega.shared.stopping import StopFlag
from tap_mega.shared.timestamps import format_timestamp, from_epoch, parse_timestamp
from tap_mega.state.document import read_state, source_of
from tap_mega.sync.customer import CustomerSync, Job, Tools
from tap_mega.sync.run import Complete, Leads, Run
from testing.clock import FakeClock

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tap_mega.api.client import Request
    from tap_mega.sync.run import Event
    from tap_mega.sync.scheduler import Put

    Json: t.TypeAlias = dict[str, t.Any]
    Key: t.TypeAlias = tuple[str, str]

DEFAULTS: Json = {
    name: it["default"]
    for name, it in SETTINGS["properties"].items()
    if "default" in it
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
REQUEST_SECONDS = 0.25
LOG = logging.getLogger("simulation")
LOG.disabled = True


class SkewedClock(FakeClock):
    """The clock of the tap, which may differ from the true time."""

    offset = 0.0

    @override
    def time(self) -> float:
        return self.now + self.offset


@dataclasses.dataclass
class Lead:
    """A lead as the API has it."""

    id: str
    created_at: int
    updated_at: int
    number: int
    """It grows with each change: the content."""
    listed_at: float = 0
    """When it was created, imported or restored, in true time."""

    def key(self, order: str) -> tuple[int, str]:
        """Return its place in an order."""
        return getattr(self, order), self.id

    def to_json(self) -> Json:
        """Return the lead as a page has it."""
        stamps = {it: _format(getattr(self, it)) for it in ("created_at", "updated_at")}
        return {"id": self.id, "number": self.number, **stamps}


def _format(milliseconds: int) -> str:
    return format_timestamp(EPOCH + dt.timedelta(milliseconds=milliseconds))


def _parse(timestamp: str) -> float:
    return (parse_timestamp(timestamp) - EPOCH) / dt.timedelta(milliseconds=1)


@dataclasses.dataclass
class Faults:
    """What goes wrong in one run, by the number of the request."""

    errors: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """`broken`, `429`, `cursor`, `empty`, `early` or `unreadable`."""
    total_error: int = 0
    events: Mapping[int, Callable[[], object]] = dataclasses.field(default_factory=dict)
    """What others do just before a request."""


class API:
    """The API: customers with leads, sorted lists by cursor, totals."""

    def __init__(self, clock: SkewedClock) -> None:
        """Start without leads."""
        self.clock, self.offset = clock, 0.0
        self.leads: dict[str, dict[str, Lead]] = {}
        self.deleted: dict[str, dict[str, Lead]] = {}
        self.requests = 0
        self.faults = Faults()
        self._numbers = itertools.count(1)

    @property
    def now(self) -> int:
        """The time of the API, in milliseconds."""
        return round((self.clock.now + self.offset) * 1000)

    def add(self, customer: str, *, created: float = 0, updated: float = 0) -> Lead:
        """Add a lead that was created and updated so many seconds ago."""
        number = next(self._numbers)
        created_at, updated_at = (
            self.now - round(it * 1000) for it in (created, updated)
        )
        it = Lead(f"{number:06}", created_at, updated_at, number, self.clock.now)
        self.leads[customer][it.id] = it
        return it

    def edit(self, customer: str, index: int, *, updated: float = 0) -> None:
        """Change a lead, with an `updated_at` that is so many seconds ago."""
        for it in self._pick(customer, index):
            it.updated_at = self.now - round(updated * 1000)
            it.number = next(self._numbers)

    def delete(self, customer: str, index: int) -> None:
        """Delete a lead."""
        for it in self._pick(customer, index):
            self.deleted[customer][it.id] = self.leads[customer].pop(it.id)

    def restore(self, customer: str) -> None:
        """List a deleted lead again, as a change."""
        if self.deleted[customer]:
            _, it = self.deleted[customer].popitem()
            it.updated_at, it.number = self.now, next(self._numbers)
            it.listed_at = self.clock.now
            self.leads[customer][it.id] = it

    def _pick(self, customer: str, index: int) -> list[Lead]:
        leads = list(self.leads[customer].values())
        return [leads[index % len(leads)]] if leads else []

    def answer(self, customer: str, params: Mapping[str, t.Any]) -> Page | Exception:
        """Answer a request."""
        self.requests += 1
        if event := self.faults.events.get(self.requests):
            event()
        fault = self.faults.errors.get(self.requests, "")
        requested_at = self.clock.time()
        self.clock.now += REQUEST_SECONDS
        if fault == "broken":
            return TemporaryError("broken")
        if fault == "429":
            return RateLimitedError("429", 100)
        if fault == "cursor" and params.get("cursor"):
            return BadRequestError("unknown cursor")
        return self._page(customer, params, fault)._replace(
            requested_at=requested_at,
            sent_at=float(self.now // 1000),
            took=REQUEST_SECONDS,
            arrived_at=self.clock.monotonic(),
        )

    def _page(self, customer: str, params: Mapping[str, t.Any], fault: str) -> Page:
        order, limit = params.get("sort_by", "updated_at"), params["limit"]
        leads = self._listed(customer, params, order)
        start = params.get("offset") or 0
        if cursor := params.get("cursor"):
            at, key, _ = cursor.split("|")
            keys = [it.key(order) for it in leads]
            start = bisect.bisect_right(keys, (int(at), key))
        end = start if fault == "empty" else start + limit
        page, following = leads[start:end], None
        if leads[end:] and fault != "early":
            # An empty page skips nothing, and has a new cursor.
            at, key = leads[end - 1].key(order) if end else (0, "")
            following = f"{at}|{key}|{next(self._numbers)}"
        rejected = tuple(it.id for it in page[-1:] if fault == "unreadable")
        items = [it.to_json() for it in page if it.id not in rejected]
        stamps = [parse_timestamp(it["updated_at"]) for it in items]
        total = len(leads) + self.faults.total_error
        return Page(items, stamps, following, total, rejected)

    def _listed(
        self, customer: str, params: Mapping[str, t.Any], order: str
    ) -> list[Lead]:
        """Return the leads that a request asks for, on all its pages."""
        leads = sorted(self.leads[customer].values(), key=lambda it: it.key(order))
        for name in ("created", "updated"):
            if since := params.get(f"{name}_since"):
                limit = _parse(since)
                leads = [it for it in leads if getattr(it, f"{name}_at") >= limit]
        return leads


class Table:
    """A table, and a loader that knows versions."""

    def __init__(self, *, removes_equal: bool) -> None:
        """Start empty. Some loaders remove the version of the message, too."""
        self._removes_equal = removes_equal
        self.rows: dict[Key, tuple[int, int]] = {}
        """Content and version of each lead."""

    def load(self, row: tuple[str, Json, int | None]) -> None:
        """Insert or replace a row."""
        customer, lead, version = row
        self.rows[customer, lead["id"]] = (lead["number"], version or 0)

    def activate(self, version: int) -> set[Key]:
        """Remove the rows of lower versions, and return which."""
        limit = version + self._removes_equal
        gone = {key for key, (_, its) in self.rows.items() if its < limit}
        for key in gone:
            del self.rows[key]
        return gone


Message: t.TypeAlias = "tuple[str, t.Any]"


@dataclasses.dataclass
class Result:
    """What a run did."""

    messages: list[Message]
    """`row`, `state` or `activate`, and its value."""
    failures: list[str]
    requests: int
    is_stopped: bool
    is_killed: bool
    last: Json
    started_at: float

    def values(self, kind: str) -> list[t.Any]:
        """Return the values of one kind of messages."""
        return [value for name, value in self.messages if name == kind]

    @property
    def state(self) -> Json:
        """The last state, or that before the run."""
        states: list[Json] = [self.last, *self.values("state")]
        return states[-1]


class Tap:
    """The run of the tap, between the API in memory and messages."""

    def __init__(self, api: API, clock: SkewedClock) -> None:
        """Start without customers."""
        self.api, self.clock = api, clock

    def settings(self, customers: list[str], **more: t.Any) -> Settings:
        """Return the settings of a run."""
        config = {
            **DEFAULTS,
            "customers": [{"customer_id": it, "auth_token": ""} for it in customers],
            "emit_activate_version_messages": True,
            "page_size": 2,
            "requests_per_minute": 0,
            "requests_per_hour": 0,
            "max_wait_seconds": 0,
            **more,
        }
        return Settings.parse(config)

    def run(
        self,
        state: Json,
        settings: Settings,
        *,
        reads_all: bool = False,
        faults: Faults | None = None,
        kill_at: int | None = None,
    ) -> Result:
        """Run once from a state, until an event at which it is killed."""
        self.api.requests, self.api.faults = 0, faults or Faults()
        self.clock.now += 2
        started_at = self.clock.now
        sources = [source_of(it, settings) for it in settings.customers]
        now = from_epoch(self.clock.time())
        document, _ = read_state(copy.deepcopy(state), sources, now)
        job = Job(finds_deleted=settings.finds_deleted, reads_all=reads_all)
        if not job.finds_deleted:
            document.forget_deletions()
        tools = Tools(lambda: itertools.repeat(1.0), CursorPaginator, self.clock, LOG)
        syncs = [
            CustomerSync(it, document, settings, job, tools)
            for it in settings.customers
        ]
        run = Run(self._send, syncs, document, settings, job)
        messages: list[Message] = []
        is_killed = False
        for number, event in enumerate(run.events(self.clock, StopFlag(), LOG)):
            messages += self._messages(event, document.to_json)
            if number == kill_at:
                is_killed = True
                break
        else:
            messages.append(("state", copy.deepcopy(document.to_json())))
        failures = [str(it.failure) for it in syncs if it.failure]
        stopped = not all(it.is_finished for it in syncs)
        return Result(
            messages,
            failures,
            self.api.requests,
            stopped,
            is_killed,
            state,
            started_at,
        )

    def _messages(self, event: Event, state: Callable[[], Json]) -> Iterator[Message]:
        match event:
            case Leads():
                for lead in event.leads:
                    yield "row", (event.customer_id, lead, event.version)
            case Complete():
                yield "activate", event.version
            case _:
                yield "state", copy.deepcopy(state())

    def _send(self, sync: CustomerSync, request: Request, put: Put) -> t.Any:
        put(self.api.answer(sync.customer_id, request.params))
        return self

    def give_up(self) -> None:
        """Do nothing: each request is answered at once."""
