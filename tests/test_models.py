"""Test that the views of docs/models.md give what the source's own history gives."""

from __future__ import annotations

import collections
import datetime as dt
import itertools
import json
import re
import statistics
import subprocess
import sys
import typing as t

import psycopg
import pytest
from psycopg.rows import dict_row

from demo.pipeline import temporary_schema, with_scheme
from sandbox import Sandbox
from sandbox.people import STATUSES
from testing.clock import FakeClock
from testing.harness import Command, full_table, selecting
from tests.loaders import LOADERS, Place
from tests.tables import MODELS

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testing.harness import Json

    Rows: t.TypeAlias = list[Json]
    History: t.TypeAlias = dict[str, Rows]

PAGE = MODELS.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
VIEWS = re.findall(r"CREATE VIEW mega\.(\w+)", PAGE)
LEADS = 60
DAY = 86400
SCHEMA = "mega_models"
HISTORY = "SELECT id, updated_at FROM mega.lead_changes"
# This runs with the loader's own Python, which has the DuckDB that wrote the file.
QUERY_DUCKDB = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1])
results = []
for statement in json.load(sys.stdin):
    found = connection.execute(statement)
    names = [column[0] for column in found.description]
    results.append([dict(zip(names, row)) for row in found.fetchall()])
print(json.dumps(results, default=str))
"""


class Loaded(t.NamedTuple):
    """What a database has, and what it was loaded from."""

    views: dict[str, Rows]
    """The rows of each view."""
    versions: tuple[Rows, Rows]
    """The history, before and after that of deleted leads was removed."""
    live: Rows
    """The leads that the table should have."""
    history: History
    """The versions of each lead that a run could see, by its id."""


class Source(t.NamedTuple):
    """What the tap wrote in some runs, and what the API had during them."""

    messages: str
    leads: Rows
    history: History


def statements() -> list[str]:
    """Return the page's statements, each view with a query, and what is removed."""
    *views, deletion = BLOCKS
    made = [
        (block, f"SELECT * FROM mega.{name}")  # noqa: S608 - the page's own names
        for block, name in zip(views, VIEWS, strict=True)
    ]
    return [*itertools.chain(*made), HISTORY, deletion, HISTORY]


def in_postgres(place: Place) -> list[Rows]:
    """Run the statements in PostgreSQL, and return the rows of each."""
    url = with_scheme("postgresql", place.database_url)
    results = []
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        for statement in statements():
            text = statement.replace("mega.", f"{SCHEMA}.")
            cursor = connection.execute(text.encode())
            results.append(cursor.fetchall() if cursor.description else [])
    return t.cast("list[Rows]", json.loads(json.dumps(results, default=str)))


