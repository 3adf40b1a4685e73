"""Test the README: what it generates, shows, and lets a person paste."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from demo.pipeline import MELTANO, read_project, temporary_schema
from demo.processes import environment_without
from sandbox import Sandbox
from tests import tables
from tests.tables import PROJECT, ROOT

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.pipeline import Table

SCHEMA = "mega"
"""The schema that the README's block loads into."""
LEADS = 345
CHANGED = 37
DELETED = 12
UV = Path(sys.executable).with_name("uv")
POSTGRES_TYPES = {
    "text": "text",
    "integer": "bigint",
    "boolean": "boolean",
    "object": "jsonb",
    "timestamp": "timestamp without time zone",
}
"""The types of the README's table, and those of the columns that it describes."""
README = tables.README.read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return the text of a section."""
    return README.partition(f"\n## {heading}")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


OWN_PROJECT = section("In a Meltano project of your own")
(PASTED,) = blocks(OWN_PROJECT, "yaml")
DOTENV, COMMANDS = blocks(OWN_PROJECT, "sh")


class Own(t.NamedTuple):
    """A Meltano project of one's own, beside a clone."""

    folder: Path
    sandbox: Sandbox
    table: Table
    rows: tuple[list[t.Any], list[t.Any]]
    """The rows after each of two runs, with changed and deleted leads in between."""
    deleted: set[str]
    """The leads that were deleted in between."""
    checked: str
    """The log of the check of the credentials."""

    def run(self, command: str) -> str:
        """Run a command in the project, and return its log."""
        return run_in(self.folder, command)


def run_in(folder: Path, command: str) -> str:
    """Run a command of the README in a folder, and return its log."""
    foreign = ("MELTANO_", "TAP_MEGA_", "TARGET_", "PG", "PYTHON")
    environment = {
        **environment_without(foreign),
        "PATH": f"{MELTANO.parent}:{environment_without(())['PATH']}",
        "XDG_STATE_HOME": str(folder),  # Meltano keeps its logs there.
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "NO_PROXY": "127.0.0.1",
    }
    run = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stderr


def make_project(parent: Path, api_url: str, pip_url: str = "-e ../tap-mega") -> Path:
    """Make a project beside a clone, and paste the README's block into it."""
    (parent / "tap-mega").symlink_to(ROOT)
    run_in(parent, "meltano init project")
    block = PASTED.replace("-e ../tap-mega", pip_url)
    more = f"    config:\n      api_url: {api_url}\n      full_refresh_min_age_days: 0"
    block = block.replace("    config:", more, 1)
    with (parent / "project" / "meltano.yml").open("a", encoding="utf-8") as file:
        file.write(block)
    return parent / "project"


def write_dotenv(folder: Path, values: dict[str, t.Any]) -> None:
    """Write the README's `.env` with values in place of its examples."""
    names = re.findall(r"(?m)^(\w+)=", DOTENV)
    lines = [f"{name}='{values[name]}'\n" for name in names]
    (folder / ".env").write_text("".join(lines), encoding="utf-8")


def variables(sandbox: Sandbox, database_url: str) -> dict[str, t.Any]:
    """Return the values of the README's variables."""
    database = conninfo_to_dict(database_url)
    return {
        "TAP_MEGA_AUTH_TOKEN": sandbox.config()["auth_token"],
        "TAP_MEGA_CUSTOMER_ID": sandbox.config()["customer_id"],
        "TARGET_POSTGRES_HOST": database["host"],
        "TARGET_POSTGRES_PORT": database["port"],
        "TARGET_POSTGRES_DATABASE": database["dbname"],
        "TARGET_POSTGRES_USER": database["user"],
        "TARGET_POSTGRES_PASSWORD": database["password"],
        "UV_SYSTEM_CERTS": "true",
    }


