"""The use case: decode, write each event once, answer for each by name, and say when enough has gathered."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from functions.adapters import cloud_events, web
from functions.adapters.redis_store import RedisStore
from functions.core.errors import RequestRefusedError
from functions.core.ledger import position_of
from functions.core.report import json_array, rows_of
from functions.ingest import submissions
from functions.ingest.signals import Signals
from functions.ingest.verdicts import body_of, counts_of, status_of
from functions.ingest.writing import write_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from functions.core.settings import Settings
    from functions.ingest.submissions import Submission
    from functions.ingest.writing import Written

logger = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1
_POLL_S: Final = 0.25


class IngestHandler:
    """Answers the requests of apps; keeps nothing between them but connections."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._store = RedisStore(settings)
        self._clock = clock
        self._signals = Signals(settings)

    async def ready(self) -> None:
        """Return when the store answers and fits the settings."""
        await self._store.shards()
        await self._store.now_ms()

    async def close(self) -> None:
        """Let signals that are under way arrive, and close the connections."""
        await self._signals.close()
        await self._store.close()

    async def handle(self, request: Request) -> Response:
        """Answer a request by its path and method."""
        path, method = request.url.path.rstrip("/"), request.method
        if path == "/api/health":
            return web.json_reply({"status": "OK"}) if method in {"GET", "HEAD"} else web.method_not_allowed("GET")
        if path == "/api/process":
            return await self._process(request) if method == "POST" else web.method_not_allowed("POST")
        if path == "":
            return await self._cloud_events(request) if method == "POST" else web.method_not_allowed("POST")
        return web.problem_reply(
            404, "no_such_path", "events go to POST / (CloudEvents) or POST /api/process (JSON array)"
        )

    async def _cloud_events(self, request: Request) -> Response:
        body = await web.read_body(request, self._settings.max_body_bytes)
        received = cloud_events.decode(request.headers, body)
        outcomes = (await self._take(submissions.from_cloud_events(received))).outcomes
        status = status_of(outcomes)
        if status == 202 and web.wants_event_or_nothing(request):
            return web.empty_reply()
        headers = {"retry-after": str(_RETRY_AFTER_S)} if status == 503 else {}
        return web.json_reply(body_of(outcomes), status, headers)

    async def _process(self, request: Request) -> Response:
        """Answer the older interface: an array of events in, the report's array out."""
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise RequestRefusedError("unsupported_format", "send a JSON array as application/json", status=415)
        body = await web.read_body(request, self._settings.max_body_bytes)
        events = submissions.from_array(cloud_events.decode_json(body), request.headers.get("idempotency-key"))
        outcomes, shards, _ = await self._take(events)
        counts = {f"flyertime-{verdict}": str(count) for verdict, count in counts_of(outcomes).items()}
        status = status_of(outcomes)
        if status != 202:
            retry = {"retry-after": str(_RETRY_AFTER_S)} if status == 503 else {}
            return web.json_reply(body_of(outcomes), status, {**counts, **retry})
        wait_s = min(web.preferred_wait_s(request), self._settings.max_wait_s)
        if wait_s:
            counts["preference-applied"] = f"wait={wait_s}"
            counts["flyertime-folded"] = "true" if await self._folded(shards, wait_s) else "false"
        report = json_array(rows_of(shard.averages for shard in await self._store.averages()))
        return web.json_bytes_reply(report, headers=counts)

    async def _take(self, events: Sequence[Submission]) -> Written:
        if len(events) > self._settings.max_request_events:
            raise RequestRefusedError(
                "too_many_events", f"at most {self._settings.max_request_events} events in one request", status=413
            )
        window = int(self._clock()) // self._settings.dedupe_window_s
        written = await write_events(self._store, events, window)
        self._signals.backlog_reached(written.appended, await self._store.shards())
        return written

    async def _folded(self, shards: set[int], wait_s: int) -> bool:
        """Ask for a flush and wait until all that these shards hold now is in the report; False where time is up."""
        deadline = time.monotonic() + wait_s
        ledgers = await self._store.ledgers()
        wanted = {shard: position_of(upto) for shard in shards if (upto := ledgers[shard].newest_id) is not None}
        if wanted:
            self._signals.flush_requested(await self._store.request_flush())
        while wanted:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
            ledgers = await self._store.ledgers()
            wanted = {shard: upto for shard, upto in wanted.items() if position_of(ledgers[shard].folded_to) < upto}
        return True
