"""Test that the models of `dbt/` give what the source's own history gives."""

from __future__ import annotations

import collections
import datetime as dt
import itertools
import json
import re
import statistics
import typing as t

import psycopg
import pytest
from psycopg.rows import dict_row

from demo.pipeline import postgres_variables, temporary_schema, with_scheme
from sandbox import Sandbox
from sandbox.people import STATUSES
from testing.clock import FakeClock
from testing.harness import Command, full_table, selecting
from tests.dbt_project import Dbt, query_duckdb
from tests.loaders import LOADERS, Place
from tests.tables import DBT, ROOT

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.leads import Leads
    from testing.harness import Json

    Key: t.TypeAlias = tuple[str, str]
    Rows: t.TypeAlias = list[Json]
    History: t.TypeAlias = dict[Key, Rows]

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
(REMOVAL,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MODELS = sorted(path.stem for path in DBT.glob("models/*.sql"))
LEADS = 60
SHARED = 20
"""How many leads of the other customer have the same `id`."""
DAY = 86400
SCHEMA = "mega_models_test"
HISTORY = "SELECT * FROM mega.lead_changes"
STATEMENTS = [
    *(f"SELECT * FROM mega_models.{name}" for name in MODELS),  # noqa: S608 - ours
    *("SELECT * FROM mega.leads", HISTORY, REMOVAL, HISTORY),
]


class Loaded(t.NamedTuple):
    """What a database has, and what it was loaded from."""

    dbt: Dbt
    """The package with this database."""
    models: dict[str, Rows]
    """The rows of each model and source, by its name."""
    versions: tuple[Rows, Rows]
    """The history, before and after that of deleted leads was removed."""
    live: Rows
    """The leads that the table should have."""
    everything: History
    """The versions of each lead that a run could see, by its key."""

    @property
    def history(self) -> History:
        """Those of the leads that the table should have."""
        return {key_of(lead): self.everything[key_of(lead)] for lead in self.live}


class Source(t.NamedTuple):
    """What the tap wrote in some runs, and what the API had during them."""

    messages: str
    leads: Rows
    history: History


def in_postgres(place: Place) -> list[Rows]:
    """Run the statements in PostgreSQL, and return the rows of each."""
    url = with_scheme("postgresql", place.database_url)
    results = []
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        for statement in STATEMENTS:
            text = re.sub(r"\bmega(_models)?\.", rf"{SCHEMA}\1.", statement)
            cursor = connection.execute(text.encode())
            results.append(cursor.fetchall() if cursor.description else [])
    return t.cast("list[Rows]", json.loads(json.dumps(results, default=str)))


def in_duckdb(place: Place) -> list[Rows]:
    """Run the statements in DuckDB, and return the rows of each."""
    return query_duckdb(place.folder / "leads.duckdb", STATEMENTS)


DATABASES: dict[str, Callable[[Place], list[Rows]]] = {
    "target-postgres": in_postgres,
    "target-duckdb": in_duckdb,
}


def move(leads: Leads, number: int) -> None:
    """Change stage and status of every third lead, and only the score of others."""
    found = sorted(leads.all(), key=lambda lead: str(lead["id"]))
    stages = [lead["current_stage"] for lead in found[:7]]
    for index, lead in enumerate(found):
        if index % 3 == number % 3:
            leads.update(
                lead["id"],
                current_stage=stages[(index + number) % len(stages)],
                status=STATUSES[(index + number) % len(STATUSES)],
            )
        elif index % 5 == number % 5:
            leads.update(lead["id"], score=number)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Run the tap seven times while leads move, and then a full refresh."""
    clock, tap = FakeClock(), Command(tmp_path_factory.mktemp("tap"))
    history: dict[Key, dict[str, Json]] = collections.defaultdict(dict)
    state, messages = None, ""
    with Sandbox(leads=[LEADS, 0], customers=2, clock=clock.time) as api:
        acme, bravo = (customer.leads for customer in api.customers)
        for lead in acme.all()[:SHARED]:
            bravo.add(id=lead["id"])
        settings = ("emit_activate_version_messages", "include_lead_changes")
        config = {**api.config(), **dict.fromkeys(settings, True)}
        catalog = selecting(tap, "leads", "lead_changes", config=config)
        for number in range(7):
            clock.now += DAY * (1 + number / 7)
            if number:
                move(acme, number)
                move(bravo, number + 1)
            run = tap(config=config, clock=clock, catalog=catalog, state=state)
            assert run.code == 0, run.log
            for lead in [*acme.all(), *bravo.all()]:
                history[key_of(lead)][lead["updated_at"]] = lead
            state, messages = run.state, messages + run.stdout
        clock.now += DAY
        acme.delete(7)
        full = tap(config=config, clock=clock, catalog=full_table(tap, config))
        assert full.messages[-2]["type"] == "ACTIVATE_VERSION"
        return Source(
            messages + full.stdout,
            [*acme.all(), *bravo.all()],
            {key: list(found.values()) for key, found in history.items()},
        )


@pytest.fixture(scope="module", params=DATABASES)
def loaded(
    request: pytest.FixtureRequest,
    source: Source,
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Loaded]:
    """Load the runs into a database, build the models, and run the statements."""
    (loader,) = [it for it in LOADERS if it.name == request.param]
    folder = tmp_path_factory.mktemp("loader")
    database = {
        "target-postgres": postgres_variables(database_url, SCHEMA),
        "target-duckdb": {
            "TARGET_DUCKDB_PATH": str(folder / "leads.duckdb"),
            "DBT_TARGET": "duckdb",
        },
    }[loader.name]
    dbt = Dbt(folder, {**database, "TAP_MEGA_INCLUDE_LEAD_CHANGES": "true"})
    loader.install()
    with (
        temporary_schema(database_url, f"{SCHEMA}_models"),
        temporary_schema(database_url, SCHEMA) as table,
    ):
        place = Place(folder, database_url, table)
        loader.load(source.messages, place)
        dbt.succeed("build")
        # Views on its tables must not stop a loader.
        loader.load(source.messages, place)
        results = DATABASES[loader.name](place)
        yield Loaded(
            dbt,
            dict(zip([*MODELS, "leads", "lead_changes"], results, strict=False)),
            (results[-3], results[-1]),
            source.leads if loader.removes else newest(source.history),
            source.history,
        )


def newest(history: History) -> Rows:
    """Return the newest version of each lead."""
    return [
        max(versions, key=lambda lead: str(lead["updated_at"]))
        for versions in history.values()
    ]


def time_of(text: str | None) -> dt.datetime | None:
    """Return a time as the databases store it: in UTC, without a zone."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=None) if text else None


def part(lead: Json, name: str, key: str) -> str | None:
    """Return a part of a stage or owner, which a lead may not have."""
    return t.cast("str | None", (lead[name] or {}).get(key))


def key_of(row: Json) -> Key:
    """Return the key of a lead."""
    return str(row["customer_id"]), str(row["id"])


def group(rows: Rows, key: Callable[[Json], tuple[t.Any, ...]]) -> dict[t.Any, Rows]:
    """Return rows by a key."""
    found: dict[t.Any, Rows] = collections.defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def by(rows: Rows, *names: str) -> dict[t.Any, Json]:
    """Return rows by the values of columns, of which each has another one."""
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows)
    return found


