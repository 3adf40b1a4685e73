"""Test that each block of docs/recipes.md does what the page says."""

from __future__ import annotations

import collections
import hashlib
import json
import re
import subprocess
import sys
import typing as t

import pytest
import yaml

from demo.pipeline import Pipeline, read_project, temporary_schema
from sandbox import NO_LIMITS, Fault, Sandbox
from testing.harness import stream_of
from tests.tables import ROOT

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testing.clock import FakeClock
    from testing.harness import Command, Run, Sync

    Json: t.TypeAlias = dict[str, t.Any]

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SALT = "0b1e$5ca1ab1e"
SALTED = {"stream_map_config": {"hash_salt": SALT}}
ADS = ("google_ads", "meta_ads")
SCHEMA = "mega_recipes"
COLUMNS = {
    "custom_field_budget": "numeric",
    "custom_field_bedrooms": "bigint",
    "custom_field_pre_approved": "boolean",
    "custom_field_area": "text",
}


def blocks(heading: str, language: str) -> list[str]:
    """Return the code blocks under a heading of the page."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (section,) = [it for it in sections if it.startswith(f"{heading}\n")]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def recipe(heading: str, number: int = 0) -> Json:
    """Return a JSON block."""
    return t.cast("Json", json.loads(blocks(heading, "json")[number]))


def salted_hash(text: str | None) -> str | None:
    """Return the expected hash of a text."""
    return text and hashlib.sha256(f"{SALT}{text}".encode()).hexdigest()


def email_hash(lead: Json) -> str | None:
    """Return the expected hash of the e-mail address of a lead."""
    return salted_hash(lead["contact_email"] and lead["contact_email"].strip().lower())


def phone_hash(lead: Json) -> str | None:
    """Return the expected hash of the phone number of a lead."""
    phone = lead["contact_phone"]
    return salted_hash(phone and re.sub(r"\D", "", phone)[-10:])


def check_stream(run: Run, name: str) -> None:
    """Check that SCHEMA, RECORD and ACTIVATE_VERSION all belong to this stream."""
    assert {it["stream"] for it in run.messages if it["type"] != "STATE"} == {name}


def deselect(catalog: Json) -> Json:
    """Return the catalog with the entries that the page shows."""
    shown = json.loads(blocks("Drop a field", "json")[0])
    entries = stream_of(catalog)["metadata"]
    for new in shown:
        (old,) = [it for it in entries if it["breadcrumb"] == new["breadcrumb"]]
        old["metadata"] |= new["metadata"]
    return catalog


def test_every_block_is_tested() -> None:
    """The page has no blocks other than those that are tested here."""
    found = collections.Counter(re.findall(r"^```(\w+)$", PAGE, re.MULTILINE))
    assert found == {"json": 8, "sh": 1, "yaml": 1}


def test_a_deselected_field_is_absent(
    tap: Command, sandbox: Sandbox, sync: Sync
) -> None:
    """Schema and records lack a deselected field, and a deselected nested field."""
    catalog = deselect(json.loads(tap("--discover").stdout))
    run = sync(catalog=catalog)
    properties = run.schema["schema"]["properties"]
    assert "contact_name" not in properties
    assert set(properties["owner"]["properties"]) == {"id", "role_name"}
    leads = sandbox.leads.all()
    for lead in leads:
        del lead["contact_name"]
        (lead["owner"] or {}).pop("name", None)
    assert run.leads == leads


def test_a_dropped_field_is_absent(sandbox: Sandbox, sync: Sync) -> None:
    """A stream map drops fields from schema and records, and adds the owner's id."""
    run = sync(**recipe("Drop a field", 1))
    properties = run.schema["schema"]["properties"]
    assert not {"contact_name", "owner"} & set(properties)
    assert properties["owner_id"] == {"type": ["string", "null"]}
    leads = sandbox.leads.all()
    for lead in leads:
        del lead["contact_name"]
        lead["owner_id"] = (lead.pop("owner") or {"id": None})["id"]
    assert run.leads == leads


def test_an_excluded_custom_field_is_absent(sandbox: Sandbox, sync: Sync) -> None:
    """An excluded field is not in `custom_fields`, and the others are."""
    config = recipe("Drop a field", 2)
    run = sync(**config)
    leads = sandbox.leads.all()
    for lead in leads:
        for slug in config["exclude_custom_fields"]:
            lead["custom_fields"].pop(slug, None)
    assert run.leads == leads


