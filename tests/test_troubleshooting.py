"""Test docs/troubleshooting.md: the tap and target-postgres have each text on it."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import re
import subprocess
import typing as t
from pathlib import Path

import psycopg
import pytest
from meltano.core.block import extract_load
from psycopg.conninfo import conninfo_to_dict

from demo.pipeline import Pipeline, with_scheme
from demo.postgres import postgres_server
from tests.tables import ROOT

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

GAP = "…"
PLACEHOLDER = re.compile(r"(?:%s|%\.\df|\{\w+\}|\d(?:[\d,.]*\d)?%?|…)+")
"""What differs from run to run: on the page `…` or a number, in the code more."""

ROW = re.compile(r"^\| (`.+?) \|", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
IN_PROSE = re.compile(r"`([A-Z][^`]* [^`]*)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

TARGET = ROOT / ".meltano" / "loaders" / "target-postgres" / "venv/bin/target-postgres"
DATABASE, ROLE, READER = "mega_rights", "mega_loader", "mega_analyst"
TAKE_TABLE = "ALTER TABLE mega.leads OWNER TO CURRENT_USER"


def read_page(name: str) -> str:
    """Return the text of a page."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Return the sections of the page by heading, without its blocks of code."""
    found = re.split(r"^## (.*)$", read_page("troubleshooting.md"), flags=re.MULTILINE)
    texts = (FENCE.sub("", text) for text in found[2::2])
    return dict(zip(found[1::2], texts, strict=True))


def messages_of(section: str) -> list[str]:
    """Return the texts that a section explains: those in first cells and in prose."""
    cells = [text for cell in ROW.findall(section) for text in CODE.findall(cell)]
    prose = re.sub(r"^\|.*$", "", section, flags=re.MULTILINE)
    return cells + IN_PROSE.findall(" ".join(prose.split()))


SECTIONS = sections()
OF_THE_LOADER = messages_of(SECTIONS.pop("target-postgres"))
OF_MELTANO = messages_of(SECTIONS.pop("Meltano"))
MESSAGES = [text for section in SECTIONS.values() for text in messages_of(section)]


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
    """The test above can fail, and no message comes twice."""
    (piece,) = pieces("the API answered 401 again")
    assert piece not in literals()
    assert len(set(MESSAGES)) == len(MESSAGES) > 50


def test_the_message_of_meltano_exists() -> None:
    """Meltano refuses a second run of the same job."""
    source = Path(extract_load.__file__).read_text(encoding="utf-8")
    assert [it.partition(f"{GAP}' ")[2] in source for it in OF_MELTANO] == [True]


@pytest.mark.slow
def test_the_messages_of_the_loader_exist(tmp_path: Path) -> None:
    """Each mistake of the page leads to its message, and the rights are enough."""
    with postgres_server() as url, database(url) as connection:
        Pipeline(tmp_path, {}, url, "mega").install()
        output = "".join((*wrong_settings(url), *missing_rights(url, connection)))
        for block in re.findall(r"(?ms)^```sql\n(.*?)^```", read_page("loaders.md")):
            connection.execute(renamed(block))
        assert load(as_role(url)) == ""
        may_read = f"SELECT has_table_privilege('{READER}', 'mega.leads', 'SELECT')"
        assert connection.execute(may_read.encode()).fetchone() == (True,)
        output += load(as_role(url), "string")
    for message in OF_THE_LOADER:
        pattern = r"\s+".join(map(re.escape, message.split())).replace(GAP, ".+")
        assert re.search(pattern, output), message


@contextlib.contextmanager
def database(url: str) -> Iterator[Connection]:
    """Make a database that nobody but its owner may use, and drop it at the end."""
    drop = (
        f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)",
        f"DROP ROLE IF EXISTS {ROLE}, {READER}",
    )
    make = (
        f"CREATE ROLE {READER}",
        f"CREATE DATABASE {DATABASE}",
        f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC",
    )
    with psycopg.connect(url, autocommit=True) as outer:
        for statement in (*drop, *make):
            outer.execute(statement.encode())
        with psycopg.connect(url, dbname=DATABASE, autocommit=True) as connection:
            yield connection
        for statement in drop:
            outer.execute(statement.encode())


def wrong_settings(url: str) -> Iterator[str]:
    """Yield what the loader prints if a setting is missing or wrong."""
    good = as_role(url)
    for name in ("HOST", "DATABASE"):
        yield load({key: value for key, value in good.items() if key != name})
    yield load({**good, "HOST": "no-such-host.invalid"})
    yield load({**good, "PORT": "1"})
    yield load({**good, "PASSWORD": "wrong"})
    for scheme, end in (
        ("postgresql+psycopg", "_"),
        ("postgres", ""),
        ("postgresql", ""),
    ):
        yield load({"SQLALCHEMY_URL": f"{with_scheme(scheme, url)}{end}"})


def missing_rights(url: str, connection: Connection) -> Iterator[str]:
    """Yield what the loader prints while a right is missing, one after another."""
    for statement in (
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'CHANGE-ME'",
        f"GRANT CONNECT ON DATABASE {DATABASE} TO {ROLE}",
        "CREATE SCHEMA mega",
        f"GRANT USAGE, CREATE ON SCHEMA mega TO {ROLE}",
        f"GRANT TEMPORARY ON DATABASE {DATABASE} TO {ROLE}; {TAKE_TABLE}",
        "ALTER TABLE mega.leads DROP COLUMN budget",
    ):
        connection.execute(statement.encode())
        output = load(as_role(url))
        assert output, statement
        yield output
    drop = f"DROP SCHEMA mega CASCADE; DROP OWNED BY {ROLE}; DROP ROLE {ROLE}"
    connection.execute(drop.encode())


def renamed(statements: str) -> bytes:
    """Return statements for the database and the roles of this test."""
    statements = statements.replace("DATABASE leads", f"DATABASE {DATABASE}")
    statements = re.sub(r"\banalyst\b", READER, statements)
    return re.sub(r"\bloader\b", ROLE, statements).encode()


def as_role(url: str) -> dict[str, str]:
    """Return the settings of the loader with a role of its own."""
    parts = conninfo_to_dict(url)
    return {
        "HOST": str(parts["host"]),
        "PORT": str(parts["port"]),
        "DATABASE": DATABASE,
        "USER": ROLE,
        "PASSWORD": "CHANGE-ME",
    }


def load(settings: dict[str, str], budget: str = "integer") -> str:
    """Load a lead whose budget has this type; return stderr if it fails."""
    columns = {"id": {"type": "string"}, "budget": {"type": [budget, "null"]}}
    schema = {"type": "object", "properties": columns}
    lead = {"id": "1", "budget": None}
    messages = (
        {"type": "SCHEMA", "schema": schema, "key_properties": ["id"]},
        {"type": "RECORD", "record": lead},
    )
    settings = {**settings, "DEFAULT_TARGET_SCHEMA": "mega", "USE_COPY": "true"}
    run = subprocess.run(
        (TARGET, "--config=ENV"),
        env={f"TARGET_POSTGRES_{name}": value for name, value in settings.items()},
        input="".join(f"{json.dumps({**it, 'stream': 'leads'})}\n" for it in messages),
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stderr if run.returncode else ""
