"""Test that the documents match the code."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
import subprocess
import tomllib
import typing as t

import pytest
import yaml

from demo.pipeline import MELTANO, read_project
from demo.processes import environment_without
from tap_mega.config.schema import CREDENTIALS, SETTINGS
from tap_mega.config.validation import find_errors, find_unknown
from tests import tables
from tests.loaders import LOADERS, PLUGINS

if t.TYPE_CHECKING:
    from pathlib import Path

    from testing.harness import Command

VENDORS_DOCUMENT = "4f3013745ce492416dbfafd2195d70d0dc216654749db67592ea81cc6a4b0139"
"""The SHA-256 digest of the document on the vendor's page "List / search leads.

The page has it as YAML. The digest is that of the same content as JSON, sorted by key.
"""

PAGES = sorted({*tables.ROOT.glob("*.md"), *tables.ROOT.glob("docs/*.md")})
PYPROJECT = tomllib.loads((tables.ROOT / "pyproject.toml").read_text())
WORKFLOWS = tables.ROOT / ".github" / "workflows"


@pytest.mark.parametrize("path", tables.GENERATED, ids=lambda path: path.name)
def test_what_is_generated_is_current(path: Path) -> None:
    """The tables, columns and settings of a file are those of the code."""
    assert path.read_text(encoding="utf-8") == tables.GENERATED[path]()


def test_each_column_has_a_meaning() -> None:
    """Each property of the vendor's model has one, our column, and no other name."""
    names = [*tables.VENDOR["Lead"]["properties"], "rescued_data"]
    assert list(tables.MEANINGS) == names


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_each_link_has_a_target(page: Path) -> None:
    """Each relative link of a page names a file, and a heading in it if it says so."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)", target.read_text("utf-8"), re.MULTILINE)
        assert not anchor or anchor in map(slug, headings), link


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_the_env_example_is_valid(
    tap: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every line active, `.env.example` is a valid configuration."""
    lines = tables.DOTENV.read_text(encoding="utf-8").splitlines()
    pairs = [re.fullmatch(r"(?:# )?(TAP_MEGA_\w+)=(.*)", line) for line in lines]
    values = {pair[1]: pair[2] for pair in pairs if pair}
    names = {f"TAP_MEGA_{name.upper()}" for name in SETTINGS["properties"]}
    assert set(values) == names
    del values["TAP_MEGA_CUSTOMERS"]  # It replaces two others.
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    run = tap("--test=schema", "--config=ENV")
    assert (run.code, run.errors) == (0, [])


def test_the_sample_configuration_is_valid() -> None:
    """`sample_config.json` has the credentials only, so that it loads all leads."""
    sample = json.loads((tables.ROOT / "sample_config.json").read_text())
    assert set(sample) == set(CREDENTIALS)
    assert find_unknown(sample, SETTINGS) == []
    assert find_errors(dict(sample), SETTINGS) == []
    assert set(sample["auth_token"].removeprefix("mega_")) == {"0"}


def test_meltano_yml_requires_the_tested_meltano() -> None:
    """`meltano.yml` and `pyproject.toml` name the same versions of Meltano."""
    required = f"meltano{read_project()['requires_meltano']}"
    assert required in PYPROJECT["dependency-groups"]["demo"]


def test_the_plugin_definition_has_the_settings() -> None:
    """It starts with the required settings, and has options, secrets and defaults."""
    settings = {it["name"]: it for it in yaml.safe_load(tables.hub())["settings"]}
    assert list(settings)[:3] == [*CREDENTIALS, "customers"]
    assert settings["filters.lead_line"]["kind"] == "options"
    assert settings["filters.lead_line"]["options"] == [
        {"label": "Buyer", "value": "buyer"},
        {"label": "Seller", "value": "seller"},
    ]
    secrets = [name for name, it in settings.items() if it.get("sensitive")]
    assert secrets == ["auth_token", "customers"]
    for name, setting in SETTINGS["properties"].items():
        assert settings[name].get("value") == setting.get("default"), name


