"""``GET /openapi.json``: what may be sent and what is answered, with the limits of this process in it.

Put together from the schemas, which are files of the package.
"""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.adapters.cloud_events import EXTENSION_TIMES

if TYPE_CHECKING:
    from functions.core.settings import Settings

SCHEMAS: Final = {
    "event.json": "Event",
    "cloud_event.json": "CloudEvent",
    "verdicts.json": "Verdicts",
    "problem.json": "Problem",
}
"""File in functions/core/schemas to what the page calls it."""
_EVENTS: Final = 10_000
_TEXT: Final = 1024
"""Limits as the files have them: the settings' defaults."""


def openapi_page(settings: Settings, version: str) -> bytes:
    """Return the page as JSON."""
    page = _read("ingest_openapi.json")
    page["info"]["version"] = version
    for file, name in SCHEMAS.items():
        schema = _read(file)
        del schema["$schema"], schema["$id"]
        page["components"]["schemas"][name] = _placed(schema, name)
    if settings.write_auth == "off":
        page["security"] = []
    return msgspec.json.encode(_limited(page, settings))


def _read(file: str) -> Any:
    return msgspec.json.decode((importlib.resources.files("functions.core") / "schemas" / file).read_bytes())


def _placed(value: Any, name: str) -> Any:
    """Return a schema whose references to its own parts are right where it stands in the page."""
    if isinstance(value, dict):
        return {
            key: inner.replace("#/", f"#/components/schemas/{name}/", 1)
            if key == "$ref" and inner.startswith("#/")
            else _placed(inner, name)
            for key, inner in value.items()
        }
    return [_placed(inner, name) for inner in value] if isinstance(value, list) else value


def _limited(value: Any, settings: Settings) -> Any:
    """Return the page with references to files resolved, and with this process's limits."""
    if isinstance(value, dict):
        limited = {key: _limited(inner, settings) for key, inner in value.items()}
        if limited.get("$ref") in SCHEMAS:
            limited["$ref"] = f"#/components/schemas/{SCHEMAS[limited['$ref']]}"
        if limited.get("maxItems") == _EVENTS:
            limited["maxItems"] = settings.max_request_events
        if (length := limited.get("maxLength")) in {_TEXT, EXTENSION_TIMES * _TEXT}:
            limited["maxLength"] = length // _TEXT * settings.max_field_bytes
        return limited
    return [_limited(inner, settings) for inner in value] if isinstance(value, list) else value
