"""The app that a container serves: FUNCTION_TARGET says which function.

The same app as ``functions-framework --source functions/ingest/main.py --target ingest`` serves, with health routes, a
shorter way to the function, and closed in order. functions/server.py serves it.
"""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions_framework.aio import create_asgi_app
from starlette.requests import Request
from starlette.routing import Route

from functions.adapters import web
from functions.core.errors import MisconfiguredError
from functions.serving import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

TARGETS: Final = ("ingest", "trigger", "report")


PROBES: Final = frozenset({"/healthz", "/readyz"})


class FunctionApp:
    """A function's app with a short cut: what is no probe goes straight to the function.

    functions-framework's app would take it there too, by way of its middleware, which has nothing to do here: every
    error is answered for in the function. Without that way a request costs about a third less.
    """

    def __init__(self, framework: Starlette, service: Service) -> None:
        self._framework = framework
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection (ASGI)."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._framework(scope, receive, send)
        else:
            response = await self._service(Request(scope, receive, send))
            await response(scope, receive, send)


def create_app(target: str) -> FunctionApp:
    """Return the app of one function; a wrong target or setting ends the process here rather than at a request.

    Raises:
        MisconfiguredError: There is no such function, or a setting is wrong.
    """
    if target not in TARGETS:
        raise MisconfiguredError("bad_target", f"FUNCTION_TARGET must be one of {', '.join(TARGETS)}")
    framework: Starlette = create_asgi_app(target, str(Path(__file__).parent / target / "main.py"))
    service = Service.running[target]
    service.handler()

    async def alive(_: Request) -> Response:
        return web.json_reply({"status": "OK"})

    async def ready(_: Request) -> Response:
        return await service.ready()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        gc.freeze()  # modules stay: to look through them for cycles took 35 ms, while all requests waited
        warming = asyncio.create_task(service.warm())
        yield
        warming.cancel()
        await service.close()

    framework.router.routes[:0] = [Route("/healthz", alive), Route("/readyz", ready)]
    framework.router.lifespan_context = lifespan
    return FunctionApp(framework, service)


app = create_app(os.environ.get("FUNCTION_TARGET", ""))
