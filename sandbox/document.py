"""The vendor's OpenAPI document, which defines valid requests and valid leads."""

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
    """An invalid request. The API answers it with 400 and this text."""


@functools.cache
def document() -> dict[str, t.Any]:
    """Return the vendor's document, with `nullable` translated to OpenAPI 3.1."""
    file = importlib.resources.files("tap_mega") / "openapi" / "openapi.yaml"
    loaded: dict[str, t.Any] = _translate_nullable(yaml.safe_load(file.read_text()))
    return loaded


def _translate_nullable(part: t.Any) -> t.Any:
    """Replace OpenAPI 3.0's `nullable` in a part of the document by the type "null".

    The document declares OpenAPI 3.1, which ignores `nullable`. Its schema `Stage`
    uses the keyword all the same: a lead without a stage has null there.
    https://spec.openapis.org/oas/v3.1.1.html#appendix-c-changes-from-3-0
    """
    if isinstance(part, list):
        return [_translate_nullable(item) for item in part]
    if not isinstance(part, dict):
        return part
    changed = {name: _translate_nullable(value) for name, value in part.items()}
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
    """Raise ValueError if a lead does not match the document's schema `Lead`."""
    for error in _lead_validator().iter_errors(lead):
        msg = (
            f"the document does not allow this lead: {error.json_path}: {error.message}"
        )
        raise ValueError(msg)


@dataclasses.dataclass
class _Request:
    """The attributes of a request that openapi-core reads."""

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
    """Return the parameters with the document's types and defaults.

    Raises InvalidRequestError if the document does not allow a value. Parameters that
    the document does not name are ignored.
    """
    # openapi-core takes 7 ms per request, so its result is cached. The cursor stays
    # out of the cache: it differs on each page, and the document only says that it is
    # a string.
    others = sorted((name, value) for name, value in query.items() if name != "cursor")
    cursor = {"cursor": query["cursor"]} if "cursor" in query else {}
    return {**_unmarshal(tuple(others)), **cursor}


@functools.lru_cache(maxsize=1000)
def _unmarshal(query: tuple[tuple[str, str], ...]) -> t.Mapping[str, t.Any]:
    # openapi-core wants these headers. The sandbox has checked the real ones already.
    headers = Headers({"Authorization": "Bearer x", "x-customer-id": CUSTOMER_ID})
    parameters = RequestParameters(query=ImmutableMultiDict(query), header=headers)
    result = _unmarshaller().unmarshal(_Request(parameters))
    for error in result.errors:
        raise InvalidRequestError(_format_error(error))
    return result.parameters.query


def _format_error(error: Exception) -> str:
    """Return one line that explains an error of openapi-core."""
    causes = getattr(error.__cause__, "schema_errors", ()) or [error.__cause__]
    return f"{error}: {getattr(causes[0], 'message', causes[0])}"
