"""Test that each message on docs/troubleshooting.md is one that the tap can log."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import typing as t

import pytest

from demo.pipeline import Pipeline, temporary_schema, with_scheme
from demo.postgres import postgres_server
from tests.tables import ROOT

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
OWN, _, OF_THE_LOADER = PAGE.partition("\n## Messages of target-postgres\n")

GAP = "…"
PLACEHOLDER = re.compile(r"(?:%s|%\.\df|\{\w+\}|\d(?:[\d,.]*\d)?%?|…)+")
"""What differs from run to run: on the page `…` or a number, in the code more."""

HEADING = re.compile(r"^### `(.+)`$", re.MULTILINE)
REASON = re.compile(r"`((?:was|is|has|belongs|does|only|the API|…) [^`]+)`")
"""A part of a message that stands in a table or in a sentence."""

TARGET = ROOT / ".meltano" / "loaders" / "target-postgres" / "venv/bin/target-postgres"
SCHEMA = "mega_troubleshooting"

MESSAGES = HEADING.findall(OWN) + REASON.findall(HEADING.sub("", OWN))


def normalize(text: str) -> str:
    """Return a text with a gap for each part that differs."""
    text = PLACEHOLDER.sub(GAP, text)
    return PLACEHOLDER.sub(GAP, text.replace(f" ({GAP})", GAP))


@functools.cache
def literals() -> str:
    """Return all texts in the code of the tap, a line for each."""
    found = [
        text
        for path in (ROOT / "tap_mega").rglob("*.py")
        for text in literals_of(ast.parse(path.read_text(encoding="utf-8")))
    ]
    return "\n".join(normalize(re.sub(r"\s+", " ", text)) for text in found)


def literals_of(module: ast.Module) -> Iterator[str]:
    """Yield the texts of a module, without its docstrings."""
    nodes = list(ast.walk(module))
    docstrings = [it.value for it in nodes if isinstance(it, ast.Expr)]
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(part, node.values))
        elif isinstance(node, ast.Constant) and node not in docstrings:
            yield str(node.value)


def part(node: ast.expr) -> str:
    """Return a part of an f-string: its text, or a gap."""
    return str(node.value) if isinstance(node, ast.Constant) else GAP


def pieces(message: str) -> list[str]:
    """Return the parts of a message that the code may hold apart."""
    parts = re.split(r"[.:;] |; |[.:]$", normalize(message))
    return [it for it in parts if it.strip(f"{GAP} ")]


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_exists(message: str) -> None:
    """All parts of a message are in the code, with gaps in the same places."""
    code = literals()
    assert pieces(message)
    for piece in pieces(message):
        assert piece in code, piece


def test_a_message_that_does_not_exist_is_noticed() -> None:
    """The test above can fail."""
    (piece,) = pieces("the API answered 401 again")
    assert piece not in literals()


def test_each_message_has_advice() -> None:
    """No message comes twice, and each is followed by a text."""
    headings = HEADING.findall(PAGE)
    assert len(set(headings)) == len(headings) > 30
    for section in re.split(r"^### .*$", PAGE, flags=re.MULTILINE)[1:]:
        assert section.partition("\n## ")[0].strip()
    assert len(HEADING.findall(OF_THE_LOADER)) == 5


@pytest.mark.slow
def test_the_messages_of_the_loader_exist(tmp_path: Path) -> None:
    """Each mistake of the page leads to its message. `BrokenPipeError` is Meltano's."""
    with postgres_server() as url, temporary_schema(url, SCHEMA):
        Pipeline(tmp_path, {}, url, SCHEMA).install()
        good = with_scheme("postgresql+psycopg", url)
        assert load(good, "integer") == ""
        output = "".join(
            (
                load(with_scheme("postgres", url)),
                load(with_scheme("postgresql", url)),
                load("postgresql+psycopg://postgres@127.0.0.1:1/none"),
                load(good, "string"),
            )
        )
    for message in HEADING.findall(OF_THE_LOADER)[1:]:
        pattern = re.escape(message).replace(GAP, ".+")
        assert re.search(pattern, output), message


def load(url: str, budget: str = "integer") -> str:
    """Load a lead whose budget has this type; return stderr if it fails."""
    columns = {"id": {"type": "string"}, "budget": {"type": [budget, "null"]}}
    schema = {"type": "object", "properties": columns}
    messages = (
        {
            "type": "SCHEMA",
            "stream": "leads",
            "schema": schema,
            "key_properties": ["id"],
        },
        {"type": "RECORD", "stream": "leads", "record": {"id": "1", "budget": None}},
    )
    settings = {
        "SQLALCHEMY_URL": url,
        "DEFAULT_TARGET_SCHEMA": SCHEMA,
        "USE_COPY": "true",
    }
    run = subprocess.run(
        (TARGET, "--config=ENV"),
        env={f"TARGET_POSTGRES_{name}": value for name, value in settings.items()},
        input="".join(f"{json.dumps(it)}\n" for it in messages),
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stderr if run.returncode else ""
