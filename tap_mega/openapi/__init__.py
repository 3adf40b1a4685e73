"""The vendor's OpenAPI document, unmodified. The schema of a lead comes from it."""

from __future__ import annotations

import importlib.resources

from singer_sdk.schema.source import OpenAPISchema

FILE = importlib.resources.files(__name__) / "openapi.json"
DOCUMENT: OpenAPISchema[str] = OpenAPISchema(FILE)