class Stay(t.NamedTuple):
    """A stay of a lead in a stage."""

    key: Key
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
    for key, versions in history.items():
        groups = [
            (slug, time_of(next(same)["updated_at"]))
            for slug, same in itertools.groupby(
                versions, lambda lead: part(lead, "current_stage", "slug")
            )
        ]
        ends = [*(entered for _, entered in groups[1:]), None]
        found += [
            Stay(key, slug, entered, left, index == 0)
            for index, ((slug, entered), left) in enumerate(
                zip(groups, ends, strict=True)
            )
        ]
    return found


def test_live_leads_are_those_of_the_source(loaded: Loaded) -> None:
    """Live leads have each column of the lead, and the parts of stage and owner."""
    rows = by(loaded.models["mega__live_leads"], "customer_id", "id")
    assert set(rows) == {key_of(lead) for lead in loaded.live}
    for lead in loaded.live:
        row = rows[key_of(lead)]
        assert row["stage_id"] == part(lead, "current_stage", "id")
        assert row["stage_slug"] == part(lead, "current_stage", "slug")
        assert row["stage_name"] == part(lead, "current_stage", "name")
        assert row["owner_id"] == part(lead, "owner", "id")
        assert row["owner_name"] == part(lead, "owner", "name")
        for name in ("status", "score", "qualified", "contact_email"):
            assert row[name] == lead[name]


def test_the_funnel_counts_live_leads(loaded: Loaded) -> None:
    """Each stage of a customer has its leads, also by status; null is no stage."""
    groups = group(
        loaded.live,
        lambda lead: (lead["customer_id"], part(lead, "current_stage", "slug")),
    )
    rows = by(loaded.models["mega__funnel"], "customer_id", "stage_slug")
    assert set(rows) == set(groups)
    for key, leads in groups.items():
        row, statuses = rows[key], [lead["status"] for lead in leads]
        assert row["stage_name"] == part(leads[0], "current_stage", "name")
        assert row["leads"] == len(leads)
        for status in ("active", "won", "lost"):
            assert row[status] == statuses.count(status)


