"""Test the settings, and the line that each invalid one gets."""

from __future__ import annotations

import json
import typing as t

import pytest

from testing.harness import part_of

if t.TYPE_CHECKING:
    from sandbox import Sandbox
    from testing.harness import Command, Sync

TOKEN = "mega_0123456789abcdef"  # noqa: S105  # a fake one
CUSTOMER = "00000000-0000-4000-8000-000000000000"
VALID = {
    "auth_token": TOKEN,
    "customer_id": CUSTOMER,
    "api_url": "http://127.0.0.1:9",
    "backoff_max_tries": 1,
}

WHOLE = (
    *("requests_per_minute", "requests_per_hour", "lookback_seconds"),
    *("max_wait_seconds", "max_run_seconds", "backoff_max_tries"),
    *("full_refresh_min_age_days", "full_refresh_max_age_days"),
    "full_refresh_max_removed_percent",
)
NO_UUIDS = ("acme", f"{CUSTOMER}\n", "\uff10" + CUSTOMER[1:])
URL = "https://host.example"
NO_URLS = [
    *("http://app.gomega.ai", "http://localhost.evil.example", "http://10.0.0.1"),
    *("http://127.0.0.1@evil.example", "https://user:word@host.example"),
    *("ftp://127.0.0.1", "file://localhost/etc", "app.gomega.ai", "https://"),
    *("https://host.example:port", "https://host .example", "https://127.0.0.1:9/a b"),
    *("https://a..b", "https://*.example", "https://[::1"),
]

INVALID: list[tuple[str, str, list[t.Any]]] = [
    # A setting, a part of the line, and the values that get this line.
    ("auth_token", "' is missing: set it to the Personal Access", [None]),
    ("auth_token", "' must be the Personal Access Token, and is empty", [""]),
    ("auth_token", "must be the whole Personal Access Token", ["mega_…", "mega_..."]),
    ("auth_token", "the token alone, without 'Bearer'", [f"Bearer {TOKEN}"]),
    ("auth_token", "and is a UUID: are the two swapped?", [CUSTOMER]),
    ("auth_token", "text without white space", ["mega_ 123", "mega_123\n", "mega_é"]),
    ("auth_token", "' must be text", [5]),
    ("customer_id", "' is missing: set it to the Customer ID", [None]),
    ("customer_id", "and is a token: are the two swapped?", [TOKEN]),
    *(("customer_id", "' must be a UUID", [it]) for it in NO_UUIDS),
    ("start_date", "' must be a date", ["2026-02-30", "0001-01-01T00:00+01:00"]),
    ("start_date", "' must be text", [2026]),
    ("include_custom_fields", "' must be true or false", ["yes"]),
    ("page_size", "' must be a whole number of at least 1", [0, "ten", 1.5, True]),
    ("page_size", "and at most 100", [101]),
    ("request_timeout", "' must be a number of more than 0", [0, 1e9]),
    *((name, "' must be a whole number of at ", [-1, 10**9]) for name in WHOLE),
    ("custom_field_types", "' must be a JSON object", [["budget"]]),
    ("custom_field_types", ".budget' must be one of string, ", [{"budget": "decimal"}]),
    ("exclude_custom_fields", "' must be a list", ["budget"]),
    ("exclude_custom_fields", "' (position 1) must be text", [[5]]),
    ("filters", "' must be a JSON object", ["won"]),
    ("filters", "' has no 'stageId', only status, stage_id", [{"stageId": "x"}]),
    ("filters", ".lead_line' must be one of buyer, s", [{"lead_line": "lender"}]),
    ("filters", ".stage_id' must be a UUID", [{"stage_id": "first"}]),
    ("filters", ".created_since' must be a date", [{"created_since": "x"}]),
    ("filters", ".search' must be text that is not empty", [{"search": ""}]),
    ("filters", ".status' must be text", [{"status": 1}]),
    ("api_url", "' must be an https URL", NO_URLS),
    (
        "api_url",
        "must be a URL without '?' and '#'",
        [f"{URL}?x=1", f"{URL}/?", f"{URL}#"],
    ),
    ("user_agent", "' must be plain text of one line", [" acme", "a\nb"]),
    ("batch_config", "' is not supported: remove it", [{}]),
    (
        "stream_maps",
        "' has 'leds', which is not a stream",
        [{"leds": {}}],
    ),
    ("stream_maps", "' has 'crm', whi", [{"crm": {"__source__": "leds"}}]),
    ("stream_maps", ".leads' must be of the shape", [{"leads": 5}]),
]
TOGETHER: list[tuple[dict[str, t.Any], str]] = [
    # Settings that do not fit each other.
    (
        {"custom_field_types": {"a": "date"}, "include_custom_fields": False},
        "'custom_field_types' needs 'include_custom_fields' to be true",
    ),
    (
        {"custom_field_types": {"a": "date"}, "exclude_custom_fields": ["a"]},
        "has 'a', which 'exclude_custom_fields' excludes: remove it from one",
    ),
    (
        {"full_refresh_min_age_days": 8},
        "'full_refresh_min_age_days' must not be more than 'full_refresh_max_age_days'",
    ),
]
CASES = TOGETHER + [
    ({name: value}, line) for name, line, values in INVALID for value in values
]


