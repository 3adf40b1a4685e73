"""The vendor's document, unmodified: the schema of a lead is read from it."""

from __future__ import annotations

import functools
import importlib.resources
import typing as t

import yaml
from singer_sdk.schema.source import OpenAPISchema

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's parser in C, where it has it. With the other one, which the SDK takes, the
tap needs a fifth longer to start."""


class VendorDocument(OpenAPISchema[str]):
    """The OpenAPI document of the MEGA Public CRM Lead API."""

    @functools.cached_property
    def spec(self) -> dict[str, t.Any]:
        """All of it."""
        text = FILE.read_bytes()
        return t.cast("dict[str, t.Any]", yaml.load(text, LOADER))  # noqa: S506 - safe


FILE = importlib.resources.files(__name__) / "openapi.yaml"
DOCUMENT = VendorDocument(FILE)
