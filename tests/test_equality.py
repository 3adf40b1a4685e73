"""Test that the fast code writes the same messages as the SDK's own code."""

from __future__ import annotations

import decimal
import json
import tempfile
import typing as t
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.io_base import SingerWriter
from singer_sdk.singerlib.json import serialize_json
from typing_extensions import override

from sandbox import Fault, Sandbox
from tap_mega.api import page as page_module
from tap_mega.openapi import DOCUMENT
from tap_mega.streams import LeadsStream
from tap_mega.tap import TapMega
from testing.clock import FakeClock
from testing.harness import FLATTENING, Command, Run

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    Json: t.TypeAlias = dict[str, t.Any]

text = st.text(st.characters(exclude_categories=()))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=5,
)


def objects(schema: Json) -> st.SearchStrategy[Json]:
    """Return random objects: with and without the named properties, and with others."""
    named = {
        name: objects(inner) | values if "properties" in inner else values
        for name, inner in schema["properties"].items()
    }
    known = st.fixed_dictionaries({}, optional=named)
    unknown: st.SearchStrategy[Json] = st.dictionaries(
        text, values, max_size=1
    ) | st.just({})
    return st.builds(lambda one, other: other | one, known, unknown)


KEY = {"id": "1", "updated_at": "2026-07-01T18:20:00.000Z"}
leads = objects(DOCUMENT.get_schema("Lead")).map(lambda lead: lead | KEY)
pages = st.lists(leads, max_size=3)
shapes: st.SearchStrategy[Json] = st.sampled_from([{}, FLATTENING])


class PlainLeads(LeadsStream):
    """Leave selection and mapping to the SDK, whose conformance changes nothing."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.RECURSIVE
    _is_plain = False


class PlainWriter(SingerWriter):
    """Write each message separately."""

    has_records = False

    def flush(self) -> None:
        """Do nothing, because every message is already written."""


class PlainTap(TapMega):
    """Use the SDK's own writer."""

    message_writer_class = PlainWriter  # type: ignore[assignment]

    @override
    def discover_streams(self) -> list[LeadsStream]:
        """Return the only stream."""
        return [PlainLeads(self)]


class NoDecoder:
    """Replace the fast decoder, so that the standard library decodes instead."""

    def __init__(self, **_: object) -> None:
        """Accept what a decoder does."""

    def decode(self, _: bytes) -> t.NoReturn:
        """Fail to decode."""
        raise msgspec.DecodeError


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    """Provide an API that returns scripted bodies."""
    with Sandbox(leads=0) as sandbox:
        yield sandbox


def body_of(page: list[Json]) -> str:
    """Return a response with these leads, in UTF-8 if possible."""
    response = {"leads": page, "next_cursor": None, "total": len(page)}
    body = serialize_json(response, ensure_ascii=False)
    return body if body.isprintable() else serialize_json(response)


def messages(run: Run) -> list[str]:
    """Return every message of a run in full precision, without its timestamp."""
    read = [json.loads(it, parse_float=decimal.Decimal) for it in run.lines]
    return [repr({k: v for k, v in it.items() if k != "time_extracted"}) for it in read]


ODD: tuple[t.Any, ...] = (2, 0, "no", [], None)
ODD_LEADS: list[Json] = [
    *({**KEY, "qualified": it} for it in ODD),
    KEY | {"owner": {"id": "1", "unknown": 5}},
    KEY | {"unknown": {"a": 1}},
    KEY | {"owner": None, "current_stage": None},
    KEY | {"owner": "someone", "custom_fields": None},
]


@settings(max_examples=40, deadline=None)
@example(page=ODD_LEADS, shape={})
@example(page=ODD_LEADS[:-1], shape=FLATTENING)
@given(page=pages, shape=shapes)
def test_speed_changes_no_message(api: Sandbox, page: list[Json], shape: Json) -> None:
    """For any response, the messages are the same with and without the fast code."""
    api.script(Fault("body", times=None, body=body_of(page)))
    config = {**api.config(), **shape}
    with tempfile.TemporaryDirectory() as folder:
        tap = Command(Path(folder))
        fast = tap(config=config, clock=FakeClock())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(page_module, "Decoder", NoDecoder)
            plain = tap(config=config, clock=FakeClock(), tap=PlainTap)
    assert (fast.code, fast.errors) == (plain.code, plain.errors)
    assert messages(fast) == messages(plain)
    assert len(fast.records) == len(page)
