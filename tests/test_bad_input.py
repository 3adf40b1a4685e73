"""Test that wrong input is one line that names what to fix, and quotes no secret."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import typing as t
import warnings
from pathlib import Path

import pytest
from typing_extensions import override

from tap_mega.tap import TapMega
from testing.harness import Run

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from singer_sdk import Stream

    from sandbox import Sandbox
    from testing.clock import FakeClock
    from testing.harness import Command, Sync

    Json: t.TypeAlias = dict[str, t.Any]

TAP = Path(sys.executable).parent / "tap-mega"
TOKEN = "mega_0123456789abcdef"  # noqa: S105 - plainly fake
FILE_OPTIONS = ["--config", "--state", "--catalog"]


def check_one_line(run: Run, *words: str) -> None:
    """Check that a run failed with one line, which has these words."""
    assert run.code == 1
    assert len(run.errors) == 1
    assert all(word in run.errors[0] for word in words), run.errors
    assert "Traceback" not in run.log
    assert "report this line" not in run.log


# Files


@pytest.mark.parametrize("option", FILE_OPTIONS)
@pytest.mark.parametrize(
    "value",
    [json.dumps({"auth_token": TOKEN}), TOKEN, f"{TOKEN}\n", 200 * TOKEN, f"a/{TOKEN}"],
    ids=["JSON", "token", "line", "long", "folder"],
)
def test_a_secret_in_the_place_of_a_path_is_not_logged(
    tap: Command, sandbox: Sandbox, option: str, value: str
) -> None:
    """The line names the option, and not what may be a secret."""
    (tap.folder / "good.json").write_text(json.dumps(sandbox.config()))
    run = tap(f"--config={tap.folder}/good.json", f"{option}={value}")
    check_one_line(run, f"{option} must name a file")
    assert TOKEN not in run.log
    assert not sandbox.requests


@pytest.mark.parametrize(
    ("argument", "words"),
    [(TOKEN, "takes only options"), (f"--catalogue={TOKEN}", "'--catalogue'")],
)
def test_a_secret_in_the_place_of_an_option_is_not_logged(
    tap: Command, argument: str, words: str
) -> None:
    """An argument that belongs to no option may be a token."""
    run = tap(argument)
    check_one_line(run, words)
    assert TOKEN not in run.log


@pytest.mark.parametrize("option", FILE_OPTIONS)
@pytest.mark.parametrize(
    "path", ["/nowhere/tap-mega.json", "tap_mega config.json", "../~/state.JSON"]
)
def test_a_missing_file_is_named(tap: Command, option: str, path: str) -> None:
    """What is plainly a path is in the line."""
    check_one_line(tap(f"{option}={path}"), option, f"'{path}'")


def give(tap: Command, sandbox: Sandbox, option: str, content: str) -> Run:
    """Run the command with a file for an option, after a configuration that works."""
    (tap.folder / "good.json").write_text(json.dumps(sandbox.config()))
    path = tap.folder / "given.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    return tap(f"--config={tap.folder}/good.json", f"{option}={path}")


NO_OBJECTS = {
    "cut": "{",
    "NUL": "\0",
    "list": "[1]",
    "no UTF-8": "\udcff",
    "empty": "",
    "NaN": "NaN",
    "NaN in": '{"a": NaN}',
    "Infinity": '{"a": -Infinity}',
    "deep": 9000 * "[",
    "digits": f'{{"a": {5000 * "1"}}}',
}


@pytest.mark.parametrize("option", FILE_OPTIONS)
@pytest.mark.parametrize("content", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_content_that_is_no_json_object_is_one_line(
    tap: Command, sandbox: Sandbox, option: str, content: str
) -> None:
    """The line names the option, before any request. Only a state may be empty."""
    run = give(tap, sandbox, option, content)
    if (option, content) == ("--state", ""):
        assert run.code == 0
    else:
        check_one_line(run, option.strip("-"))
        assert not sandbox.requests


@pytest.mark.parametrize("option", FILE_OPTIONS)
@pytest.mark.parametrize(
    ("content", "place"),
    [
        (f'{{"auth_token": "{TOKEN}",\n  "page_size" 5}}', "line 2, column 15"),
        ('{"page_size": 5\n\n', "line 1, column 16"),
    ],
)
def test_broken_json_has_a_line_and_a_column(
    tap: Command, sandbox: Sandbox, option: str, content: str, place: str
) -> None:
    """The line of the log names the file and the place, and quotes nothing."""
    run = give(tap, sandbox, option, content)
    check_one_line(run, f"{option} must name a file that holds a JSON object: the file")
    assert run.errors[0].endswith(f"'{tap.folder}/given.json' is not JSON at {place}")
    assert TOKEN not in run.log


@pytest.mark.parametrize("option", FILE_OPTIONS)
def test_a_byte_order_mark_is_no_mistake(
    sync: Sync, tap: Command, sandbox: Sandbox, option: str
) -> None:
    """Editors of Windows write one at the start of a file."""
    first = sync()
    contents: Json = {
        "--config": sandbox.config(),
        "--state": first.state,
        "--catalog": json.loads(tap("--discover").stdout),
    }
    run = give(tap, sandbox, option, f"\ufeff{json.dumps(contents[option])}")
    assert (run.code, run.errors) == (0, [])


def test_a_state_that_meltano_prints_is_taken(sync: Sync, sandbox: Sandbox) -> None:
    """`meltano state get` prints the state inside of an object."""
    first = sync()
    state = {"singer_state": first.state}
    run = sync(state=state)
    assert (run.code, run.state) == (0, first.state)
    assert "updated_since" in sandbox.requests[-1].query
    assert "WARNING" not in run.log


@pytest.mark.parametrize("option", FILE_OPTIONS)
def test_an_empty_path_and_a_folder_are_one_line(
    tap: Command, option: str, tmp_path: Path
) -> None:
    """An unset variable in a script makes an empty path."""
    check_one_line(tap(f"{option}="), option)
    check_one_line(tap(f"{option}={tmp_path}"), option)


def test_several_config_files_are_merged(
    tap: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later files count more than earlier ones, and variables count most."""
    files = {"a": {**sandbox.config(), "page_size": 10}, "b": {"page_size": 20}}
    for name, content in files.items():
        (tap.folder / f"{name}.json").write_text(json.dumps(content))
    options = [f"--config={tap.folder}/{name}.json" for name in files]
    assert tap(*options).code == 0
    monkeypatch.setenv("TAP_MEGA_PAGE_SIZE", "30")
    assert tap(*options, "--config=ENV").code == 0
    limits = [request.query["limit"] for request in sandbox.requests]
    assert (limits[0], limits[-1]) == ("20", "30")