@pytest.mark.parametrize(("settings", "line"), CASES, ids=lambda it: str(it)[:40])
def test_an_invalid_setting_is_one_line(
    sync: Sync, sandbox: Sandbox, settings: dict[str, t.Any], line: str
) -> None:
    """An invalid setting ends the run in one line, before any request or message."""
    run = sync(**settings)
    assert run.code == 1
    assert len(run.errors) == 1
    assert run.errors[0].startswith("The setting ")
    assert line in run.errors[0]
    assert "Traceback" not in run.log
    assert run.stdout == ""
    assert not sandbox.requests


def test_a_stream_can_be_mapped_to_another_name(sync: Sync) -> None:
    """A map may define another stream if `__source__` names the original."""
    maps = {"people": {"__source__": "leads", "id": "id", "__else__": None}}
    run = sync(stream_maps=maps)
    assert run.code == 0
    assert {"leads", "people"} == {
        it["stream"] for it in run.messages if "record" in it
    }


def test_each_invalid_setting_has_its_own_line(tap: Command) -> None:
    """All are reported at once. The value is not logged: it may be a mistyped token."""
    run = tap(config={**VALID, "page_size": 0, "auth_token": f"{TOKEN} "})
    assert len(run.errors) == 2
    assert TOKEN not in run.log


UNKNOWN_SETTINGS = {
    "start-date": "; did you mean 'start_date'?",
    "Page_Size": "; did you mean 'page_size'?",
    "colour": "",
}


@pytest.mark.parametrize("name", UNKNOWN_SETTINGS)
def test_an_unknown_setting_logs_a_warning(tap: Command, name: str) -> None:
    """A warning names an unknown setting and suggests a similar one."""
    run = tap("--discover", config={**VALID, name: "2026-01-01"})
    line = f"The setting '{name}' does not exist and is ignored"
    assert f"{line}{UNKNOWN_SETTINGS[name]}\n" in run.log


def test_a_null_setting_has_its_default(sync: Sync, sandbox: Sandbox) -> None:
    """A filter that is null is neither sent nor saved in the state."""
    nothing = dict.fromkeys(["start_date", "page_size", "user_agent"])
    run = sync(**nothing, filters={"status": None})
    assert run.code == 0
    query = sandbox.requests[0].query
    assert (query["limit"], "status" in query) == ("100", False)
    assert "filters" not in part_of(run.state)


