"""The private names of the SDK that the tap uses are listed, and still exist."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from singer_sdk import plugin_base, tap_base
from singer_sdk.contrib import msgspec
from singer_sdk.singerlib.encoding import base, simple
from singer_sdk.streams import core, rest

from tests.tables import ROOT

SDK = (plugin_base, tap_base, core, rest, msgspec, base, simple)
"""Modules of the SDK whose classes the tap's own classes extend."""

EXTENDING = (
    "streams.py",
    "tap.py",
    "catalog.py",
    "cli/command.py",
    "records/writer.py",
)

PRIVATE = re.compile(r"\b_[a-z]\w*")
LISTED = re.compile(r"^  - ((?:`_\w+`(?:, | and )?)+):", re.MULTILINE)


def private_names(tree: ast.AST) -> set[str]:
    """Return the private names of attributes and functions in a module."""
    names = {it.attr for it in ast.walk(tree) if isinstance(it, ast.Attribute)}
    names |= {it.name for it in ast.walk(tree) if isinstance(it, ast.FunctionDef)}
    return {name for name in names if PRIVATE.fullmatch(name)}


def listed() -> set[str]:
    """Return the names in the list of CONTRIBUTING.md."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return {name for row in LISTED.findall(page) for name in PRIVATE.findall(row)}


def of_the_sdk() -> set[str]:
    """Return the private names that the SDK defines or sets."""
    trees = (ast.parse(inspect.getsource(module)) for module in SDK)
    return set().union(*map(private_names, trees))


def test_the_list_is_what_the_code_uses() -> None:
    """CONTRIBUTING.md lists each private name of the SDK, and no other."""
    files = (ROOT / "tap_mega" / name for name in EXTENDING)
    used = set().union(*(private_names(ast.parse(it.read_text())) for it in files))
    assert used & of_the_sdk() == listed()


def test_no_private_module_of_the_sdk_is_imported() -> None:
    """Imports at run time are of public modules and names only."""
    imports = [
        f"{node.module}.{name.name}"
        for path in Path(ROOT / "tap_mega").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if (node.module or "").startswith("singer_sdk")
    ]
    assert imports
    assert not [it for it in imports if "._" in it]


@pytest.mark.parametrize("name", sorted(listed()))
def test_the_sdk_still_has_the_name(name: str) -> None:
    """A new SDK that drops or renames it fails here, and not at a user's."""
    assert name in of_the_sdk()