# Settings


@pytest.mark.parametrize(
    "start", ["2025-06-01t00:00:00z", "2025-06-01", "2025-06-01T02:00:00+02:00"]
)
def test_any_iso_date_is_sent_as_the_api_writes_it(
    sync: Sync, sandbox: Sandbox, start: str
) -> None:
    """The API takes small letters for another text, and finds no lead."""
    filters = {"created_since": start}
    assert sync(start_date=start, filters=filters).code == 0
    query = sandbox.requests[0].query
    assert query["updated_since"] == "2025-06-01T00:00:00.000Z"
    assert query["created_since"] == "2025-06-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ({"__else__": "x"}, "must be of the shape"),
        ({"leads": {"__else__": "x"}}, "must be of the shape"),
        ({"leads": {"x": "md5(contact_name"}}, "'x' is not a valid expression"),
        ({"leads": {"__filter__": "md5("}}, "'__filter__' or '__alias__' is not a va"),
        ({"leads": {"__key_properties__": ["x"]}}, "Invalid key properties for 'leads"),
    ],
)
def test_a_wrong_stream_map_is_one_line(
    sync: Sync, sandbox: Sandbox, maps: Json, words: str
) -> None:
    """The SDK finds it before any request. The line quotes no expression."""
    run = sync(stream_maps=maps)
    check_one_line(run, "setting 'stream_maps", words)
    assert "md5" not in run.log
    assert (run.stdout, sandbox.requests) == ("", [])


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        *(("x", it) for it in ("contact_email.strip()", "int(contact_name)")),
        *(("x", it) for it in ("nothing + 1", "config['salt']", "custom_fields['z']")),
        ("__filter__", "score > 5"),
    ],
)
@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_stream_map_that_fails_on_a_lead_names_its_property(
    sync: Sync,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    expression: str,
    level: str,
) -> None:
    """The line names neither a value of the lead nor the expression: it may be salt."""
    monkeypatch.setenv("LOGLEVEL", level)
    run = sync(stream_maps={"leads": {"__alias__": "people", name: expression}})
    check_one_line(run, f"for '{name}' of the stream 'people' failed", "'stream_maps'")
    assert expression not in run.errors[0]
    assert not any(str(it["contact_name"]) in run.log for it in sandbox.leads.all())


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:9", "HTTP://127.0.0.1:9", "http://[::1]:9"]
)
def test_this_machine_may_have_http(tap: Command, url: str) -> None:
    """In any notation, beside https anywhere."""
    customer = "00000000-0000-4000-8000-000000000000"
    config = {"auth_token": TOKEN, "customer_id": customer, "api_url": url}
    assert tap("--test=schema", config=config).code == 0


