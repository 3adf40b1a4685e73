"""Test how the dbt package is installed, and that Meltano runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import typing as t

import pytest

from demo.pipeline import Pipeline, postgres_variables, temporary_schema
from sandbox import Sandbox
from tests.dbt_project import Dbt
from tests.tables import DBT, ROOT

if t.TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SCHEMA = "mega_dbt_test"
AUTHOR = "-c user.name=x -c user.email=x@example.com"
TABLES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = current_schema() AND table_name LIKE 'mega%%'
"""


@pytest.mark.slow
def test_meltano_builds_the_models_after_a_load(
    database_url: str, tmp_path: Path
) -> None:
    """One run loads leads and builds the models that need no table `lead_changes`."""
    variables = postgres_variables(database_url, SCHEMA)
    with (
        Sandbox(leads=120) as sandbox,
        temporary_schema(database_url, SCHEMA),
        temporary_schema(database_url, f"{SCHEMA}_models") as models,
    ):
        pipeline = Pipeline(tmp_path, sandbox.config(), database_url, SCHEMA)
        dotenv = "".join(f"{name}='{it}'\n" for name, it in variables.items())
        (tmp_path / "no.env").write_text(dotenv)
        pipeline.install()
        pipeline.meltano("install", "dbt-postgres")
        pipeline.meltano("run", "tap-mega", "target-postgres", "dbt-postgres:build")
        built = {row["table_name"] for row in models.select(TABLES)}
        assert built == {"mega__conversions", "mega__funnel", "mega__live_leads"}
        (funnel,) = models.select("SELECT sum(leads) AS leads FROM mega__funnel")
        assert funnel["leads"] == 120


@pytest.mark.slow
def test_a_project_installs_the_package(tmp_path: Path) -> None:
    """With the blocks of docs/models.md, a project has the package and its settings."""
    packages, settings = BLOCKS
    repository, project = tmp_path / "repository", tmp_path / "project"
    tag = re.search("revision: (.*)", packages)
    assert tag
    shutil.copytree(DBT, repository / "dbt", ignore=shutil.ignore_patterns("target"))
    for command in ("init", "add .", f"{AUTHOR} commit -m x", f"tag {tag[1]}"):
        git = ("git", "-C", str(repository), *command.split())
        subprocess.run(git, check=True, capture_output=True)
    project.mkdir()
    url = "https://github.com/OWNER/tap-mega.git"
    (project / "packages.yml").write_text(packages.replace(url, f"file://{repository}"))
    (project / "dbt_project.yml").write_text(f"name: warehouse\n{settings}")
    shutil.copy(DBT / "profiles.yml", project)
    variables = postgres_variables("postgresql://me@127.0.0.1/warehouse", SCHEMA)
    dbt = Dbt(tmp_path, {**variables, "DBT_PROFILE": "mega"}, project)
    dbt.succeed("deps")
    dbt.succeed("parse")
    manifest = dbt.artifact("manifest")
    leads = manifest["sources"]["source.mega.mega.leads"]
    assert (leads["database"], leads["schema"]) == ("raw", "crm")
    assert leads["freshness"]["warn_after"] == {"count": 2, "period": "hour"}
    time_in_stage = manifest["nodes"]["model.mega.mega__time_in_stage"]
    assert time_in_stage["config"]["materialized"] == "table"
    assert time_in_stage["config"]["schema"] == "mega"
