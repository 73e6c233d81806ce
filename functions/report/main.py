"""Report as a function: ``functions-framework --source functions/report/main.py --target report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio

from functions.report.handler import ReportHandler
from functions.report.page import page as people_page
from functions.report.routes import ROUTES
from functions.serving import Service

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

service = Service("report", ReportHandler, [*(route.template for route in ROUTES), people_page.TEMPLATE])


@functions_framework.aio.http
async def report(request: Request) -> Response:
    """Answer a request."""
    return await service(request)
