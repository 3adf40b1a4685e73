"""The sandbox as a server and as a command: connections, requests, control routes."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import threading
import typing as t
from types import SimpleNamespace

import pytest
import requests

from sandbox import Fault, Sandbox
from sandbox.__main__ import main
from sandbox.control import USAGE
from sandbox.document import LEADS_PATH
from sandbox.fault_kinds import KINDS
from testing.harness import own_process_settings
from tests.test_sandbox import TIMEOUT_SECONDS, get, send

if t.TYPE_CHECKING:
    from testing.clock import FakeClock


# The server


def test_requests_are_recorded(api: Sandbox, clock: FakeClock) -> None:
    """Each has its time, method, path, query, headers and status."""
    get(api, limit=3, search="a b")
    (received,) = api.requests
    assert (received.time, received.method) == (clock.now, "GET")
    assert (received.path, received.status) == (LEADS_PATH, 200)
    assert received.query == {"limit": "3", "search": "a b"}
    assert received.headers["x-customer-id"] == api.customer_id
    api.requests.clear()
    get(api, limit=0)
    assert [x.status for x in api.requests] == [400]


def test_the_number_of_kept_requests_can_be_limited(clock: FakeClock) -> None:
    """The latest requests are kept. The counts by status stay exact."""
    with Sandbox(leads=1, clock=clock.time, max_requests=3) as sandbox:
        sandbox.script(Fault("error", times=2), Fault("reset", at=3))
        for number in range(7):
            with contextlib.suppress(requests.ConnectionError):
                send(sandbox, page=number)
        assert [x.query["page"] for x in sandbox.requests] == ["4", "5", "6"]
        sandbox.requests.clear()
        counts = send(sandbox, path="/sandbox/requests").json()
    by_status = {"503": 2, "no answer": 1, "200": 4}
    assert counts == {"requests": 7, "by_status": by_status}


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        *((it, "gzip") for it in ("gzip", "deflate, GZIP;q=0.5", "br;q=1.0, *;q=0.1")),
        *((it, None) for it in ("identity", "gzip;q=0", "*, gzip; q=0.000", "notgzip")),
    ],
)
def test_responses_are_compressed_if_the_client_accepts_gzip(
    api: Sandbox, accepted: str, encoding: str | None
) -> None:
    """Otherwise they are sent as plain JSON."""
    response = get(api, {"Accept-Encoding": accepted})
    assert response.headers.get("Content-Encoding") == encoding
    assert len(response.json()["leads"]) == 20


# The control routes and the command


def test_leads_can_be_changed_over_http(api: Sandbox) -> None:
    """The control routes need no credentials, and count the leads."""
    for name, left in {"change": 60, "add": 65, "merge": 60, "delete": 55}.items():
        url = f"{api.url}/sandbox/{name}?count=5"
        answer = requests.post(url, timeout=TIMEOUT_SECONDS).json()
        assert answer == {name: 5, "leads": left}
        assert api.leads.count() == left
    assert not api.requests


def test_faults_can_be_scripted_over_http(api: Sandbox) -> None:
    """The requests can be counted over HTTP, too."""
    faults = ["reset", "503@2"]
    assert send(api, method="POST", path="/sandbox/faults", fault=faults).ok
    with pytest.raises(requests.ConnectionError):
        send(api)
    assert send(api).status_code == 503
    counts = send(api, path="/sandbox/requests").json()
    assert counts == {"requests": 2, "by_status": {"no answer": 1, "503": 1}}


@pytest.mark.parametrize(
    "path", ["change?count=61", "delete?count=x", "faults?fault=explode@1"]
)
def test_invalid_control_requests_are_rejected(api: Sandbox, path: str) -> None:
    """They give 400 and the reason."""
    response = send(api, method="POST", path=f"/sandbox/{path}")
    assert response.status_code == 400
    assert response.json()["error"]


def test_the_help_lists_every_kind_of_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """The help text is the reference for faults."""
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    output = capsys.readouterr().out
    assert end.value.code == 0
    for kind in KINDS:
        assert f"    {kind} " in output


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_stopped(stop: signal.Signals) -> None:
    """It prints a valid configuration and curl command, and stops silently."""
    options = ("--port=0", "--leads=3", "--fault=401@2")
    command = [sys.executable, "-m", "sandbox", *options]
    pipes: dict[str, t.Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        output = ""
        for line in process.stdout or ():
            output += line
            if "/sandbox/requests" in line:
                break
        config = json.loads(output[output.index("{") : output.index("}") + 1])
        api = SimpleNamespace(
            url=config["api_url"],
            token=config["auth_token"],
            customer_id=config["customer_id"],
        )
        statuses = [send(t.cast("Sandbox", api)).status_code for _ in range(2)]
        process.send_signal(stop)
        rest = process.communicate(timeout=TIMEOUT_SECONDS)
    assert statuses == [200, 401]
    assert f"'{api.url}{LEADS_PATH}?" in output
    assert all(path in output for _, path, _ in USAGE)
    assert (process.returncode, rest[1]) == (0, "")


def test_the_command_prints_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--env`, it prints only lines that a shell can run."""
    stopped = SimpleNamespace(sleep=lambda _: sys.exit())
    monkeypatch.setattr("sandbox.__main__.time", stopped)
    with own_process_settings(), pytest.raises(SystemExit):
        main(["--env", "--port=0", "--leads=0", "--customers=2"])
    words = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    variables = dict(it.partition("=")[::2] for _export, it in words)
    assert variables.keys() == {"TAP_MEGA_CUSTOMERS", "TAP_MEGA_API_URL"}
    customers = json.loads(variables["TAP_MEGA_CUSTOMERS"])
    assert [set(it) for it in customers] == 2 * [{"auth_token", "customer_id"}]


def test_the_command_reports_a_port_in_use(api: Sandbox) -> None:
    """The message names the option --port, and no thread is left."""
    port, before = api.url.rpartition(":")[2], signal.getsignal(signal.SIGINT)
    threads = threading.active_count()
    with (
        own_process_settings(),  # The command sets signal handlers.
        pytest.raises(SystemExit, match=f"port {port}: .*--port"),
    ):
        main(["--port", port, "--leads", "0"])
    assert signal.getsignal(signal.SIGINT) is before
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--leads=-1", "--leads: '-1' is not a number from 0"),
        ("--leads=5,1", "2 numbers of leads do not fit 1 customers"),
        ("--customers=0", "0 numbers of leads do not fit 0 customers"),
        ("--speed=0", "--speed: '0' is not a number from 0.001"),
        ("--fault=explode", "--fault: no fault is called 'explode'"),
        ("--fault=503:customer=1", "there is no customer '1'"),
        ("--port=5,x", "--port: '5,x' is not a number from 0 to 65535"),
        ("--window=odd", "--window: invalid"),
    ],
)
def test_an_invalid_option_is_an_error(
    option: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the problem."""
    with own_process_settings(), pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 2
    assert problem in capsys.readouterr().err.splitlines()[-1]
