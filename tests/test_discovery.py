"""Test the catalog, `--test` and `--about`, and run the SDK's standard tests."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
import typing as t

import pytest
from singer_sdk.testing import SuiteConfig, TapTestRunner, get_tap_test_class

from sandbox import Sandbox
from tap_mega.tap import TapMega
from testing.harness import stream_of

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from testing.harness import Command, Json, Sync


def test_discovery_needs_no_settings(tap: Command) -> None:
    """`--discover` without a configuration prints the catalog."""
    run = tap("--discover")
    catalog = json.loads(run.stdout)
    assert run.code == 0
    assert [it["tap_stream_id"] for it in catalog["streams"]] == ["leads"]
    assert stream_of(catalog)["key_properties"] == ["id"]
    for stream in catalog["streams"]:
        assert stream["replication_key"] == "updated_at"
        assert stream["replication_method"] == "INCREMENTAL"


def test_the_schema_matches_the_vendors_document(tap: Command) -> None:
    """The schema has each property of `Lead` with its type and format, and one more."""
    path = importlib.resources.files("tap_mega") / "openapi/openapi.json"
    document = json.loads(path.read_bytes())
    schemas = document["components"]["schemas"]
    emitted = stream_of(json.loads(tap("--discover").stdout))["schema"]
    *names, last = emitted["properties"]
    assert (names, last) == (list(schemas["Lead"]["properties"]), "rescued_data")
    assert emitted["required"] == schemas["Lead"]["required"]
    assert emitted["properties"]["id"] == {"type": "string", "maxLength": 255}
    for name, written in schemas["Lead"]["properties"].items():
        if "$ref" in written:
            written = schemas[written["$ref"].rpartition("/")[2]]  # noqa: PLW2901
        found = emitted["properties"][name]
        types = written["type"]
        nullable = {"null", *([types] if isinstance(types, str) else types)}
        kind = found["type"]
        assert kind == "string" if name == "id" else set(kind) == nullable
        assert found.get("format") == written.get("format")
        assert set(found.get("properties", ())) == set(written.get("properties", ()))


def test_the_schema_test_mode_sends_no_request(sync: Sync, sandbox: Sandbox) -> None:
    """`--test=schema` writes the SCHEMA messages and sends no request."""
    run = sync("--test=schema", include_lead_changes=True)
    catalog = json.loads(sync("--discover", include_lead_changes=True).stdout)
    assert {it["type"] for it in run.messages} == {"SCHEMA"}
    for it, name in zip(run.messages, ("lead_changes", "leads"), strict=True):
        found = stream_of(catalog, name)["schema"]["properties"]
        assert (it["stream"], it["schema"]["properties"]) == (name, found)
    assert not sandbox.requests


def test_about_as_json_is_complete(tap: Command) -> None:
    """`--about --format=json` gives the title, description and type of each setting."""
    about = json.loads(tap("--about", "--format=json").stdout)
    settings = about["settings"]["properties"]
    secrets = {name for name, it in settings.items() if it.get("secret")}
    assert (about["name"], secrets) == ("tap-mega", {"auth_token", "customers"})
    for setting in settings.values():
        assert all(setting[it] for it in ("title", "description", "type"))


def test_about_as_markdown_is_complete(tap: Command) -> None:
    """`--about --format=markdown` has a row for every setting and every filter."""
    rows = tap("--about", "--format=markdown").stdout
    settings = TapMega.config_jsonschema["properties"]
    filters = (f"filters.{it}" for it in settings["filters"]["properties"])
    assert all(f"| {name} |" in rows for name in (*settings, *filters))


def test_the_module_is_the_command_too() -> None:
    """`python -m tap_mega` needs no script on the path."""
    command = [sys.executable, "-m", "tap_mega", "--version"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    assert output.startswith(b"tap-mega v")


def test_the_catalog_of_many_customers_names_them_in_the_key(tap: Command) -> None:
    """`--discover` with `customers` has another key, and sends no request."""
    with Sandbox(leads=5, customers=3) as api:
        run = tap("--discover", config={**api.config(), "include_lead_changes": True})
        assert not api.requests
    keys = {"leads": ["customer_id", "id"]}
    keys["lead_changes"] = [*keys["leads"], "updated_at"]
    for name, key in keys.items():
        stream = stream_of(json.loads(run.stdout), name)
        found = (stream["key_properties"], stream["replication_key"])
        assert found == (key, "updated_at")
        assert stream["schema"]["properties"]["customer_id"]["type"] == "string"


@pytest.mark.parametrize("options", [[], ["--format=json"], ["--format=markdown"]])
def test_about_never_shows_a_token(tap: Command, options: list[str]) -> None:
    """`--about` with `customers` describes the tap, and sends no request."""
    with Sandbox(leads=5, customers=3) as api:
        run = tap("--about", *options, config=api.config())
        assert not api.requests
    assert run.code == 0
    assert "customers" in run.stdout
    for customer in api.customers:
        assert customer.auth_token not in run.stdout + run.log


SUITE = SuiteConfig(max_records_limit=150)
UNUSED_CONFIG = {
    "auth_token": "mega_0123456789abcdef",
    "customer_id": "00000000-0000-4000-8000-000000000000",
    "api_url": "http://127.0.0.1:9",
}
"""Enough to collect the tests; none of them uses these values."""


def all_selected(config: Json) -> Json:
    """Return a catalog that selects both streams."""
    catalog = TapMega(config=dict(config)).catalog_dict
    for stream in catalog["streams"]:
        stream["metadata"][-1]["metadata"]["selected"] = True
    return catalog


class TestStandard(
    get_tap_test_class(  # type: ignore[misc]  # the class is created at run time
        TapMega,
        config=UNUSED_CONFIG,
        suite_config=SUITE,
        parse_env_config=False,
        catalog=all_selected(UNUSED_CONFIG),
    )
):
    """Run the SDK's standard tests against the sandbox instead of the live API."""

    customers = 1

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> Iterator[TapTestRunner]:
        """Provide a runner whose tap reads the sandbox."""
        with Sandbox(leads=250, customers=cls.customers) as api:
            runner = TapTestRunner(
                tap_class=TapMega,
                config=api.config(),
                suite_config=SUITE,
                parse_env_config=False,
                catalog=all_selected(api.config()),
            )
            runner.sync_all()
            yield runner


class TestStandardWithCustomers(TestStandard):
    """Run them with three customers."""

    customers = 3
