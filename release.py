"""Prepare this folder for a release: `python3 release.py TAG OWNER/REPOSITORY`.

It fills in what only the publisher knows: the maintainer and the URLs of the project,
absolute links in the README, and the names in docs/meltanohub.yml. The release workflow
runs it on a fresh clone, and nobody commits the result. This file uses only the
standard library.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FORGE = "https://github.com"
KEYWORDS = "\nkeywords = "
URLS = "[project.urls]\n"
LINK = re.compile(r"(!?\[[^\]]*\])\((?!https?:|#)([^)]+)\)")
"""A relative link or picture of a Markdown page."""


def release_notes(changelog: str, version: str) -> str:
    """Return what the changelog says about a version.

    Raises:
        SystemExit: If it says nothing.
    """
    heading = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)\n"
    found = re.search(
        rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if not found or not found[1].strip():
        sys.exit(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)'")
    return f"{found[1].strip()}\n"


def check_tag(tag: str, version: str) -> None:
    """Check that a tag names the version.

    Raises:
        SystemExit: If it does not.
    """
    if tag != f"v{version}":
        sys.exit(f"pyproject.toml has version {version}, and the tag is {tag}")


def fill_in_project(project: str, repository: str) -> str:
    """Return pyproject.toml with the maintainer and the URLs of a repository."""
    owner, _, _ = repository.partition("/")
    maintainers = f'\nmaintainers = [{{ name = "{owner}" }}]'
    home = f"{FORGE}/{repository}"
    urls = {
        "Source": home,
        "Changelog": f"{home}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }
    lines = [f'{name} = "{url}"\n' for name, url in urls.items()]
    project = project.replace(KEYWORDS, f"{maintainers}{KEYWORDS}")
    return project.replace(URLS, "".join([URLS, *lines]))


def fill_in_links(readme: str, repository: str, tag: str) -> str:
    """Return the README with absolute links, since it is shown elsewhere, too."""

    def absolute(link: re.Match[str]) -> str:
        view = "raw" if link[1].startswith("!") else "blob"
        return f"{link[1]}({FORGE}/{repository}/{view}/{tag}/{link[2]})"

    return LINK.sub(absolute, readme)


def fill_in_hub(definition: str, repository: str, name: str) -> str:
    """Return the definition for MeltanoHub with the names of the publisher.

    The keys stay sorted, as the hub's lint requires. Its schema has no
    `requires_meltano`. The comments are about using the definition from a clone.
    """
    owner, _, _ = repository.partition("/")
    blocks = re.findall(r"(?m)^(\w+)(:.*\n(?:[ -].*\n)*)", definition)
    keys = dict(blocks) | {
        "pip_url": f": {name}\n",
        "repo": f": {FORGE}/{repository}\n",
        "variant": f": {owner.lower()}\n",
    }
    del keys["requires_meltano"]
    return "".join(f"{key}{text}" for key, text in sorted(keys.items()))


def main() -> None:
    """Change the files, and write the release notes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", help="such as v1.2.3")
    parser.add_argument("repository", help="OWNER/REPOSITORY")
    parser.add_argument("--notes", type=Path, help="where to write the release notes")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    check_tag(options.tag, project["version"])
    notes = release_notes(
        (ROOT / "CHANGELOG.md").read_text("utf-8"), project["version"]
    )
    changes = {
        "pyproject.toml": lambda text: fill_in_project(text, options.repository),
        "README.md": lambda text: fill_in_links(text, options.repository, options.tag),
        "docs/meltanohub.yml": lambda text: fill_in_hub(
            text, options.repository, project["name"]
        ),
    }
    for name, change in changes.items():
        path = ROOT / name
        path.write_text(change(path.read_text("utf-8")), encoding="utf-8")
    if options.notes:
        options.notes.write_text(notes, encoding="utf-8")


if __name__ == "__main__":
    main()