def test_email_and_phone_are_hashed(sandbox: Sandbox, sync: Sync) -> None:
    """A hash is that of salt and value, null stays null, and no address leaves."""
    run = sync(**recipe("Hash e-mail and phone"), **SALTED)
    properties = run.schema["schema"]["properties"]
    leads = sandbox.leads.all()
    for name, hashed in (("contact_email", email_hash), ("contact_phone", phone_hash)):
        assert name not in properties
        assert properties[f"{name}_hash"] == {"type": ["string", "null"]}
        assert not any(name in record for record in run.records)
        hashes = [record[f"{name}_hash"] for record in run.records]
        assert hashes == [hashed(lead) for lead in leads]
        assert None in hashes
        assert not [lead for lead in leads if lead[name] and lead[name] in run.stdout]
    assert SALT not in run.stdout + run.log


def test_all_notations_have_the_same_hash(sandbox: Sandbox, sync: Sync) -> None:
    """Case, spaces and the notation of a phone number do not change a hash."""
    sandbox.leads.add(1, contact_email=" Ana@Example.COM", contact_phone="4155550100")
    sandbox.leads.add(
        1, contact_email="ana@example.com", contact_phone="+1 (415) 555-0100"
    )
    first, second = sync(**recipe("Hash e-mail and phone"), **SALTED).records[-2:]
    for name in ("contact_email_hash", "contact_phone_hash"):
        assert first[name] == second[name]