# The environment


@pytest.mark.parametrize("variable", ["LOGLEVEL", "TAP_MEGA_LOGLEVEL"])
@pytest.mark.parametrize("level", ["trace", "10", "very loud"])
def test_an_unknown_log_level_is_one_line(
    tap: Command, monkeypatch: pytest.MonkeyPatch, variable: str, level: str
) -> None:
    """The line names the variable and the level."""
    monkeypatch.setenv(variable, level)
    check_one_line(tap("--discover"), variable, f"Unknown level: '{level.upper()}'")


BROKEN = [
    *("{", "[]", "text", "version: 2"),
    "version: 1\nhandlers: {x: {class: none.Such}}",
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_log_configuration_is_one_line(
    tap: Command, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """The line names the variable."""
    path = tap.folder / "logging.yaml"
    path.write_text(content)
    monkeypatch.setenv("SINGER_SDK_LOG_CONFIG", str(path))
    check_one_line(tap("--discover"), "The log cannot be set up", "SINGER_SDK_LOG")


def test_a_missing_log_configuration_is_a_warning(
    sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on with the log that it has."""
    monkeypatch.setenv("SINGER_SDK_LOG_CONFIG", "/nowhere/logging.yaml")
    run = sync("--test")
    assert run.code == 0
    assert "Logging config file not found: /nowhere/logging.yaml" in run.log


def test_a_log_configuration_cannot_reveal_the_query(
    sync: Sync, tap: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that asks for what urllib3 logs of each request."""
    path = tap.folder / "logging.yaml"
    debug = {"level": "DEBUG"}
    loggers = {"urllib3.connectionpool": debug, "urllib3": debug}
    content = {"version": 1, "disable_existing_loggers": False, "loggers": loggers}
    path.write_text(json.dumps(content))
    monkeypatch.setenv("SINGER_SDK_LOG_CONFIG", str(path))
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    run = sync(filters={"search": "needle"})
    assert run.code == 0
    assert "needle" not in run.log


# The output


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["--discover", "--about", "--version", "--help"])
def test_a_full_disk_is_one_line(option: str, unbuffered: str) -> None:
    """What `print` could not write is an error, and not lost without a word."""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        pipes: Json = {"stdout": full, "stderr": subprocess.PIPE, "text": True}
        done = subprocess.run([TAP, option], check=False, env=environment, **pipes)
    run = Run(done.returncode, "", done.stderr)
    check_one_line(run, "Cannot write to stdout: No space left on device")
    assert "Exception ignored" not in run.log


@pytest.mark.parametrize("option", ["--discover", "--about"])
def test_a_closed_pipe_is_the_usual_exit_code(option: str) -> None:
    """A reader that goes away ends the command quietly, as in a sync."""
    reader, writer = os.pipe()
    os.close(reader)
    pipes: Json = {"stdout": writer, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run([TAP, option], check=False, **pipes)
    os.close(writer)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# What nobody expects


class BuggyTap(TapMega):
    """A tap with a bug whose message quotes a lead."""

    @override
    def discover_streams(self) -> t.NoReturn:
        raise OSError(errno.EBADMSG, TOKEN)


def test_an_unexpected_error_is_one_line_with_its_place(tap: Command) -> None:
    """The line names the place, and not the message: it may quote a lead."""
    run = tap("--discover", tap=BuggyTap)
    assert run.code == 1
    (line,) = run.errors
    assert line.startswith("Unexpected OSError at tests/test_bad_input.py:")
    assert "Check the SDK's settings, such as 'stream_maps'" in line
    assert line.endswith("report this line as a bug of tap-mega")
    assert TOKEN not in run.log
    assert "Traceback" not in run.log


class WarningTap(TapMega):
    """A tap with a library that warns."""

    @override
    def discover_streams(self) -> Sequence[Stream]:
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)
        return super().discover_streams()


def test_a_warning_of_python_is_a_line_of_the_log(
    tap: Command, sandbox: Sandbox, clock: FakeClock
) -> None:
    """It has a time and a level like all lines, and does not break off the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run = tap(config=sandbox.config(), clock=clock, tap=WarningTap)
    assert run.code == 0
    line = next(it for it in run.log.splitlines() if "soon gone" in it)
    assert " | WARNING  | py.warnings " in line