def in_duckdb(place: Place) -> list[Rows]:
    """Run the statements in DuckDB, and return the rows of each."""
    (loader,) = [it for it in LOADERS if it.name == "target-duckdb"]
    run = subprocess.run(
        [
            loader.environment / "bin" / "python",
            *("-c", QUERY_DUCKDB, place.folder / "leads.duckdb"),
        ],
        input=json.dumps(statements()),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return t.cast("list[Rows]", json.loads(run.stdout))


DATABASES: dict[str, Callable[[Place], list[Rows]]] = {
    "target-postgres": in_postgres,
    "target-duckdb": in_duckdb,
}


def move(sandbox: Sandbox, number: int) -> None:
    """Change stage and status of every third lead, and only the score of others."""
    leads = sorted(sandbox.leads.all(), key=lambda lead: str(lead["id"]))
    stages = [lead["current_stage"] for lead in leads[:7]]
    for index, lead in enumerate(leads):
        if index % 3 == number % 3:
            sandbox.leads.update(
                lead["id"],
                current_stage=stages[(index + number) % len(stages)],
                status=STATUSES[(index + number) % len(STATUSES)],
            )
        elif index % 5 == number % 5:
            sandbox.leads.update(lead["id"], score=number)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Run the tap seven times while leads move, and then a full refresh."""
    clock, tap = FakeClock(), Command(tmp_path_factory.mktemp("tap"))
    history: dict[str, dict[str, Json]] = collections.defaultdict(dict)
    state, messages = None, ""
    with Sandbox(leads=LEADS, clock=clock.time) as api:
        config = {**api.config(), "emit_activate_version_messages": True}
        catalog = selecting(tap, "leads", "lead_changes")
        for number in range(7):
            clock.now += DAY * (1 + number / 7)
            if number:
                move(api, number)
            run = tap(config=config, clock=clock, catalog=catalog, state=state)
            assert run.code == 0, run.log
            for lead in api.leads.all():
                history[lead["id"]][lead["updated_at"]] = lead
            state, messages = run.state, messages + run.stdout
        clock.now += DAY
        api.leads.delete(7)
        full = tap(config=config, clock=clock, catalog=full_table(tap))
        assert full.messages[-2]["type"] == "ACTIVATE_VERSION"
        return Source(
            messages + full.stdout,
            api.leads.all(),
            {id_: list(found.values()) for id_, found in history.items()},
        )


@pytest.fixture(scope="module", params=DATABASES)
def loaded(
    request: pytest.FixtureRequest,
    source: Source,
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Loaded:
    """Load the runs into a database, and run the statements of the page there."""
    (loader,) = [it for it in LOADERS if it.name == request.param]
    if sys.version_info[:2] > loader.newest_python:
        pytest.skip(f"{loader.name} has no wheels for this Python")
    loader.install()
    folder: Path = tmp_path_factory.mktemp("loader")
    with temporary_schema(database_url, SCHEMA) as table:
        place = Place(folder, database_url, table)
        # target-postgres has these columns by default.
        loader.load(source.messages, place, add_metadata_columns=True)
        results = DATABASES[loader.name](place)
    versions = [newest(found) for found in source.history.values()]
    return Loaded(
        dict(zip(VIEWS, results[1:-3:2], strict=True)),
        (results[-3], results[-1]),
        source.leads if loader.removes else versions,
        source.history,
    )


def newest(versions: Rows) -> Json:
    """Return the newest version of a lead."""
    return max(versions, key=lambda lead: str(lead["updated_at"]))


def time_of(text: str | None) -> dt.datetime | None:
    """Return a time as the databases store it: in UTC, without a zone."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=None) if text else None


def part(lead: Json, name: str, key: str) -> str | None:
    """Return a part of a stage or owner, which a lead may not have."""
    return t.cast("str | None", (lead[name] or {}).get(key))


class Stay(t.NamedTuple):
    """A stay of a lead in a stage."""

    id: str
    stage_slug: str | None
    entered_at: dt.datetime | None
    left_at: dt.datetime | None
    entered_earlier: bool

    @property
    def days(self) -> float | None:
        """How long it was, if both ends are known."""
        if self.entered_earlier or not (self.left_at and self.entered_at):
            return None
        return (self.left_at - self.entered_at).total_seconds() / DAY


def stays(history: History) -> list[Stay]:
    """Return the stays that the versions show."""
    found = []
    for id_, versions in history.items():
        groups = [
            (slug, time_of(next(group)["updated_at"]))
            for slug, group in itertools.groupby(
                versions, lambda lead: part(lead, "current_stage", "slug")
            )
        ]
        ends = [*(entered for _, entered in groups[1:]), None]
        found += [
            Stay(id_, slug, entered, left, index == 0)
            for index, ((slug, entered), left) in enumerate(
                zip(groups, ends, strict=True)
            )
        ]
    return found


def test_every_block_is_tested() -> None:
    """The page has no blocks other than those that are tested here or in dbt."""
    found = collections.Counter(re.findall(r"^```(\w+)$", PAGE, re.MULTILINE))
    assert found == {"sql": len(VIEWS) + 1, "yaml": 2}


def test_live_leads_are_those_of_the_source(loaded: Loaded) -> None:
    """Leads that a full refresh has marked are not live."""
    rows = {row["id"]: row for row in loaded.views["live_leads"]}
    assert set(rows) == {lead["id"] for lead in loaded.live}
    for lead in loaded.live:
        row = rows[lead["id"]]
        for model, names in (("stage", ("id", "slug")), ("owner", ("id", "name"))):
            for name in names:
                parts = "current_stage" if model == "stage" else model
                assert row[f"{model}_{name}"] == part(lead, parts, name)
        for name in ("status", "score", "qualified", "source_platform"):
            assert row[name] == lead[name]


def test_the_funnel_counts_live_leads(loaded: Loaded) -> None:
    """Each stage has its leads, also by status; null is no stage."""
    expected: dict[str | None, collections.Counter[str]] = {}
    for lead in loaded.live:
        counts = expected.setdefault(
            part(lead, "current_stage", "slug"), collections.Counter()
        )
        counts.update(["leads", lead["status"]])
    rows = {row.pop("stage_slug"): row for row in map(dict, loaded.views["funnel"])}
    assert rows == {
        slug: {name: counts[name] for name in ("leads", "active", "won", "lost")}
        for slug, counts in expected.items()
    }


def test_intervals_are_the_stays_in_a_stage(loaded: Loaded) -> None:
    """A stay has its ends; the first one began earlier, and has no days."""
    rows = {
        Stay(
            row["id"],
            row["stage_slug"],
            time_of(row["entered_at"]),
            time_of(row["left_at"]),
            row["entered_earlier"],
        ): row["days"]
        for row in loaded.views["stage_intervals"]
    }
    expected = stays(loaded.history)
    assert set(rows) == set(expected)
    assert len(rows) == len(loaded.views["stage_intervals"]) > len(loaded.history)
    for stay, days in rows.items():
        found = None if days is None else float(days)
        assert found == pytest.approx(stay.days)
    assert any(stay.days for stay in expected)


def test_time_in_stage_is_of_complete_stays(loaded: Loaded) -> None:
    """Average and median leave out stays whose beginning or end is unknown."""
    found = stays(loaded.history)
    rows = {row["stage_slug"]: row for row in loaded.views["time_in_stage"]}
    assert set(rows) == {stay.stage_slug for stay in found}
    for slug, row in rows.items():
        same = [stay for stay in found if stay.stage_slug == slug]
        days = [stay.days for stay in same if stay.days is not None]
        assert (row["stays"], row["measured"]) == (len(same), len(days))
        if days:
            assert float(row["average_days"]) == pytest.approx(statistics.mean(days))
            assert float(row["median_days"]) == pytest.approx(statistics.median(days))
        else:
            assert row["average_days"] is row["median_days"] is None


def test_conversions_are_by_source_and_owner(loaded: Loaded) -> None:
    """Each source and owner has its leads, and how many of them were won and lost."""
    groups: dict[tuple[str, str | None], Rows] = collections.defaultdict(list)
    for lead in loaded.live:
        groups[lead["source_platform"], part(lead, "owner", "id")].append(lead)
    rows = {
        (row["source_platform"], row["owner_id"]): row
        for row in loaded.views["conversions"]
    }
    assert set(rows) == set(groups)
    for key, leads in groups.items():
        row, statuses = rows[key], [lead["status"] for lead in leads]
        won = statuses.count("won")
        assert row["owner_name"] == part(leads[0], "owner", "name")
        assert (row["leads"], row["won"]) == (len(leads), won)
        assert row["lost"] == statuses.count("lost")
        assert float(row["won_percent"]) == round(100 * won / len(leads), 1)


def test_wins_are_changes_to_won(loaded: Loaded) -> None:
    """A lead is won at the version that is won after one that is not."""
    expected = {
        (lead["id"], part(lead, "owner", "id"), time_of(lead["updated_at"]))
        for versions in loaded.history.values()
        for before, lead in itertools.pairwise(versions)
        if lead["status"] == "won" != before["status"]
    }
    rows = loaded.views["wins"]
    found = {(row["id"], row["owner_id"], time_of(row["won_at"])) for row in rows}
    assert found == expected
    assert len(rows) == len(expected) > 0


def test_the_history_of_deleted_leads_can_be_removed(loaded: Loaded) -> None:
    """All versions are there until then; after it, those of live leads."""
    before, after = (
        {(row["id"], time_of(row["updated_at"])) for row in rows}
        for rows in loaded.versions
    )
    everything = {
        (id_, time_of(lead["updated_at"]))
        for id_, versions in loaded.history.items()
        for lead in versions
    }
    live = {lead["id"] for lead in loaded.live}
    assert before == everything
    assert after == {key for key in everything if key[0] in live}
