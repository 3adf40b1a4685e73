"""Test what the release workflow fills in."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
import sys
import tomllib
import typing as t

import jsonschema
import pytest
import yaml
import yamllint.config
import yamllint.linter

import release
from tests.tables import PROJECT, ROOT

if t.TYPE_CHECKING:
    from pathlib import Path

VERSION = PROJECT["version"]
FILES = ("release.py", "pyproject.toml", "README.md", "CHANGELOG.md")
HUB = "docs/meltanohub.yml"
HUB_LINT = """\
extends: default
rules:
  braces: {forbid: non-empty}
  document-start: {present: false}
  indentation: {indent-sequences: false, spaces: 2}
  key-ordering: enable
  line-length: disable
  trailing-spaces: disable
  truthy: disable
"""
"""https://github.com/meltano/hub/blob/main/.yamllint.yaml"""
HUB_REQUIRED = {"name", "namespace", "quality", "variant"}
HUB_KEYS = HUB_REQUIRED | {
    *("capabilities", "description", "domain_url", "executable", "keywords", "label"),
    *("maintenance_status", "pip_url", "repo", "select", "settings"),
    *("settings_group_validation", "supported_python_versions"),
}
"""Those that we use, of the keys that the hub's schemas allow."""
CHANGELOG = """\
# Changelog

## Unreleased

- Not yet.

## 1.10.0 (2026-02-01)

### Added

- Ten.

## 1.1.0 (2026-01-01)

- One.
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the files that change."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / HUB, tmp_path / HUB)
    return tmp_path


def prepare(clone: Path, tag: str) -> subprocess.CompletedProcess[str]:
    """Run the command as the workflow does."""
    notes = f"--notes={clone / 'notes.md'}"
    return subprocess.run(
        [sys.executable, clone / "release.py", tag, "Example/tap", notes],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("version", "notes"), [("1.10.0", "### Added\n\n- Ten.\n"), ("1.1.0", "- One.\n")]
)
def test_the_notes_are_those_of_the_version(version: str, notes: str) -> None:
    """They are the section of the changelog without its heading."""
    assert release.release_notes(CHANGELOG, version) == notes


@pytest.mark.parametrize("version", ["1.1", "1.1.1", "Unreleased", "110.0"])
def test_a_version_without_notes_is_not_released(version: str) -> None:
    """The line names the heading that is missing."""
    with pytest.raises(SystemExit, match="no section '## "):
        release.release_notes(CHANGELOG, version)


def test_the_publisher_is_filled_in(clone: Path) -> None:
    """Maintainer, URLs, links and the definition for the hub name the repository."""
    assert prepare(clone, f"v{VERSION}").returncode == 0
    project = tomllib.loads((clone / "pyproject.toml").read_text())["project"]
    assert project["maintainers"] == [{"name": "Example"}]
    assert project["urls"]["Source"] == "https://github.com/Example/tap"
    assert project["urls"].items() >= PROJECT["urls"].items()
    definition = yaml.safe_load((clone / HUB).read_text())
    assert definition["pip_url"] == PROJECT["name"]
    assert definition["repo"] == "https://github.com/Example/tap"
    assert definition["variant"] == "example"
    readme = (clone / "README.md").read_text()
    assert f"](https://github.com/Example/tap/blob/v{VERSION}/LICENSE)" in readme
    assert "](docs/" not in readme
    assert (clone / "notes.md").read_text().startswith("The first version.")


def test_the_hub_takes_the_definition(clone: Path) -> None:
    """The hub's lint finds nothing, and its schema knows each key and value."""
    assert prepare(clone, f"v{VERSION}").returncode == 0
    text = (clone / HUB).read_text()
    rules = yamllint.config.YamlLintConfig(HUB_LINT)
    assert list(yamllint.linter.run(text, rules)) == []
    definition = yaml.safe_load(text)
    assert HUB_REQUIRED <= set(definition) <= HUB_KEYS
    # Meltano has the hub's schemas of settings and capabilities.
    plugin = {key: definition[key] for key in ("name", "capabilities", "settings")}
    project = {"plugins": {"extractors": [plugin]}}
    schema = importlib.resources.files("meltano") / "schemas" / "meltano.schema.json"
    jsonschema.validate(project, json.loads(schema.read_text(encoding="utf-8")))


def test_links_are_made_absolute() -> None:
    """Pictures need the file itself. What is absolute already stays as it is."""
    page = "![a](docs/a.svg) [b](docs/b.md#c) [d](#d) [e](https://e.example)"
    assert release.fill_in_links(page, "o/r", "v1") == (
        "![a](https://github.com/o/r/raw/v1/docs/a.svg) "
        "[b](https://github.com/o/r/blob/v1/docs/b.md#c) [d](#d) [e](https://e.example)"
    )


def test_a_tag_that_is_not_the_version_stops_the_release(clone: Path) -> None:
    """Nothing changes, and one line says what differs."""
    before = {name: (clone / name).read_bytes() for name in (*FILES, HUB)}
    done = prepare(clone, "v9.9.9")
    assert done.returncode == 1
    assert (
        done.stderr == f"pyproject.toml has version {VERSION}, and the tag is v9.9.9\n"
    )
    assert {name: (clone / name).read_bytes() for name in (*FILES, HUB)} == before
