"""Test the code of docs/orchestrators.md as far as it needs no orchestrator."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import typing as t

import pytest

from testing.environments import make_environment
from tests.tables import ROOT

if t.TYPE_CHECKING:
    from pathlib import Path

    from sandbox import Sandbox
    from testing.harness import Command

PAGE = (ROOT / "docs" / "orchestrators.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PIPES = ROOT / ".loaders" / "dagster-pipes"
REQUIREMENT = "dagster-pipes==1.13.29"
# This runs with dagster-pipes: it prints the variables that Dagster would set.
MAKE_VARIABLES = """
import json, sys
import dagster_pipes as pipes
context = {name: None for name in pipes.PipesContextData.__annotations__}
context |= {"run_id": "1", "retry_number": 0, "extras": {}}
context |= {"asset_keys": ["leads"], "partition_key": "acme"}
print(json.dumps({
    pipes.DAGSTER_PIPES_CONTEXT_ENV_VAR: pipes.encode_param({"data": context}),
    pipes.DAGSTER_PIPES_MESSAGES_ENV_VAR: pipes.encode_param({"path": sys.argv[1]}),
}))
"""


def point(plugin: str, **metric: object) -> str:
    """Return a metric as Meltano's JSON log has it."""
    tags = {"stream": "leads", "pid": 1}
    return json.dumps({"name": plugin, "metric_info": {"tags": tags, **metric}})


LOG = "\n".join(
    [
        "Meltano writes its first lines as text",
        json.dumps({"name": "tap-mega", "event": "Read 3 of 3 leads"}),
        point("tap-mega", type="counter", metric="record_count", value=100),
        point("tap-mega", type="counter", metric="record_count", value=20),
        point("tap-mega", type="timer", metric="sync_duration", value=1.5),
        point("target-postgres", type="counter", metric="record_count", value=7),
    ]
)


@pytest.mark.parametrize(
    "block", BLOCKS, ids=["airflow", "dagster", "pipes", "prefect"]
)
def test_the_code_is_python(block: str) -> None:
    """Each block parses, and runs the load of one customer."""
    ast.parse(block)
    assert "load" in block


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 3])
def test_a_load_reports_its_metrics(tmp_path: Path, code: int) -> None:
    """A load that succeeds is a materialisation; the exit code is that of the load."""
    make_environment(PIPES, [REQUIREMENT])
    (tmp_path / "log").write_text(LOG)
    load = tmp_path / "load-customer"
    load.write_text(
        f"#!/bin/sh\n[ $1 = acme ] && cat {tmp_path}/log >&2\nexit {code}\n"
    )
    load.chmod(0o700)
    messages = tmp_path / "messages"
    messages.touch()
    python = PIPES / "bin" / "python"
    variables = subprocess.check_output([python, "-c", MAKE_VARIABLES, messages])
    run = subprocess.run(
        [python, "-c", BLOCKS[2].replace("/srv/tap-mega", str(tmp_path))],
        env=json.loads(variables),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert run.returncode == code
    assert LOG in run.stderr
    reported = [
        {name: it["raw_value"] for name, it in message["params"]["metadata"].items()}
        for message in map(json.loads, messages.read_text().splitlines())
        if message["method"] == "report_asset_materialization"
    ]
    expected = {"leads_record_count": 120, "leads_sync_duration": 1.5}
    assert reported == ([expected] if code == 0 else [])


def test_an_alias_names_the_table_of_a_job(tap: Command, sandbox: Sandbox) -> None:
    """All messages of the leads have the name that the stream map gives."""
    (maps,) = re.findall(r"TAP_MEGA_STREAM_MAPS='(.*)'", PAGE)
    run = tap(config={**sandbox.config(), "stream_maps": json.loads(maps)})
    assert run.code == 0, run.log
    streams = {it["stream"] for it in run.messages if it["type"] != "STATE"}
    assert streams == {"leads_north"}
