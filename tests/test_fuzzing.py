"""Run the command with settings, states and catalogs that nobody would write."""

from __future__ import annotations

import copy
import json
import os
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import NO_LIMITS, Sandbox
from tap_mega.tap import TapMega
from testing.clock import FakeClock
from testing.harness import Command

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    Json: t.TypeAlias = dict[str, t.Any]

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZING_EXAMPLES", "300"))

SECRET = "secret-needle"  # noqa: S105 - what a filter looks for
KEYS = {"leads": ["id"], "lead_changes": ["id", "updated_at"]}
SILENT_MODES = [("--discover",), ("--custom-fields",)]
"""These write no Singer messages."""
MODES = [(), (), (), ("--test",), ("--test=schema",), *SILENT_MODES]
WORDS = ["", "id", "leads", "updated_at", "FULL_TABLE", "true", "file://x", "\0", "é"]
DATES = ["2026-01-01", "2026-01-01t00:00:00z", "9999-12-31T23:59:59Z", "0001-01-01"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([10**30, -(10**30), 0.5, 1e300, 1e-9])
    | st.sampled_from([*WORDS, *DATES])
    | st.sampled_from([float("nan"), "\ud83d", SECRET])
    # No path: a test must not write outside of its folder.
    | st.text(st.characters(exclude_characters="/\\.~:"), max_size=9)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner)
    ),
    max_leaves=6,
)
expressions = st.sampled_from(
    [
        *("id", "_", "1 +", "", "self", "record", "sha256(id)", "int(id)"),
        *("import os", "x.y"),
    ]
)
maps = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["id", "updated_at", "x", "owner"], expressions | values),
        "__filter__": expressions | values,
        "__else__": st.none() | st.just("__NULL__") | values,
        "__alias__": st.just("people") | expressions | values,
        "__source__": st.just("leads") | values,
        "__key_properties__": st.lists(st.sampled_from(["id", "x"])) | values,
    },
)
customers = st.lists(
    st.fixed_dictionaries(
        {
            "auth_token": st.just(Sandbox.token) | values,
            "customer_id": st.just(Sandbox.customer_id) | values,
        },
        optional={"name": values},
    ),
    max_size=2,
)
LIKELY: dict[str, st.SearchStrategy[t.Any]] = {
    # Never null, nor one that works: a test must not reach the real API.
    "api_url": st.sampled_from(["", "ftp://127.0.0.1", "http://[", "https://a b", 1]),
    # Few: each fault would be tried so often.
    "backoff_max_tries": st.integers(-1, 3) | st.text(),
    "flattening_enabled": st.booleans(),
    "flattening_max_depth": st.integers(-1, 3) | scalars,
    "flattening_max_key_length": st.integers(-1, 9) | scalars,
    "flattening_separator": st.sampled_from(["", "_", "__", "."]) | scalars,
    "customers": customers | values,
    "custom_field_types": st.dictionaries(
        st.sampled_from(["budget", "a b", ""]), st.sampled_from(["number", "x"])
    )
    | values,
    "filters": st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["won", "x"]) | values,
            "search": st.just(SECRET) | values,
            "created_since": st.sampled_from(DATES) | values,
        },
    )
    | values,
    "end_date": st.sampled_from(DATES) | values,
    "max_run_seconds": st.integers(-1, 3) | values,
    "start_date": st.sampled_from(DATES) | values,
    "stream_maps": st.dictionaries(
        st.sampled_from(["leads", "people", "__else__", "*"]), maps | values
    )
    | values,
}
"""Values that are nearly valid, by setting."""


def names() -> list[str]:
    """Return the names of all settings, those of the SDK included."""
    TapMega.append_builtin_config(TapMega.config_jsonschema)
    return sorted(TapMega.config_jsonschema["properties"])


@st.composite
def configs(draw: st.DrawFn) -> Json:
    """Return some settings, each nearly valid or not at all."""
    chosen = draw(st.lists(st.sampled_from([*names(), *LIKELY, "unknown"]), max_size=3))
    config = {name: draw(LIKELY.get(name, values)) for name in chosen}
    if "customers" in config and draw(st.booleans()):  # It replaces these.
        config |= {"auth_token": None, "customer_id": None}
    return config


@st.composite
def mutated(draw: st.DrawFn, good: Json) -> object:
    """Return a document with a few changes at random places."""
    document: t.Any = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        place = document
        while isinstance(place, (dict, list)) and place:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(list(keys)))
            if draw(st.integers(0, 4)) == 0 or not isinstance(place[key], (dict, list)):
                change(draw, place, key)
                break
            place = place[key]
    return document


def change(draw: st.DrawFn, place: t.Any, key: t.Any) -> None:
    """Replace or remove a part of a document, or put it elsewhere."""
    match draw(st.sampled_from(["replace", "replace", "remove", "repeat"])):
        case "replace":
            place[key] = draw(values)
        case "remove":
            del place[key]
        case "repeat" if isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
        case _:
            place[draw(st.sampled_from(WORDS))] = place[key]


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    """Provide an API with two pages of leads."""
    with Sandbox(leads=12, limits=NO_LIMITS, clock=FakeClock().time) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Provide the command, in a folder of its own for relative paths."""
    folder = tmp_path_factory.mktemp("fuzzing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Command(folder)


@pytest.fixture(scope="module")
def good(api: Sandbox, command: Command) -> Json:
    """Return a state and a catalog that are right."""
    state = command(config=api.config(), clock=FakeClock()).state
    return {"state": state, "catalog": json.loads(command("--discover").stdout)}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_no_input_is_a_bug_or_reveals_a_secret(
    api: Sandbox, command: Command, good: Json, data: st.DataObject
) -> None:
    """Any input works, or is lines that name what to fix, with exit code 1."""
    mode = data.draw(st.sampled_from(MODES), "mode")
    bad = data.draw(st.sets(st.sampled_from(["config", "state", "catalog"])), "bad")
    extra = data.draw(configs()) if "config" in bad else {}
    files: Json = {
        name: json.dumps(data.draw(mutated(document), name))
        for name, document in good.items()
        if name in bad
    }
    config = {**api.config(), "backoff_max_tries": 1, "page_size": 10, **extra}
    run = command(*mode, config=config, clock=FakeClock(), **files)
    assert run.code == (1 if run.errors else 0)
    for words in ("Traceback", "report this line", api.token, SECRET):
        assert words not in run.log
    if mode not in SILENT_MODES and "stream_maps" not in extra:
        assert all({"id", "updated_at"} <= set(record) for record in run.records)
        schemas = [it for it in run.messages if it["type"] == "SCHEMA"]
        assert all(it["key_properties"] == KEYS[it["stream"]] for it in schemas)