def test_the_salt_comes_from_the_environment(
    tap: Command, sandbox: Sandbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's command generates a salt, and the tap reads it from the variable."""
    program, option, code = blocks("Hash e-mail and phone", "sh")[0].split(" ", 2)
    assert (program, option) == ("python3", "-c")
    made = subprocess.check_output([sys.executable, "-c", code.strip()[1:-1]])
    monkeypatch.setenv("TAP_MEGA_STREAM_MAP_CONFIG", made.decode())
    salt = json.loads(made)["hash_salt"]
    config = {**sandbox.config(), **recipe("Hash e-mail and phone")}
    run = tap("--config=ENV", config=config, clock=clock)
    lead = next(it for it in sandbox.leads.all() if it["contact_email"])
    (record,) = [it for it in run.records if it["id"] == lead["id"]]
    text = f"{salt}{lead['contact_email'].lower()}"
    assert record["contact_email_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert len(salt) >= 64


def test_without_a_salt_no_address_leaves(sync: Sync) -> None:
    """Without a salt, the run ends at the first lead and names the settings."""
    run = sync(**recipe("Hash e-mail and phone"))
    assert run.code == 1
    assert len(run.errors) == 1
    assert "'stream_maps' and 'stream_map_config': a name is missing" in run.errors[0]
    assert not run.records


def test_an_empty_salt_gives_no_hash(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """An empty salt gives null, because an unsalted hash can be looked up."""
    config = {**sandbox.config(), **recipe("Hash e-mail and phone")}
    config["stream_map_config"] = {"hash_salt": ""}
    run = tap(config=config, clock=clock)
    assert run.code == 0
    assert {it["contact_email_hash"] for it in run.records} == {None}
    assert {it["contact_phone_hash"] for it in run.records} == {None}


def test_absent_properties_break_no_recipe(sandbox: Sandbox, sync: Sync) -> None:
    """The recipes work for leads that lack properties which are not required."""
    names = ("contact_email", "contact_phone", "owner", "custom_fields")
    lead = {k: v for k, v in sandbox.leads.all()[0].items() if k not in names}
    page = {"leads": [lead], "next_cursor": None, "total": 1}
    sandbox.script(Fault("body", body=json.dumps(page)))
    maps = {**hash_maps(), **recipe("Drop a field", 1)["stream_maps"]["leads"]}
    columns = recipe("Custom fields in columns")
    (record,) = sync(**SALTED, **columns, stream_maps={"leads": maps}).records
    assert record["contact_email_hash"] is None
    assert record["owner_id"] is None


def hash_maps() -> Json:
    """Return the stream maps that hash e-mail and phone."""
    return t.cast("Json", recipe("Hash e-mail and phone")["stream_maps"]["leads"])


def test_a_filter_of_the_api_saves_requests(sandbox: Sandbox, sync: Sync) -> None:
    """A filter of the API selects the matching leads, and saves requests."""
    run = sync(**recipe("Keep only some leads"))
    assert run.leads == [it for it in sandbox.leads.all() if it["status"] == "won"]
    assert len(sandbox.requests) == 1


def test_a_filter_of_the_stream_map_is_exact(sandbox: Sandbox, sync: Sync) -> None:
    """A `__filter__` selects the matching leads, saves no requests, and is logged."""
    run = sync(**recipe("Keep only some leads", 1))
    matching = [it for it in sandbox.leads.all() if it["source_platform"] in ADS]
    assert 0 < len(matching) < 250
    assert run.leads == matching
    assert len(sandbox.requests) == 3
    assert "('google_ads', 'meta_ads')" in run.log


@pytest.mark.parametrize(
    ("number", "change"),
    [(0, {"status": "lost"}), (1, {"source_platform": "direct"})],
    ids=["filters", "__filter__"],
)
def test_a_lead_that_stops_matching_is_not_read(
    sandbox: Sandbox, clock: FakeClock, sync: Sync, number: int, change: Json
) -> None:
    """The next sync does not read a lead that stopped matching: its row stays."""
    config: Json = {**recipe("Keep only some leads", number)}
    first = sync(**config)
    clock.sleep(600)
    sandbox.leads.update(first.records[0]["id"], **change)
    second = sync(state=first.state, **config)
    assert first.records[0]["id"] not in [it["id"] for it in second.records]


def test_a_renamed_stream_keeps_its_bookmark(
    sandbox: Sandbox, clock: FakeClock, sync: Sync
) -> None:
    """Messages have the new name, the state has the old, and the next run resumes."""
    config: Json = {**recipe("Rename the stream")}
    first = sync(**config)
    check_stream(first, "crm_leads")
    assert first.leads == sandbox.leads.all()
    assert list(first.state["bookmarks"]) == ["leads"]
    clock.sleep(600)
    (changed,) = sandbox.leads.change(1)
    second = sync(state=first.state, **config)
    check_stream(second, "crm_leads")
    assert second.records[-1]["id"] == changed
    assert len(second.records) < 10


class Loaded(t.NamedTuple):
    """Hold what a run with all recipes of `meltano.yml` loaded into PostgreSQL."""

    leads: list[Json]
    """The leads that should be loaded."""
    rows: list[Json]
    types: dict[str, str]
    """The type of each column."""


@pytest.fixture(scope="module")
def loaded(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loaded]:
    """Run `meltano run` with the page's `meltano.yml`."""
    with (
        Sandbox(leads=345, limits=NO_LIMITS) as sandbox,
        temporary_schema(database_url, SCHEMA) as table,
    ):
        folder, project = map(tmp_path_factory.mktemp, ("meltano", "project"))
        write_project(project / "meltano.yml")
        config = {
            **sandbox.config(),
            "stream_map_config": json.dumps(SALTED["stream_map_config"]),
        }
        pipeline = Pipeline(folder, config, database_url, SCHEMA, project)
        Pipeline(tmp_path_factory.mktemp("meltano"), {}, database_url, SCHEMA).install()
        pipeline.run()
        columns = table.select(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = 'crm_leads'",
            SCHEMA,
        )
        yield Loaded(
            [it for it in sandbox.leads.all() if it["source_platform"] in ADS],
            table.select("SELECT * FROM crm_leads ORDER BY updated_at, id"),
            {it["column_name"]: it["data_type"] for it in columns},
        )


def write_project(path: Path) -> None:
    """Write our `meltano.yml` with the page's additions and a deliberate mistake."""
    project = read_project()
    shown = yaml.safe_load(blocks("All of it in meltano.yml", "yaml")[0])
    (added,) = shown["plugins"]["extractors"]
    added["config"]["stream_maps"]["leads"]["customer_id"] = None
    (plugin,) = project["plugins"]["extractors"]
    plugin |= added
    path.write_text(yaml.safe_dump(project), encoding="utf-8")


def test_the_meltano_yml_recipe_hides_fields(loaded: Loaded) -> None:
    """Addresses are hashes, dropped fields have no column, and a nested one is gone."""
    assert [row["id"] for row in loaded.rows] == [lead["id"] for lead in loaded.leads]
    hashes = [row["contact_email_hash"] for row in loaded.rows]
    assert hashes == [email_hash(lead) for lead in loaded.leads]
    assert not {"contact_email", "contact_phone", "contact_name"} & set(loaded.types)
    assert not any("name" in (row["owner"] or {}) for row in loaded.rows)


def test_a_null_in_meltano_yml_drops_nothing(loaded: Loaded) -> None:
    """Meltano treats null as not set, so a field needs `__NULL__` to be dropped."""
    assert {row["customer_id"] for row in loaded.rows} == {
        lead["customer_id"] for lead in loaded.leads
    }


def test_custom_fields_have_typed_columns(loaded: Loaded) -> None:
    """Numbers sent as text become numbers; other text and absent values become null."""
    assert COLUMNS.items() <= loaded.types.items()
    for row, lead in zip(loaded.rows, loaded.leads, strict=True):
        fields = lead["custom_fields"]
        assert row["custom_fields"] == fields
        assert row["custom_field_budget"] == budget(lead)
        for slug in ("bedrooms", "pre_approved", "area"):
            assert row[f"custom_field_{slug}"] == fields.get(slug)
    assert {type(it["custom_fields"].get("budget")) for it in loaded.leads} == {
        *(str, int, float, type(None))
    }


def budget(lead: Json) -> float | None:
    """Return a budget as a number, or None if it is not a number."""
    written = lead["custom_fields"].get("budget")
    return None if written in {None, "1,2 Mio €"} else float(written)
