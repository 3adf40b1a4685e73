"""The vendor's OpenAPI document, which defines valid requests and valid leads."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
import typing as t

from openapi_schema_validator import OAS31Validator, oas31_format_checker

from sandbox.responses import InvalidRequestError
from sandbox.timestamps import parse_timestamp

LEADS_PATH = "/api/agents/crm/leads"
CUSTOMER_ID = "00000000-0000-4000-8000-00000000cafe"
INTEGER = re.compile(r"-?[0-9]{1,18}")
"""The database stores 64 bits, which 18 digits never exceed."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

NO_FILTERS = {
    *("sort_by", "sort_dir", "cursor", "limit", "offset"),
    "include_custom_fields",
}
"""The query parameters that do not select leads."""

Lead: t.TypeAlias = dict[str, t.Any]


@functools.cache
def document() -> dict[str, t.Any]:
    """Return the vendor's document, with `nullable` translated to OpenAPI 3.1."""
    file = importlib.resources.files("tap_mega") / "openapi" / "openapi.json"
    loaded: dict[str, t.Any] = _translate_nullable(json.loads(file.read_bytes()))
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


def check_parameters(query: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Return the parameters with the document's types and defaults.

    Raises InvalidRequestError if the document does not allow a value. Parameters that
    the document does not name are ignored.
    """
    parameters = {}
    for name, schema in _parameter_schemas().items():
        if name in query:
            parameters[name] = _parse(name, query[name], schema)
        elif "default" in schema:
            parameters[name] = schema["default"]
    return parameters


def filter_names() -> list[str]:
    """Return the names of the query parameters that select leads."""
    return [name for name in _parameter_schemas() if name not in NO_FILTERS]


def lead_properties() -> t.Collection[str]:
    """Return the names of a lead's properties."""
    properties: dict[str, object] = document()["components"]["schemas"]["Lead"][
        "properties"
    ]
    return properties.keys()


@functools.cache
def _parameter_schemas() -> dict[str, t.Any]:
    parameters = document()["paths"][LEADS_PATH]["get"]["parameters"]
    return {it["name"]: it["schema"] for it in parameters if it.get("in") == "query"}


def _parse(name: str, text: str, schema: t.Mapping[str, t.Any]) -> object:
    parse = PARSERS.get(schema.get("format", schema["type"]), str)
    try:
        value = parse(text)
    except ValueError as error:
        msg = f"{name}: {error}"
        raise InvalidRequestError(msg) from error
    raw = text if schema["type"] == "string" else value
    for problem in OAS31Validator(schema).iter_errors(raw):
        msg = f"{name}: {problem.message}"
        raise InvalidRequestError(msg)
    return value


def _parse_integer(text: str) -> int:
    if not INTEGER.fullmatch(text):
        msg = f"{text!r} is not an integer of at most 18 digits"
        raise ValueError(msg)
    return int(text)


def _parse_boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        msg = f"{text!r} is neither true nor false"
        raise ValueError(msg)
    return text == "true"


def _parse_uuid(text: str) -> str:
    if not UUID.fullmatch(text):
        msg = f"{text!r} is not a UUID"
        raise ValueError(msg)
    return text.lower()


PARSERS: dict[str, t.Callable[[str], object]] = {
    "integer": _parse_integer,
    "boolean": _parse_boolean,
    "uuid": _parse_uuid,
    "date-time": parse_timestamp,
}
"""The parser of each type or format in the document."""
