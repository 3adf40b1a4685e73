"""Test what the release workflow fills in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import typing as t

import pytest
import yaml

import release
from tests.tables import PROJECT, ROOT
from tests.test_documents import HUB_REQUIRED

if t.TYPE_CHECKING:
    from pathlib import Path

VERSION = PROJECT["version"]
FILES = ("release.py", "pyproject.toml", "README.md", "CHANGELOG.md")
HUB = "docs/meltanohub.yml"
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
    """URLs, links and the definition for the hub name the repository."""
    assert prepare(clone, f"v{VERSION}").returncode == 0
    project = tomllib.loads((clone / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Source"] == "https://github.com/Example/tap"
    assert project["urls"].items() >= PROJECT["urls"].items()
    definition = yaml.safe_load((clone / HUB).read_text())
    assert definition["pip_url"] == PROJECT["name"]
    assert definition["repo"] == "https://github.com/Example/tap"
    assert definition["variant"] == "example"
    assert set(definition) >= HUB_REQUIRED
    readme = (clone / "README.md").read_text()
    assert f"](https://github.com/Example/tap/blob/v{VERSION}/LICENSE)" in readme
    assert "](docs/" not in readme
    assert (clone / "notes.md").read_text().startswith("The first version.")


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
