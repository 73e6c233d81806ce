"""A function as a service: built on first use from the environment, ready when its store answers, closed at the end."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from functions.adapters import access_log, build, logs, tracing, web
from functions.adapters.watch import Watch
from functions.core import environment
from functions.core.errors import FlyertimeError
from functions.core.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from functions.core.settings import Settings

logger = logging.getLogger(__name__)

METRICS_PATH: Final = "/metrics"

_READY_TIMEOUT_S: Final = 2.0
_WARM_AFTER_S: Final = 0.2
"""After the start: a request that a process was started for comes at once, and is not to share it with anything."""


class Handler(Protocol):
    """One use case."""

    async def handle(self, request: Request) -> Response:
        """Answer a request."""

    async def ready(self) -> None:
        """Return when the function can do its work; raise a FlyertimeError where it cannot."""

    async def close(self) -> None:
        """Finish what is under way and let go of all connections."""


@runtime_checkable
class Warming(Protocol):
    """A handler that has something to do before it is asked."""

    async def warm(self) -> None:
        """Do what the first who asks would wait for."""


class Service:
    """One function of this process. ``functions/asgi.py`` finds it by its name to tell whether it is ready."""

    running: Final[dict[str, Service]] = {}

    def __init__(self, name: str, build: Callable[[Settings], Handler], routes: Iterable[str] = ("/",)) -> None:
        """Prepare a function; nothing is built before it is used.

        Args:
            name: What it is called.
            build: Makes its handler.
            routes: Templates of the paths that it answers, by which its requests are counted.
        """
        self.name = name
        self._build = build
        self._handler: Handler | None = None
        self._watch = Watch(name, Routes(routes))
        self.running[name] = self

    async def __call__(self, request: Request) -> Response:
        """Answer a request, errors included."""
        if request.scope["path"] == METRICS_PATH:
            return await web.answered(self._metrics, request)
        handler = self._handler
        return await self._watch.answered(self._first if handler is None else handler.handle, request)

    def handler(self) -> Handler:
        """Return the handler, built from the environment at the first call.

        Raises:
            MisconfiguredError: A setting is wrong.
        """
        if self._handler is None:
            settings = environment.parse(os.environ)
            logs.configure(settings.log_level, unlimited=access_log.LOGGER if settings.access_log == "all" else None)
            for warning in environment.unknown_variables(os.environ):
                logger.warning("%s", warning)
            tracing.start(self.name, build.version(), os.environ)
            logger.info("settings of %s", self.name, extra={"settings": settings.shown()})
            self._handler = self._build(settings)
            self._watch.configure(settings)
        return self._handler

    async def warm(self) -> None:
        """Some time after the start do what the first who asks would wait for."""
        handler = self.handler()
        if isinstance(handler, Warming):
            await asyncio.sleep(_WARM_AFTER_S)
            with suppress(FlyertimeError):  # who asks is told
                await handler.warm()

    async def ready(self) -> Response:
        """Answer the readiness probe."""
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await self.handler().ready()
        except TimeoutError:
            return web.problem_reply(503, "not_ready", "the store does not answer", {"retry-after": "1"})
        except FlyertimeError as e:
            return web.problem_reply(503, e.code, e.message, {"retry-after": "1"})
        return web.json_reply({"status": "OK"})

    async def close(self) -> None:
        """Close the handler, if it was ever built."""
        if self._handler is not None:
            await self._handler.close()
            await self._watch.close()
            self._handler = None

    async def _first(self, request: Request) -> Response:
        """Answer the first request of a process that was not built at its start; what is wrong is told as ever."""
        return await self.handler().handle(request)

    async def _metrics(self, request: Request) -> Response:
        self.handler()
        return await self._watch.scraped(request)
