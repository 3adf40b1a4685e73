"""Test the commands of the pages on scheduling, customers and the state."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
import typing as t
from pathlib import Path

import psycopg
import pytest
import yaml

from demo.pipeline import (
    MELTANO,
    PLUGINS,
    ROOT,
    STATE_ID,
    CommandError,
    Pipeline,
    read_project,
    temporary_schema,
)
from sandbox import Fault, Limits, Sandbox

if t.TYPE_CHECKING:
    from demo.pipeline import Table
    from testing.harness import Json

SCHEMA = "mega_scheduling"


def blocks(name: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_code_names_jobs_that_exist() -> None:
    """Each `meltano run` of a page runs a job or plugins of `meltano.yml`."""
    names = re.findall(r"- name: ([\w-]+)", (ROOT / "meltano.yml").read_text("utf-8"))
    run = r"\bmeltano(?: --\S+)*[, ]+run(?:[, ]+-\S+)*[, ]+([a-z][a-z-]*)"
    for page in (ROOT / "docs").glob("*.md"):
        assert set(re.findall(run, page.read_text("utf-8"))) <= set(names), page


def test_cron_reports_why_a_run_failed(tmp_path: Path) -> None:
    """The line of the page prints the errors of a run that fails, and nothing else."""
    program = tmp_path / ".venv" / "bin" / "meltano"
    program.parent.mkdir(parents=True)
    (tmp_path / ".meltano").mkdir()
    line = blocks("scheduling", "cron")[0].splitlines()[1].partition("  ")[2]
    for code, mail in ((0, ""), (1, "[error    ] tap-mega it failed\n")):
        program.write_text(f"#!/bin/sh\necho '[info ] began\n{mail}'\nexit {code}")
        program.chmod(0o700)
        run = subprocess.run(
            ("/bin/sh", "-c", line.replace("/srv/tap-mega", str(tmp_path))),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (run.stdout, run.stderr) == (mail, "")


def test_kubernetes_stops_as_systemd_does() -> None:
    """The `preStop` of the page is its `ExecStop`, for the first process."""
    job = yaml.safe_load(blocks("scheduling", "yaml")[0])["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    hook = container["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == [word.replace("$MAINPID", "1") for word in stop_command()]


@pytest.mark.slow
def test_a_stopped_unit_stores_rows_and_state(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `ExecStop`, the next run resumes behind what is in the table."""
    waits = tmp_path / "waits"
    with (
        Sandbox(leads=900, limits=Limits(per_minute=6)) as sandbox,
        temporary_schema(database_url, SCHEMA) as table,
    ):
        sandbox.script(Fault(at=6, before=waits.touch))
        pipeline = Pipeline(
            new_folder(tmp_path), sandbox.config(), database_url, SCHEMA
        )
        pipeline.install()
        job = shlex.join([str(MELTANO), "run", *PLUGINS])
        with pytest.raises(CommandError) as error:
            run_in_environment(pipeline, stopping(job, waits), tmp_path, monkeypatch)
        assert "Stopped by SIGTERM" in error.value.output
        (stored,) = table.select("SELECT count(*) FROM leads")
        assert 500 <= stored["count"] <= 600
        assert pipeline.part()["refresh"]["read"] == stored["count"]


def stop_command() -> list[str]:
    """Return the words of the page's `ExecStop`."""
    (unit,) = (it for it in blocks("scheduling", "ini") if "[Service]" in it)
    (command,) = re.findall("^ExecStop=(.*)$", unit, re.MULTILINE)
    return shlex.split(command)


def stopping(job: str, waits: Path) -> str:
    """Return a script that runs a job, and stops it once a file is there."""
    return f"""
{job} &
export MAINPID=$!
until [ -f {waits} ]; do sleep 0.1; done
{shlex.join(stop_command())} &
wait $MAINPID
"""


