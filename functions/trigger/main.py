"""Trigger as a function: ``functions-framework --source functions/trigger/main.py --target trigger``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio

from functions.serving import Service
from functions.trigger.handler import TriggerHandler

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from functions.core.settings import Settings


def build(settings: Settings) -> TriggerHandler:
    """Wire up the launcher that the settings name; the Kubernetes client is heavy, and only one of them needs it."""
    if settings.launcher == "local":
        from functions.adapters.spark_local import LocalLauncher  # noqa: PLC0415  # see above

        return TriggerHandler(settings, LocalLauncher(settings))
    from functions.adapters.spark_operator import OperatorLauncher  # noqa: PLC0415  # see above

    return TriggerHandler(settings, OperatorLauncher(settings))


service = Service("trigger", build)


@functions_framework.aio.http
async def trigger(request: Request) -> Response:
    """Answer a request."""
    return await service(request)
