"""The vendor's OpenAPI document, unmodified. The schema of a lead comes from it."""

from __future__ import annotations

import functools
import importlib.resources
import typing as t

import yaml
from singer_sdk.schema.source import OpenAPISchema
from typing_extensions import override

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's parser in C, if it is there. With the parser in Python, which the SDK uses,
the tap takes a fifth longer to start."""


class VendorDocument(OpenAPISchema[str]):
    """The OpenAPI document of the MEGA Public CRM Lead API."""

    @functools.cached_property
    @override
    def spec(self) -> dict[str, t.Any]:
        """The whole document."""
        text = FILE.read_bytes()
        return t.cast("dict[str, t.Any]", yaml.load(text, LOADER))  # noqa: S506 - safe


FILE = importlib.resources.files(__name__) / "openapi.yaml"
DOCUMENT = VendorDocument(FILE)