@pytest.mark.slow
def test_one_run_for_all_customers(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Customers of `meltano.yml` share a table."""
    with (
        Sandbox(leads=[30, 20], customers=2) as sandbox,
        temporary_schema(database_url, SCHEMA) as table,
    ):
        acme, bravo = sandbox.customers
        monkeypatch.setenv("ACME_TOKEN", acme.auth_token)
        monkeypatch.setenv("BRAVO_TOKEN", bravo.auth_token)
        config = {"api_url": sandbox.url}
        Pipeline(new_folder(tmp_path), config, database_url, SCHEMA).install()
        write_project(tmp_path)
        pipeline = Pipeline(
            new_folder(tmp_path), config, database_url, SCHEMA, tmp_path
        )
        pipeline.run()
        assert keys(table) == listed(sandbox)


@pytest.mark.slow
def test_a_run_for_each_customer(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cron line loads each customer into its own schema, with its own state."""
    with (
        Sandbox(leads=[30, 20], customers=2) as sandbox,
        temporary_schema(database_url, "acme") as acme,
        temporary_schema(database_url, "bravo") as bravo,
    ):
        config = {"api_url": sandbox.url}
        Pipeline(new_folder(tmp_path), config, database_url, "").install()
        line = write_load_customer(tmp_path, sandbox)
        pipeline = Pipeline(new_folder(tmp_path), config, database_url, "", tmp_path)
        pipeline.meltano("state", "list")  # It creates the database, as on the page.
        run_in_environment(pipeline, line, tmp_path, monkeypatch)
        for customer, table in zip(sandbox.customers, (acme, bravo), strict=True):
            ids = {lead["id"] for lead in customer.leads.all()}
            assert keys(table) == {(customer.customer_id, id_) for id_ in ids}
        # The customers are loaded at the same time, in any order.
        assert sorted(pipeline.meltano("state", "list").stdout.split()) == [
            "dev:tap-mega-to-target-postgres:acme",
            "dev:tap-mega-to-target-postgres:bravo",
        ]
        sandbox.script(Fault("error", times=None, customer=1, status=401))
        with pytest.raises(CommandError):
            run_in_environment(pipeline, line, tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_commands_of_the_state(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window is reloaded, the state is restored, and a customer is removed."""
    restore, _, reload, remove = blocks("state", "sh")
    with (
        Sandbox(leads=345) as sandbox,
        temporary_schema(database_url, SCHEMA) as table,
    ):
        pipeline = Pipeline(
            new_folder(tmp_path), sandbox.config(), database_url, SCHEMA
        )
        pipeline.install()
        pipeline.run()

        def run(block: str) -> Json:
            """Run the commands of a block, and return the state after them."""
            script = f"cd {tmp_path}\nPATH={MELTANO.parent}:$PATH\nset -e\n{block}"
            run_in_environment(pipeline, script, tmp_path, monkeypatch)
            done = pipeline.meltano("state", "get", STATE_ID)
            return t.cast("Json", json.loads(done.stdout))

        before, leads = run("true"), sandbox.leads.all()
        damaged = [lead["id"] for lead in leads[100:215]]
        spoil = "UPDATE leads SET status = '?' WHERE id = ANY(%s) RETURNING id"
        assert len(table.select(spoil, damaged)) == 115
        first, last = leads[100]["updated_at"], leads[215]["updated_at"]
        reload = reload.replace("2026-03-01", first).replace("2026-03-08", last)
        sandbox.requests.clear()
        assert run(reload) == before
        assert not table.select("SELECT id FROM leads WHERE status = '?'")
        assert len(sandbox.requests) == 2
        save, _, again = restore.partition("\n")
        assert run(f"{save}\nmeltano state clear --force {STATE_ID}\n{again}") == before
        (name,) = re.findall(r"python3 - (\S+)", remove)
        after = run(remove.replace(name, sandbox.customers[0].customer_id))
        assert after["singer_state"]["bookmarks"]["leads"]["partitions"] == []
        for page in ("monitoring", "personal-data", "troubleshooting"):
            (query,) = blocks(page, "sql")
            with psycopg.connect(database_url) as connection:
                connection.execute(query.replace("mega.", f"{SCHEMA}.").encode())


def write_project(folder: Path) -> None:
    """Write `meltano.yml` with the page's customers."""
    content = read_project()
    block = blocks("customers", "yaml")[0]
    (added,) = yaml.safe_load(block)["plugins"]["extractors"]
    plugins = {it["name"]: it for it in content["plugins"]["extractors"]}
    plugins[added["name"]]["config"] = added["config"]
    (folder / "meltano.yml").write_text(yaml.safe_dump(content))


def write_load_customer(folder: Path, sandbox: Sandbox) -> str:
    """Write the project of separate runs, and return the command of the cron line."""
    (folder / "meltano.yml").write_text(yaml.safe_dump(read_project()))
    (folder / ".meltano").mkdir()
    for name in ("extractors", "loaders"):
        (folder / ".meltano" / name).symlink_to(ROOT / ".meltano" / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "meltano").symlink_to(MELTANO)
    rows = zip(("acme", "bravo"), sandbox.customers, strict=True)
    (folder / "customers.txt").write_text(
        "".join(f"{name} {it.customer_id} {it.auth_token}\n" for name, it in rows)
    )
    script, log = folder / "load-customer", ">> .meltano/leads.log 2>&1"
    (block,) = blocks("customers", "sh")
    script.write_text(block.replace("/srv/tap-mega", str(folder)))
    script.chmod(0o700)
    line = blocks("customers", "cron")[0].strip().partition("  ")[2]
    return line.replace("/srv/tap-mega", str(folder)).removesuffix(log)


def run_in_environment(
    pipeline: Pipeline, command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a command instead of Meltano, in the environment of the pipeline."""
    script = folder / "instead"
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr("demo.pipeline.MELTANO", script)
        pipeline.meltano()


def keys(table: Table) -> set[tuple[str, str]]:
    """Return the keys of all rows."""
    rows = table.select("SELECT customer_id, id FROM leads")
    return {(row["customer_id"], row["id"]) for row in rows}


def listed(sandbox: Sandbox) -> set[tuple[str, str]]:
    """Return the keys of all leads."""
    return {
        (customer.customer_id, lead["id"])
        for customer in sandbox.customers
        for lead in customer.leads.all()
    }


def new_folder(parent: Path) -> Path:
    """Return an empty folder."""
    return Path(tempfile.mkdtemp(dir=parent))
