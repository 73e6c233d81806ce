"""Ingest as a function: ``functions-framework --source functions/ingest/main.py --target ingest``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio

from functions.ingest.handler import IngestHandler
from functions.serving import Service

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

service = Service("ingest", IngestHandler, ("/", "/api/process", "/api/health", "/openapi.json"))


@functions_framework.aio.http
async def ingest(request: Request) -> Response:
    """Answer a request."""
    return await service(request)