@pytest.fixture(scope="module")
def own(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """Do all that the README says, then change and delete leads, and run again."""
    install, check, load = COMMANDS.splitlines()
    with (
        Sandbox(leads=LEADS) as sandbox,
        temporary_schema(database_url, SCHEMA) as table,
    ):
        folder = make_project(
            tmp_path_factory.mktemp("own"), sandbox.config()["api_url"]
        )
        write_dotenv(folder, variables(sandbox, database_url))
        run_in(folder, install)
        checked = run_in(folder, check)
        run_in(folder, load)
        first = table.select("SELECT * FROM leads")
        sandbox.leads.change(CHANGED)
        deleted = set(sandbox.leads.delete(DELETED))
        run_in(folder, load)
        second = table.select("SELECT * FROM leads")
        yield Own(folder, sandbox, table, (first, second), deleted, checked)


def test_the_version_is_current() -> None:
    """The places where it is are known."""
    assert README.count(PROJECT["version"]) == 4


def test_it_is_short() -> None:
    """A person reads it to the end."""
    assert len(README.splitlines()) <= 150


def test_the_own_project_comes_before_this_folder() -> None:
    """The first way to load one's own leads is a project of one's own."""
    headings = re.findall(r"(?m)^## (.*)", README)
    assert headings[1:3] == ["In a Meltano project of your own", "From this folder"]


def test_the_block_has_the_configuration_of_this_folder() -> None:
    """The pasted tap, loader, job and schedule are those of `meltano.yml`."""
    pasted, ours = yaml.safe_load(PASTED), read_project()
    for kind, plugins in pasted["plugins"].items():
        for plugin in plugins:
            named = {it["name"]: it for it in ours["plugins"][kind]}
            same = named[plugin["name"]]
            assert plugin["namespace"] == same["namespace"]
            assert plugin["config"].items() <= same["config"].items()
            assert set(plugin["capabilities"]) <= set(same["capabilities"])
            settings = {it["name"]: it for it in same["settings"]}
            for setting in plugin["settings"]:
                assert setting.items() <= settings[setting["name"]].items()
                secret = settings[setting["name"]].get("sensitive")
                assert setting.get("sensitive") == secret
    assert pasted["jobs"] == ours["jobs"]
    assert pasted["schedules"] == ours["schedules"]


def test_the_env_of_the_readme_is_in_the_example() -> None:
    """`.env.example` has every variable that the README names."""
    active = re.findall(r"(?m)^(\w+)=", tables.DOTENV.read_text(encoding="utf-8"))
    named = re.findall(r"(?m)^(\w+)=", DOTENV)
    assert active == [it for it in named if not it.startswith("UV_")]


def test_the_check_reads_the_env(own: Own) -> None:
    """The check works with the `.env` that the README has just written."""
    assert "The credentials are valid" in own.checked
    assert f"reads {LEADS} leads" in own.checked


def test_the_first_run_loads_all_leads(own: Own) -> None:
    """Every lead has a row with a version, in the schema of the block."""
    rows, _ = own.rows
    assert len(rows) == LEADS
    assert all(row["_sdc_table_version"] for row in rows)


def test_the_next_run_loads_the_changes(own: Own) -> None:
    """Each lead that the API lists has a row in its newest version."""
    _, rows = own.rows
    stored = {row["id"]: row for row in rows}
    for lead in own.sandbox.leads.all():
        assert stored[lead["id"]]["custom_fields"] == lead["custom_fields"]
        assert stored[lead["id"]]["status"] == lead["status"]
    assert all(row["_sdc_table_version"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "release"])
def test_the_block_installs_a_wheel_and_a_release(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's other values of `pip_url` install the tap, and it runs."""
    dist = tmp_path / "dist"
    subprocess.run(
        [UV, "build", "--quiet", "--wheel", "--out-dir", dist, ROOT], check=True
    )
    (wheel,) = dist.glob("*.whl")
    shutil.copy(wheel, tmp_path)
    monkeypatch.setenv("UV_FIND_LINKS", str(dist))  # in place of a package index
    named = {
        "wheel": re.search(r"`(\.\./\S+\.whl)`", OWN_PROJECT),
        "release": re.search(r"`(tap-mega==\S+)`", OWN_PROJECT),
    }[kind]
    assert named is not None
    with Sandbox(leads=5) as sandbox:
        folder = make_project(tmp_path, sandbox.config()["api_url"], named[1])
        write_dotenv(folder, variables(sandbox, "postgresql://u:p@h:1/d"))
        run_in(folder, "meltano install tap-mega")
        assert "credentials are valid" in run_in(folder, COMMANDS.splitlines()[1])


@pytest.mark.slow
def test_it_describes_the_table(own: Own) -> None:
    """The columns have the types of the README."""
    found = own.table.select(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = 'leads'",
        SCHEMA,
    )
    types = {it["column_name"]: it["data_type"] for it in found}
    for name, kind, _ in tables.columns():
        word = re.split(r"[ ,]", kind)[0]
        assert types[name.strip("`")] == POSTGRES_TYPES[word]


def test_its_queries_count_the_leads(own: Own) -> None:
    """The share of won leads is right, and the active leads are among the others."""
    (queries,) = blocks(README, "sql")
    sources, waiting = queries.split(";")[:2]
    leads = own.table.select("SELECT * FROM leads WHERE _sdc_deleted_at IS NULL")
    by_source, by_owner = own.table.select(sources), own.table.select(waiting)
    for row in by_source:
        same = [it for it in leads if it["source_platform"] == row["source_platform"]]
        won = sum(it["status"] == "won" for it in same)
        assert row["leads"] == len(same)
        assert float(row["won_percent"]) == round(100 * won / len(same), 1)
    active = sum(it["status"] == "active" for it in leads)
    assert sum(row["leads"] for row in by_source) == len(leads)
    assert 0 < sum(row["leads"] for row in by_owner) <= active


def test_the_sample_row_is_a_lead() -> None:
    """It has a value of the right kind for each column and for each of its parts."""
    assert list(tables.SAMPLE) == list(tables.MEANINGS)
    for name, parts in (("current_stage", "Stage"), ("owner", "Owner")):
        assert list(tables.SAMPLE[name]) == list(tables.VENDOR[parts]["properties"])


def test_what_a_person_makes_is_ignored() -> None:
    """Neither git nor Docker takes files with credentials, leads or state."""
    pages = [README, *(it.read_text("utf-8") for it in ROOT.glob("docs/*.md"))]
    code = "\n".join(re.findall(r"(?ms)^```\w*\n(.*?)^```", "\n".join(pages)))
    made = re.findall(r"(?:>>?|touch|cp \S+) (\S+\.(?:jsonl?|txt|log|env))(?=\s)", code)
    names = {Path(it).name for it in made}
    names |= {".env", "customers.txt", "output/", "warehouse.duckdb"}
    assert {"config.json", "state.json", "states.jsonl"} <= names
    git = shutil.which("git") or "git"
    ignored = subprocess.check_output(
        (git, "check-ignore", *names), cwd=ROOT, text=True
    )
    assert set(ignored.split()) == names
    page = (ROOT / "docs" / "container.md").read_text("utf-8")
    patterns = [".env", *page.partition("```\n.env\n")[2].partition("```")[0].split()]
    for name in names:
        assert [it for it in patterns if fnmatch.fnmatch(name.rstrip("/"), it)], name


def test_rows_of_deleted_leads_are_marked(own: Own) -> None:
    """The same job marks the rows of leads that are gone, and of no others."""
    _, rows = own.rows
    assert {row["id"] for row in rows if row["_sdc_deleted_at"]} == own.deleted
