"""Test which mapped streams hold each lead once, with the SDK's own stream maps."""

from __future__ import annotations

import typing as t

import pytest

from sandbox import Sandbox
from tap_mega.records.flatten import Shape
from tap_mega.tap import TapMega

if t.TYPE_CHECKING:
    from singer_sdk import Stream

    Json: t.TypeAlias = dict[str, t.Any]

RENAMED: Json = {"lead_id": "id", "id": "__NULL__", "__key_properties__": ["lead_id"]}


def stream_with(stream_maps: Json, **config: t.Any) -> Stream:
    """Return the stream `leads` with a setting `stream_maps`."""
    with Sandbox(leads=0) as api:
        settings = {**api.config(), "stream_maps": stream_maps, **config}
        return TapMega(config=settings).streams["leads"]


KEEPING: list[Json] = [
    *({}, {"contact_email": "__NULL__"}, {"__else__": None, "id": "id"}, RENAMED),
    {"id": "sha256(config['salt'] + id)"},
    {"lead_id": "id", "__key_properties__": ["id", "lead_id"]},
]
LOSING: list[Json | None] = [
    *(None, {"id": "id + updated_at"}, {"id": "str(now())"}),
    *({**RENAMED, "lead_id": it} for it in ("contact_email", "'one'")),
    {"id": "__NULL__", "__key_properties__": None},
    *(
        {"__key_properties__": it}
        for it in ([], ["contact_email"], ["id", "updated_at"])
    ),
]


@pytest.mark.parametrize("definition", [*KEEPING, *LOSING], ids=str)
def test_a_map_that_keeps_the_key_keeps_each_lead_once(definition: Json | None) -> None:
    """The key may have another name, but is made of the whole key, and only of it."""
    stream = stream_with({"leads": definition}, stream_map_config={"salt": "x"})
    assert Shape(stream).replaced == ({"leads"} if definition in KEEPING else set())


def test_an_alias_may_be_an_expression() -> None:
    """The SDK evaluates it, so a filter is found by the name of the result."""
    definition = {"__alias__": "'my_' + __stream_name__", "__filter__": "score > 5"}
    stream = stream_with({"leads": {**RENAMED, **definition}})
    assert Shape(stream).replaced == Shape(stream).filtered == {"my_leads"}


def test_added_streams_count_by_themselves() -> None:
    """A history next to the leads is no table of leads, and its filter is its own."""
    history = {
        "__source__": "leads",
        "__filter__": "status == 'won'",
        "__key_properties__": ["id", "updated_at"],
    }
    copy = {"__source__": "leads", **RENAMED}
    stream = stream_with({"history": history, "copy": copy})
    assert Shape(stream).replaced == {"leads", "copy"}
    assert Shape(stream).filtered == {"history"}


def test_with_customers_the_whole_key_counts() -> None:
    """With `customers`, half of the key is not enough; both in one text are."""
    with Sandbox(leads=0, customers=2) as api:
        config = api.config()
    half = {"__key_properties__": ["id"]}
    for definition, names in (
        ({}, {"leads"}),
        (half, set()),
        ({**half, "id": "customer_id + id"}, {"leads"}),
    ):
        settings = {**config, "stream_maps": {"leads": definition}}
        stream = TapMega(config=settings).streams["leads"]
        assert Shape(stream).replaced == names
