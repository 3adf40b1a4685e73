"""The private names of the SDK that the tap uses are known, and still there."""

from __future__ import annotations

import ast
import re
import sys
import typing as t
from pathlib import Path

import pytest
from singer_sdk import RESTStream, Tap
from singer_sdk.contrib.msgspec import MsgSpecWriter

from tests.tables import ROOT

if t.TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE = re.compile(r"_(?!_)\w+")
LISTED = re.compile(r"  - (?P<names>`_\w+`(?: and `_\w+`)*):")


def listed() -> set[str]:
    """Return the names in the list of CONTRIBUTING.md."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return {
        name for row in LISTED.findall(page) for name in re.findall(r"\w+", row)
    } - {"and"}


def trees() -> Iterator[ast.Module]:
    """Yield the syntax tree of each module."""
    for path in Path(ROOT / "tap_mega").rglob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8"))


def stored(tree: ast.Module) -> set[str]:
    """Return the attributes that a module sets."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in found if isinstance(node.ctx, ast.Store)}


SET_BY_SDK = set[str]().union(
    *(
        stored(ast.parse(Path(str(sys.modules[it.__module__].__file__)).read_text()))
        for it in (*RESTStream.__mro__, *Tap.__mro__)
        if it.__module__.startswith("singer_sdk")
    )
)
"""The attributes that the SDK sets of a stream or a tap."""


def own(tree: ast.Module) -> set[str]:
    """Return the private names that a module defines without `@override`."""
    names = stored(tree) - SET_BY_SDK
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            overrides = any(
                isinstance(it, ast.Name) and it.id == "override"
                for it in node.decorator_list
            )
            names |= set() if overrides else {node.name}
        elif isinstance(node, (ast.ClassDef, ast.Name)):
            names.add(node.name if isinstance(node, ast.ClassDef) else node.id)
    return names


def used(tree: ast.Module) -> set[str]:
    """Return the private names that a module uses and does not define."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {it.name for it in ast.walk(tree) if isinstance(it, ast.FunctionDef)}
    names = {name for name in names if PRIVATE.fullmatch(name)}
    return names - own(tree) - {"_replace"}  # a method of named tuples


def test_the_list_is_what_the_code_uses() -> None:
    """CONTRIBUTING.md lists each private name of the SDK, and no other."""
    assert set().union(*map(used, trees())) == listed()


def test_no_private_module_of_the_sdk_is_imported() -> None:
    """Imports at run time are of public modules and names only."""
    imports = [
        f"{node.module}.{name.name}"
        for tree in trees()
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if (node.module or "").startswith("singer_sdk")
    ]
    assert imports
    assert not [it for it in imports if "._" in it]


@pytest.mark.parametrize("name", sorted(listed()))
def test_the_sdk_still_has_the_name(name: str) -> None:
    """A new SDK that drops or renames it fails here, and not at a user's."""
    classes = (Tap, RESTStream, MsgSpecWriter)
    assert name in SET_BY_SDK or any(hasattr(it, name) for it in classes)
