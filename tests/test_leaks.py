"""Test that no log contains a token or a lead, at any level."""

from __future__ import annotations

import logging
import logging.config
import socket
import typing as t

import pytest

from sandbox import Fault, Sandbox
from tap_mega.cli.logs import silence_libraries

if t.TYPE_CHECKING:
    from pathlib import Path

    from testing.clock import FakeClock
    from testing.harness import Sync

    Json: t.TypeAlias = dict[str, t.Any]

SECRET_SEARCH = "secret-needle"  # noqa: S105  # a search term

CASES: dict[str, tuple[Fault, ...]] = {
    "no-fault": (),
    "error": (Fault("error", 2, None),),
    "html": (Fault("html", 2, None, status=502),),
    **{f"quote-{it}": (Fault("quote", 1, 9, status=it),) for it in (400, 401, 500)},
    "reset": (Fault("reset", 2, None),),
    "truncated": (Fault("truncate", 1, None),),
    "invalid-page": (Fault("body", 1, None, body='{"leads": [{"id": "needle"}]}'),),
    "rejected-cursor": (Fault("refuse_cursor", 1, None),),
    "repeated-cursor": (Fault("repeat_cursor", 1, None),),
    "disorder": (Fault("disorder", 2),),
    "redirect": (Fault("redirect", 2, location="/?needle"),),
    "quota": (Fault("error", 2, 3, status=429, retry_after=30),),
}


def traces(lead: Json) -> set[str]:
    """Return the values that identify a lead."""
    names = ("id", "contact_name", "contact_email", "contact_phone")
    return {lead[name] for name in names if lead[name]}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_no_token_and_no_lead_is_in_the_log(
    sync: Sync,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[Fault, ...],
    level: str,
) -> None:
    """The log has no token and no lead for any fault, even at level DEBUG."""
    monkeypatch.setenv("LOGLEVEL", level)
    sandbox.script(*case)
    run = sync(page_size=20)
    assert "tap-mega" in run.log
    assert sandbox.token[5:30] not in run.log
    assert sandbox.token not in run.stdout
    for lead in sandbox.leads.all():
        assert not [trace for trace in traces(lead) if trace in run.log]
    assert "needle" not in run.log


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("reachable", [True, False])
def test_a_search_term_is_not_in_the_log(
    sync: Sync, monkeypatch: pytest.MonkeyPatch, level: str, *, reachable: bool
) -> None:
    """No library logs the query, because `search` may be the e-mail of a lead."""
    monkeypatch.setenv("LOGLEVEL", level)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"
    other: Json = {} if reachable else {"api_url": dead}
    run = sync(filters={"search": SECRET_SEARCH}, **other)
    assert run.code == (0 if reachable else 1)
    assert SECRET_SEARCH not in run.log


def test_many_taps_in_a_process_add_one_filter() -> None:
    """Each tap asks for it."""
    silence_libraries()
    before = logging.getLogger("urllib3.connectionpool").filters[:]
    silence_libraries()
    assert logging.getLogger("urllib3.connectionpool").filters == before


def test_a_proxy_does_not_get_local_requests(
    sync: Sync, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests by plain HTTP to a loopback host bypass a configured proxy."""
    with Sandbox(leads=1, clock=clock.time) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        run = sync()
        assert run.code == 0
        assert len(run.records) == 250
        assert not proxy.requests


def test_a_netrc_does_not_replace_the_token(
    sync: Sync, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tap does not send the credentials that a `.netrc` has for the host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert sync().code == 0
    assert sandbox.requests[0].headers["authorization"] == f"Bearer {sandbox.token}"
