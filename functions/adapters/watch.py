"""Watching a function's requests: counted, timed, logged where that is called for; and the scrape.

A request that goes well costs a few dictionary look-ups here.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from functions.adapters import access_log, metrics, prometheus, tracing, web
from functions.adapters.exchange import Exchange, current
from functions.adapters.store_figures import StoreFigures
from functions.core.errors import RequestRefusedError
from functions.core.routes import METHODS, Routes, method_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from functions.core.instruments import Distribution
    from functions.core.settings import Settings

_PROXY_HEADERS: Final = frozenset({b"forwarded", b"x-forwarded-for", b"via", b"k-proxy-request"})
"""Knative's queue-proxy, like every gateway, adds some of them to what comes by way of it, and whoever asks cannot
take them away. Prometheus asks a pod's port itself."""


class Watch:
    """What one function of this process is seen to do."""

    def __init__(self, function: str, routes: Routes) -> None:
        self._function = function
        self._routes = routes
        self._durations: dict[tuple[str, str, int], Distribution] = {}
        self._settings: Settings | None = None
        self._figures: StoreFigures | None = None
        self._logged_from_status = 400
        self._logged_from_s = float("inf")

    def configure(self, settings: Settings) -> None:
        """Follow the settings."""
        self._settings = settings
        self._logged_from_status = {"all": 0, "problems": 400, "off": 1000}[settings.access_log]
        self._logged_from_s = settings.slow_request_s if settings.access_log == "problems" else float("inf")

    async def close(self) -> None:
        """Let go of what scrapes needed, and send the last spans."""
        await asyncio.to_thread(tracing.stop)
        if self._figures is not None:
            await self._figures.close()
            self._figures = None

    async def answered(self, handle: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        """Let a handler answer, errors included, and take note."""
        started_s = perf_counter()
        scope = request.scope
        exchange = Exchange(scope, started_s)
        current.set(exchange)
        spans = tracing.current()
        if spans is not None:
            spans.begin(exchange)
        metrics.active_requests.value += 1
        try:
            response = await web.answered(handle, request)
        finally:
            metrics.active_requests.value -= 1
        status = response.status_code
        duration_s = perf_counter() - started_s
        durations = self._durations.get((scope["method"], exchange.route or scope["path"], status))
        if durations is None:
            durations = self._durations_of(exchange, status)
        durations.observe(duration_s)
        if spans is not None:
            spans.end(exchange, method_of(scope["method"]), self._route_of(exchange), status)
        if status >= self._logged_from_status or (duration_s >= self._logged_from_s and not exchange.waits):
            access_log.write(exchange, self._route_of(exchange), status, duration_s)
        return response

    async def scraped(self, request: Request) -> Response:
        """Answer ``GET /metrics``.

        Raises:
            RequestRefusedError: The asker may not read them.
        """
        settings = self._settings
        if request.method not in {"GET", "HEAD"}:
            return web.method_not_allowed("GET")
        if settings is None or settings.metrics == "off":
            raise RequestRefusedError("metrics_off", "FLYERTIME_METRICS is off", status=404)
        if settings.metrics == "direct" and any(name in _PROXY_HEADERS for name, _ in request.scope["headers"]):
            raise RequestRefusedError(
                "metrics_not_public",
                "metrics are for who asks the process itself, not through a proxy; FLYERTIME_METRICS=on changes that",
                status=403,
            )
        if self._figures is None:
            self._figures = StoreFigures(settings)
        figures = await self._figures.read()
        accept = request.headers.get("accept", "")
        text, media_type = await asyncio.to_thread(prometheus.scrape, self._function, settings.policy, figures, accept)
        return Response(text, headers={**web.NO_STORE, "content-type": media_type, "vary": "accept"})

    def _durations_of(self, exchange: Exchange, status: int) -> Distribution:
        """Return where requests like this are counted, and keep it where there are only so many like it."""
        method, path = exchange.scope["method"], exchange.scope["path"]
        route = self._route_of(exchange)
        durations = metrics.REQUESTS.of(method_of(method), route, str(status))
        if method in METHODS and route in {path, exchange.route}:
            self._durations[method, route, status] = durations
        return durations

    def _route_of(self, exchange: Exchange) -> str:
        """Return the route, by the path as it was sent: a user's id may hold a slash, written %2F."""
        if exchange.route is not None:
            return exchange.route
        raw = exchange.scope.get("raw_path")
        return self._routes.of(exchange.scope["path"] if raw is None else raw.decode("latin-1").partition("?")[0])