@pytest.mark.slow
def test_meltano_adds_the_plugin_to_another_project(tmp_path: Path) -> None:
    """`meltano add --from-ref` installs the tap of the clone beside the project."""
    (tmp_path / "tap-mega").symlink_to(tables.ROOT)
    project = tmp_path / "project"
    project.mkdir()
    (project / "meltano.yml").write_text("send_anonymous_usage_stats: false\n")
    run = subprocess.run(
        (MELTANO, "add", "tap-mega", "--from-ref", "../tap-mega/docs/meltanohub.yml"),
        cwd=project,
        env=environment_without(("MELTANO_", "TAP_MEGA_")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (project / ".meltano/extractors/tap-mega/venv/bin/tap-mega").exists()


def test_the_page_has_the_tested_loaders() -> None:
    """docs/loaders.md and `meltano.yml` name each loader in the tested version."""
    page = (tables.ROOT / "docs" / "loaders.md").read_text(encoding="utf-8")
    tested = [loader.requirement for loader in LOADERS]
    assert re.findall(r"(?m)^\| `([^`]+)` ", page) == tested
    assert set(PLUGINS) == {it.name for it in LOADERS if it.in_meltano}
    assert set(PYPROJECT["dependency-groups"]["loader"]) <= set(tested)


def test_each_plugin_has_its_constraints() -> None:
    """The tap and the loaders may need different versions of the SDK."""
    (tap,) = read_project()["plugins"]["extractors"]
    assert tap["pip_url"] == "-e . --constraint constraints.txt"
    constrained = {it.name for it in LOADERS if it.in_meltano and it.constrained}
    for name in constrained:
        assert PLUGINS[name]["pip_url"].endswith(
            " --constraint constraints-loaders.txt"
        )


def test_the_vendors_document_is_unmodified() -> None:
    """The package contains the vendor's OpenAPI document, which nobody corrects."""
    path = importlib.resources.files("tap_mega") / "openapi/openapi.json"
    document = json.loads(path.read_bytes())
    assert list(document["paths"]) == ["/api/agents/crm/leads"]
    content = json.dumps(document, sort_keys=True).encode()
    assert hashlib.sha256(content).hexdigest() == VENDORS_DOCUMENT


@pytest.mark.parametrize(
    "name", ["constraints.txt", "constraints-dbt.txt", "constraints-loaders.txt"]
)
def test_the_constraints_are_names_and_versions(name: str) -> None:
    """Each line is a name and a version, and `backoff` is not among them."""
    lines = (tables.ROOT / name).read_text().splitlines()
    assert lines == sorted(lines)
    assert all(re.fullmatch(r"[a-z0-9.-]+==[a-z0-9.]+", line) for line in lines)
    assert not [line for line in lines if line.startswith("backoff==")]


def read_workflow(name: str) -> t.Any:
    """Return the content of a workflow."""
    return yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))


def test_the_workflow_has_every_python() -> None:
    """The workflow runs on every Python of the classifiers."""
    workflow = read_workflow("test.yml")
    assert workflow["permissions"] == {"contents": "read"}
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix == {"python": tables.pythons()}


def test_only_what_is_not_supported_yet_may_fail() -> None:
    """A failure with a pre-release of the SDK or on macOS does not stop a change."""
    jobs = read_workflow("test.yml")["jobs"]
    assert [it for it in jobs if "continue-on-error" in jobs[it]] == [
        "macos",
        "next-sdk",
    ]


@pytest.mark.parametrize(
    "path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem
)
def test_each_action_is_pinned(path: Path) -> None:
    """Actions of others are pinned by commit, and keep no credentials on disk."""
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", it) for it in used)
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_a_release_is_tested_before_it_is_published() -> None:
    """Each job waits for the one before, and has only the permission that it needs."""
    jobs = read_workflow("release.yml")["jobs"]
    steps = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert "bash .ci/run" in steps
    chain = [(name, job.get("needs"), job["permissions"]) for name, job in jobs.items()]
    assert chain == [
        ("build", None, {"contents": "read"}),
        ("publish", "build", {"id-token": "write"}),
        ("notes", "publish", {"contents": "write"}),
    ]


def test_the_map_of_modules_matches_the_tree() -> None:
    """The map in CONTRIBUTING.md names every module, and no folder that is missing."""
    page = (tables.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = page.split("```")[1]
    modules = {it.name for it in (tables.ROOT / "tap_mega").rglob("[!_]*.py")}
    assert set(re.findall(r"\w+\.py", picture)) == modules
    for folder in re.findall(r"(\w+)/", picture):
        assert [*tables.ROOT.glob(folder), *tables.ROOT.glob(f"tap_mega/{folder}")]


def test_the_changelog_has_the_version() -> None:
    """The changelog has a section for the current version."""
    changelog = (tables.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {tables.PROJECT['version']} " in changelog


def test_each_guarantee_names_its_tests() -> None:
    """The page is short, and each of the eight promises links to a test."""
    page = (tables.ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    _, *promises = re.split(r"^## \d\. ", page, flags=re.MULTILINE)
    assert len(promises) == 8
    assert all("](../tests/test_" in promise for promise in promises)
    assert len(page.split()) <= 900


def test_the_documents_are_short() -> None:
    """A user can read all of them: README, the pages and CONTRIBUTING together."""
    pages = [it for it in PAGES if it.parent.name == "docs"]
    pages += [tables.README, tables.ROOT / "CONTRIBUTING.md"]
    words = sum(len(it.read_text(encoding="utf-8").split()) for it in pages)
    assert words <= 15_500
