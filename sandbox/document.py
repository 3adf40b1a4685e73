"""The vendor's own document: it says which requests and which leads are right."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import typing as t

import yaml
from jsonschema_path import SchemaPath
from openapi_core import V31RequestUnmarshaller
from openapi_core.datatypes import RequestParameters
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from werkzeug.datastructures import Headers, ImmutableMultiDict

LEADS_PATH = "/api/agents/crm/leads"
CUSTOMER_ID = "00000000-0000-4000-8000-00000000cafe"

Lead: t.TypeAlias = dict[str, t.Any]


class InvalidRequestError(Exception):
    """A request that the API answers with 400; the text says why."""


@functools.cache
def document() -> dict[str, t.Any]:
    """Return the vendor's document, with `nullable` put as its version has it."""
    file = importlib.resources.files("tap_mega") / "openapi" / "openapi.yaml"
    loaded: dict[str, t.Any] = _nullable_as_meant(yaml.safe_load(file.read_text()))
    return loaded


def _nullable_as_meant(part: t.Any) -> t.Any:
    """Return a piece of the document with OpenAPI 3.0's `nullable` as a type "null".

    The document is OpenAPI 3.1, which ignores `nullable`, yet `Stage` has it: a lead
    without a stage has null there.
    https://spec.openapis.org/oas/v3.1.1.html#appendix-c-changes-from-3-0
    """
    if isinstance(part, list):
        return [_nullable_as_meant(item) for item in part]
    if not isinstance(part, dict):
        return part
    changed = {name: _nullable_as_meant(value) for name, value in part.items()}
    if changed.pop("nullable", False):
        changed["type"] = [changed["type"], "null"]
    return changed


@functools.cache
def _lead_validator() -> OAS31Validator:
    schema = {
        "$ref": "#/components/schemas/Lead",
        "components": document()["components"],
    }
    return OAS31Validator(schema, format_checker=oas31_format_checker)


def check_lead(lead: Lead) -> None:
    """Raise ValueError where a lead is not what the document's `Lead` says."""
    for error in _lead_validator().iter_errors(lead):
        msg = f"no lead that the API could send: {error.json_path}: {error.message}"
        raise ValueError(msg)


@dataclasses.dataclass
class _Request:
    """What openapi-core wants to know of a request."""

    parameters: RequestParameters
    host_url: str = document()["servers"][0]["url"]
    path: str = LEADS_PATH
    method: str = "get"
    body: bytes | None = None
    content_type: str = ""


@functools.cache
def _unmarshaller() -> V31RequestUnmarshaller:
    return V31RequestUnmarshaller(SchemaPath.from_dict(document()))


def check_parameters(query: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Return the query's parameters as the document types them, defaults included.

    Raises InvalidRequestError for what the document does not allow. Parameters that it
    does not name are ignored.
    """
    # openapi-core takes 7 ms for a request. The pages of one sync differ in nothing
    # but the cursor, of which the document says no more than that it is a string.
    given = sorted((name, value) for name, value in query.items() if name != "cursor")
    cursor = {"cursor": query["cursor"]} if "cursor" in query else {}
    return {**_checked(tuple(given)), **cursor}


@functools.lru_cache(maxsize=1000)
def _checked(query: tuple[tuple[str, str], ...]) -> t.Mapping[str, t.Any]:
    # Whose request it is has been checked by now, against what the sandbox knows.
    headers = Headers({"Authorization": "Bearer x", "x-customer-id": CUSTOMER_ID})
    parameters = RequestParameters(query=ImmutableMultiDict(query), header=headers)
    result = _unmarshaller().unmarshal(_Request(parameters))
    for error in result.errors:
        raise InvalidRequestError(_told(error))
    return result.parameters.query


def _told(error: Exception) -> str:
    """Return one line for a person on what openapi-core found wrong."""
    causes = getattr(error.__cause__, "schema_errors", ()) or [error.__cause__]
    return f"{error}: {getattr(causes[0], 'message', causes[0])}"