def test_settings_come_from_the_environment(
    tap: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--config=ENV` reads text, numbers, booleans and objects from `TAP_MEGA_…`."""
    variables = {
        **{name.upper(): value for name, value in sandbox.config().items()},
        "PAGE_SIZE": "50",
        "REQUEST_TIMEOUT": "2.5",
        "INCLUDE_CUSTOM_FIELDS": "False",
        "FILTERS": '{"status": "won"}',
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"TAP_MEGA_{name}", value)
    assert tap("--config=ENV").code == 0
    query = sandbox.requests[0].query
    assert (query["limit"], query["status"]) == ("50", "won")
    assert "include_custom_fields" not in query


UNKNOWN = {
    "PAGESIZE": "; did you mean 'TAP_MEGA_PAGE_SIZE'?",
    "STREAM_MAP": "; did you mean 'TAP_MEGA_STREAM_MAPS'?",
    "FILTERS__STATUS": "; did you mean 'TAP_MEGA_FILTERS_STATUS'?",
    "loglevel": "; did you mean 'TAP_MEGA_LOGLEVEL'?",
    "FILTERS_OWNER": "",
    "COLOUR": "",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_variable_logs_a_warning(
    tap: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A warning names the variable and a similar one, but not its value."""
    monkeypatch.setenv(f"TAP_MEGA_{name}", "a value")
    line = f"The variable 'TAP_MEGA_{name}' does not exist and is ignored"
    for options in ([], ["--config=ENV"]):  # Meltano does not give `ENV`.
        run = tap(*options, "--discover", config=VALID)
        assert f"{line}{UNKNOWN[name]}\n" in run.log
        assert "a value" not in run.log


OF_MELTANO = (
    "PAGE_SIZE",
    "NONSENSE",
    "STREAM_MAPS_LEADS_CONTACT_EMAIL",
    "_SELECT",
    "_LOAD_SCHEMA",
)
"""Variables that Meltano sets, by `meltano.yml` and for its extras."""


@pytest.mark.parametrize("plugin", ["", "COPY_"])
def test_a_variable_of_meltano_logs_no_warning(
    tap: Command, monkeypatch: pytest.MonkeyPatch, plugin: str
) -> None:
    """It sets each variable twice, for a plugin that inherits from another one, too."""
    for name in OF_MELTANO:
        monkeypatch.setenv(f"MELTANO_EXTRACT_{name}", "100")
        monkeypatch.setenv(f"TAP_MEGA_{plugin}{name}", "100")
    monkeypatch.setenv("TAP_MEGA_LOGLEVEL", "INFO")
    monkeypatch.setenv("MELTANO_EXTRACTOR_NAME", "tap-mega")
    run = tap("--discover", config=VALID)
    assert run.code == 0
    assert "WARNING" not in run.log


@pytest.mark.parametrize(("excluded", "count"), [(None, 1), (["budget"], 0)])
def test_a_rule_of_meltano_for_a_custom_field_is_a_warning(
    tap: Command,
    monkeypatch: pytest.MonkeyPatch,
    excluded: list[str] | None,
    count: int,
) -> None:
    """Meltano finds no custom field in the catalog, so the rule would hide nothing."""
    rules = '["leads.*", "!leads.custom_fields.budget", "!leads.custom_fields"]'
    monkeypatch.setenv("MELTANO_EXTRACT__SELECT", rules)
    run = tap("--discover", config={**VALID, "exclude_custom_fields": excluded})
    assert run.log.count("WARNING") == count
    assert run.log.count("The rule '!leads.custom_fields.budget' of 'select'") == count


@pytest.mark.parametrize(
    ("file", "whole", "single", "expected"),
    [
        ({}, None, "won", {"status": "won"}),
        ({}, {"lead_line": "buyer"}, "won", {"status": "won", "lead_line": "buyer"}),
        ({}, {"status": "lost"}, "won", {"status": "won"}),
        ({"lead_line": "buyer"}, None, "won", {"status": "won", "lead_line": "buyer"}),
        ({"lead_line": "buyer"}, {"status": "lost"}, None, {"status": "lost"}),
    ],
)
def test_a_variable_can_set_one_filter(
    sync: Sync,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    file: dict[str, str],
    whole: dict[str, str] | None,
    single: str | None,
    expected: dict[str, str],
) -> None:
    """It replaces that filter only, in the file and in `TAP_MEGA_FILTERS`."""
    if whole:
        monkeypatch.setenv("TAP_MEGA_FILTERS", json.dumps(whole))
    if single:
        monkeypatch.setenv("TAP_MEGA_FILTERS_STATUS", single)
    run = sync("--config=ENV", filters=file)
    assert run.code == 0
    query = sandbox.requests[0].query
    names = {"status", "lead_line"} & set(query)
    assert {name: query[name] for name in names} == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PAGE_SIZE", "ten", "a whole number"),
        ("REQUEST_TIMEOUT", "soon", "a number"),
        ("FILTERS", "{", "a JSON object"),
        ("INCLUDE_CUSTOM_FIELDS", "maybe", "true or false"),
    ],
)
def test_an_invalid_variable_is_one_line(
    tap: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """One line names a variable whose value has the wrong type."""
    monkeypatch.setenv(f"TAP_MEGA_{name}", value)
    run = tap("--config=ENV")
    assert (run.code, run.errors) == (1, [f"TAP_MEGA_{name} must be {words}"])


def test_discovery_ignores_invalid_settings(tap: Command) -> None:
    """`--discover` prints the catalog even if settings are invalid."""
    wrong = {"requests_per_minute": "sixty", "page_size": -5, "api_url": "https://[::1"}
    wrong["custom_field_types"] = "number"
    run = tap("--discover", config=wrong)
    assert run.code == 0
    assert "leads" in run.stdout
