"""Runs target-snowflake with fakesnow in the place of Snowflake, as a program.

It runs with the loader's own Python. fakesnow keeps the tables in files of the
current folder. It has no stages of users and cannot merge from a query, so tables are
in their place here. Everything else, such as the loader's MERGE, is its own.
"""

# The packages are in the environment of the loader only.
# mypy: ignore-errors

from __future__ import annotations

import gzip
import re
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import fakesnow
from sqlalchemy import text
from target_snowflake.connector import SnowflakeConnector
from target_snowflake.target import TargetSnowflake

if t.TYPE_CHECKING:
    from collections.abc import Iterable

NOT_IN_FAKESNOW = ["remove ", "put ", "create .*file format", "drop file format"]
STAGE, ROWS = "WAREHOUSE.MEGA.STAGE", "WAREHOUSE.MEGA.ROWS"
sqlalchemy_url = SnowflakeConnector.get_sqlalchemy_url
merge_statement = SnowflakeConnector._get_merge_from_stage_statement  # noqa: SLF001


def put(self: SnowflakeConnector, sync_id: str, files: Iterable[str]) -> None:
    """Store the lines of the files in the table instead of a stage."""
    del sync_id
    with self._connect() as connection, connection.begin():
        connection.execute(
            text(f"CREATE OR REPLACE TABLE {STAGE} (n INT, line VARIANT)")
        )
        lines = (line for file in files for line in read_lines(file))
        insert = text(f"INSERT INTO {STAGE} SELECT :n, PARSE_JSON(:line)")
        for n, line in enumerate(lines):
            connection.execute(insert, {"n": n, "line": line})


def read_lines(url: str) -> list[str]:
    """Return the lines of a compressed file."""
    return gzip.decompress(Path(urlsplit(url).path).read_bytes()).decode().splitlines()


def merge_from_table(self: SnowflakeConnector, **arguments: t.Any) -> t.Any:
    """Return the loader's own MERGE, but from a table with the rows that it selects."""
    statement, values = merge_statement(self, **arguments)
    start, select, end = re.split(r"\((select .* = 1)\)", str(statement))
    select = re.sub(r"from '@~/.*?'\(file_format => .*?\)", f"from {STAGE}", select)
    select = select.replace("$1:", "line:").replace("SEQ8()", "n")
    with self._connect() as connection, connection.begin():
        connection.execute(text(f"CREATE OR REPLACE VIEW {ROWS} AS {select}"))
    return text(f"{start}{ROWS}{end}"), values


def url_with_schema(self: SnowflakeConnector, config: dict[str, t.Any]) -> str:
    """Return the loader's URL with a schema, without which fakesnow cannot merge."""
    return sqlalchemy_url(self, config).replace("/WAREHOUSE", "/WAREHOUSE/MEGA")


SnowflakeConnector.get_sqlalchemy_url = url_with_schema
SnowflakeConnector.put_batches_to_stage = put
SnowflakeConnector._get_merge_from_stage_statement = merge_from_table  # noqa: SLF001

with fakesnow.patch(db_path=".", nop_regexes=NOT_IN_FAKESNOW):
    TargetSnowflake.cli()