def test_conversions_are_by_source_and_owner(loaded: Loaded) -> None:
    """Each source and owner has its leads, and how many of them were won and lost."""
    groups = group(
        loaded.live,
        lambda lead: (
            lead["customer_id"],
            lead["source_platform"],
            part(lead, "owner", "id"),
        ),
    )
    rows = by(
        loaded.models["mega__conversions"], "customer_id", "source_platform", "owner_id"
    )
    assert set(rows) == set(groups)
    for key, leads in groups.items():
        row, statuses = rows[key], [lead["status"] for lead in leads]
        won = statuses.count("won")
        assert row["owner_name"] == part(leads[0], "owner", "name")
        assert (row["leads"], row["won"]) == (len(leads), won)
        assert row["lost"] == statuses.count("lost")
        assert float(row["won_percent"]) == round(100 * won / len(leads), 1)


def test_intervals_are_the_stays_in_a_stage(loaded: Loaded) -> None:
    """A stay has its ends; the first one began earlier, and has no days."""
    rows = {
        Stay(
            key_of(row),
            row["stage_slug"],
            time_of(row["entered_at"]),
            time_of(row["left_at"]),
            row["entered_earlier"],
        ): row["days"]
        for row in loaded.models["mega__stage_intervals"]
    }
    expected = stays(loaded.history)
    assert set(rows) == set(expected)
    assert len(rows) == len(loaded.models["mega__stage_intervals"]) > len(loaded.live)
    for stay, days in rows.items():
        found = None if days is None else float(days)
        assert found == pytest.approx(stay.days)
    assert any(stay.days for stay in expected)


def test_time_in_stage_is_of_complete_stays(loaded: Loaded) -> None:
    """Average and median leave out stays whose beginning or end is unknown."""
    found = collections.defaultdict(list)
    for stay in stays(loaded.history):
        found[stay.key[0], stay.stage_slug].append(stay)
    rows = by(loaded.models["mega__time_in_stage"], "customer_id", "stage_slug")
    assert set(rows) == set(found)
    for key, row in rows.items():
        days = [stay.days for stay in found[key] if stay.days is not None]
        assert (row["stays"], row["measured"]) == (len(found[key]), len(days))
        if days:
            assert float(row["average_days"]) == pytest.approx(statistics.mean(days))
            assert float(row["median_days"]) == pytest.approx(statistics.median(days))
        else:
            assert row["average_days"] is row["median_days"] is None


def test_wins_are_changes_to_won(loaded: Loaded) -> None:
    """A lead is won at the version that is won after one that is not."""
    expected = {
        (*key, part(lead, "owner", "id"), time_of(lead["updated_at"]))
        for key, versions in loaded.history.items()
        for before, lead in itertools.pairwise(versions)
        if lead["status"] == "won" != before["status"]
    }
    rows = loaded.models["mega__wins"]
    found = {(*key_of(row), row["owner_id"], time_of(row["won_at"])) for row in rows}
    assert found == expected
    assert len(rows) == len(expected) > 0


def test_the_history_of_deleted_leads_can_be_removed(loaded: Loaded) -> None:
    """All versions are there until then; after it, those of live leads."""
    before, after = (
        {(*key_of(row), time_of(row["updated_at"])) for row in rows}
        for rows in loaded.versions
    )
    everything = {
        (*key, time_of(lead["updated_at"]))
        for key, versions in loaded.everything.items()
        for lead in versions
    }
    live = {key_of(lead) for lead in loaded.live}
    assert before == everything
    assert after == {key for key in everything if key[:2] in live}


def test_each_column_is_documented(loaded: Loaded) -> None:
    """Sources and models describe each column that they have, and no other."""
    manifest = loaded.dbt.artifact("manifest")
    described = {
        node["name"]: {
            it["name"] for it in node["columns"].values() if it["description"]
        }
        for node in [*manifest["nodes"].values(), *manifest["sources"].values()]
        if node["resource_type"] != "test"
    }
    assert described == {
        name: {column for column in rows[0] if not column.startswith("_sdc_")}
        for name, rows in loaded.models.items()
    }


def test_freshness_is_that_of_the_newest_row(loaded: Loaded) -> None:
    """`dbt source freshness` passes after a load."""
    loaded.dbt.succeed("source", "freshness")
    (result,) = loaded.dbt.artifact("sources")["results"]
    assert result["unique_id"] == "source.mega.mega.leads"
    assert 0 <= result["max_loaded_at_time_ago_in_s"] < 3600
