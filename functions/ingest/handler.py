"""The use case: decode, write each event once, answer for each by name, and say when enough has gathered."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from functions.adapters import build, tracing, web
from functions.adapters.bodies import read_body
from functions.adapters.exchange import name_event, waits_by_wish
from functions.adapters.folding import folded
from functions.adapters.redis_report import ReportStore
from functions.adapters.report_array import report_array
from functions.adapters.streaming import reply_from
from functions.core.errors import FlyertimeError, RequestRefusedError, UnavailableError
from functions.core.events import Limits
from functions.core.naming import Digests
from functions.core.pressure import Ceiling
from functions.core.settings import MEMORY
from functions.ingest import decoding
from functions.ingest.counting import take_note
from functions.ingest.gate import Gate, token_of
from functions.ingest.group_commit import WAITING_WRITERS, WRITERS, GroupCommit
from functions.ingest.openapi import openapi_page
from functions.ingest.origins import Origins, cors_headers, options_headers
from functions.ingest.pressure import Pressure
from functions.ingest.quarantining import Quarantining
from functions.ingest.signals import Signals
from functions.ingest.verdicts import Answers, Outcome, Verdict
from functions.ingest.writing import write_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from functions.core.access import AccessKey
    from functions.core.event_columns import EventColumns
    from functions.core.settings import Settings
    from functions.ingest.submissions import Submissions

logger = logging.getLogger(__name__)

_MINIMAL: Final = "return=minimal"
_SENDING: Final = "POST, OPTIONS"
_READING: Final = frozenset({"GET", "HEAD"})
NOT_KEPT: Final = "quarantine=no"
"""Preference of a sender that has its rejected events already, such as the one that sends corrected ones again."""


class IngestHandler:
    """Answers the requests of apps; keeps nothing between them but connections."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._gate = Gate(settings)
        self._browsers = Origins(settings.cors_origins)
        self._webhooks = Origins(settings.webhook_origins)
        self._store = ReportStore(settings)
        self._clock = clock
        self._limits_of_s = -1
        self._limits_now = Limits()
        self._openapi_page: bytes | None = None
        self._signals = Signals(settings)
        ceiling = Ceiling(settings.max_pending_events, settings.max_store_memory_ratio)
        self._pressure = Pressure(self._store.load, ceiling)
        self._quarantining = Quarantining(settings)
        self._group_commit = GroupCommit(
            self._write,
            max_waiting_events=settings.max_waiting_events,
            writers=WRITERS if settings.durability == MEMORY else WAITING_WRITERS,
        )

    async def ready(self) -> None:
        """Return when the store answers and fits the settings."""
        await self._store.ready(to_write=True)

    async def close(self) -> None:
        """Write what waits, let signals that are under way arrive, and close the connections."""
        await self._group_commit.close()
        await self._quarantining.close()
        await self._pressure.close()
        await self._signals.close()
        await self._store.close()

    async def handle(self, request: Request) -> Response:
        """Answer a request, a browser's so that its page may read the answer."""
        if not self._browsers:
            return await self._answer(request)
        response = await web.answered(self._answer, request)
        response.headers.update(cors_headers(self._browsers, web.headers_of(request)))
        return response

    async def _answer(self, request: Request) -> Response:
        """Answer a request by its path and method."""
        path, method = request.scope["path"].rstrip("/"), request.method
        if method == "OPTIONS" and path in {"", "/api/process"}:
            granted = options_headers(self._browsers, self._webhooks, web.headers_of(request))
            return web.empty_reply(headers=granted)
        if path == "":
            return await self._cloud_events(request) if method == "POST" else web.method_not_allowed(_SENDING)
        if path == "/api/process":
            return await self._process(request) if method == "POST" else web.method_not_allowed(_SENDING)
        if path == "/api/health":
            return web.json_reply({"status": "OK"}) if method in _READING else web.method_not_allowed("GET, HEAD")
        if path == "/openapi.json":
            return self._openapi() if method in _READING else web.method_not_allowed("GET, HEAD")
        return web.problem_reply(
            404, "no_such_path", "events go to POST / (CloudEvents) or POST /api/process (JSON array)"
        )

    async def _cloud_events(self, request: Request) -> Response:
        headers = web.headers_of(request)
        key = self._gate.admit(headers, request.scope["query_string"])
        if len(headers) < len(request.scope["headers"]):
            decoding.check_attributes(headers, [name for name, _ in request.scope["headers"]])
        may_send = key.may_send if key is not None and key.source is not None else None
        body = await read_body(request, self._settings.max_body_bytes, self._settings.body_timeout_s)
        tracing.link_events(headers, body)
        submissions = await self._decoded(
            lambda digests: decoding.cloud_events(headers, body, self._limits(), digests, may_send)
        )
        outcome = await self._take(submissions, request, headers, key)
        if outcome.status == 202 and web.wants_event_or_nothing(headers):
            return web.empty_reply()
        return _verdicts_reply(outcome, headers)

    async def _process(self, request: Request) -> Response:
        """Answer the older interface: an array of events in, the report's array out."""
        headers = web.headers_of(request)
        key = self._gate.admit(headers, request.scope["query_string"])
        if key is not None and key.source is not None:
            raise RequestRefusedError(
                "source_not_allowed", "this write key is bound to a source, and an array has none; send CloudEvents",
                status=403,
            )  # fmt: skip
        body = await read_body(request, self._settings.max_body_bytes, self._settings.body_timeout_s)
        submissions = await self._decoded(lambda digests: decoding.array(headers, body, self._limits(), digests))
        outcome = await self._take(submissions, request, headers, key, raw=True)
        counts = {f"flyertime-{verdict}": str(outcome.count(verdict)) for verdict in Verdict}
        if outcome.status != 202 or _MINIMAL in web.preferences_of(headers):
            return _verdicts_reply(outcome, headers, counts)
        wait_s = min(web.preferred_wait_s(headers), self._settings.max_wait_s)
        if wait_s:
            waits_by_wish()
            shards = set(submissions.columns.places_by_shard(await self._store.shards()))
            counts["preference-applied"] = f"wait={wait_s}"
            counts["flyertime-folded"] = (
                "true" if await folded(self._store, self._signals.flush_requested, wait_s, shards) else "false"
            )
        return await reply_from(
            report_array(self._store),
            {**web.NO_STORE, **counts},
            media_type="application/json",
            head_only=False,
            stall_s=self._settings.reader_stall_s,
        )

    def _openapi(self) -> Response:
        if self._openapi_page is None:
            self._openapi_page = openapi_page(self._settings, build.version())
        return web.json_bytes_reply(self._openapi_page)

    async def _decoded(self, decode: Callable[[Digests], Submissions]) -> Submissions:
        """Return a request's events; what is wrong with it is told also where the store has never been reached.

        Raises:
            FlyertimeError: Something of it could be taken, and the store is not there to make its digest.
        """
        try:
            digests = await self._store.digests()
        except FlyertimeError as e:
            submissions = decode(Digests(b""))  # of what is written nowhere
            if submissions.columns or not isinstance(e, UnavailableError):
                raise
            return submissions
        return decode(digests)

    def _limits(self) -> Limits:
        """Return the limits of this second."""
        now_s = int(self._clock())
        if now_s != self._limits_of_s:
            settings = self._settings
            latest_us = (now_s + settings.max_future_s) * 1_000_000 if settings.max_future_s else None
            self._limits_of_s = now_s
            self._limits_now = Limits(
                settings.max_field_bytes, settings.max_depth, latest_us, settings.max_request_events
            )
        return self._limits_now

    async def _take(
        self,
        submissions: Submissions,
        request: Request,
        headers: Mapping[str, str],
        key: AccessKey | None,
        *,
        raw: bool = False,
    ) -> Outcome:
        if len(submissions) == 1:
            name_event(submissions.ids[0])
        self._limits_now.check_number(len(submissions))
        self._gate.count(key, len(submissions))
        self._pressure.check()
        answers = await self._group_commit.submit(submissions)
        if not submissions.refused or NOT_KEPT in web.preferences_of(headers):
            outcome = Outcome(submissions, answers)
        else:
            name = None if key is None else key.name
            token = token_of(headers, request.scope["query_string"])
            kept = await self._quarantining.keep(submissions, key=name, token=token, raw=raw)
            outcome = Outcome(submissions, answers, kept)
        take_note(submissions, outcome)
        return outcome

    async def _write(self, events: EventColumns, digests: Sequence[bytes | None]) -> Answers:
        window = int(self._clock()) // self._settings.dedupe_window_s
        written = await write_events(self._store, events, digests, window)
        self._signals.backlog_reached(written.appended, await self._store.shards())
        return Answers(written.verdicts, written.retry_after_s)


def _verdicts_reply(outcome: Outcome, headers: Mapping[str, str], more: Mapping[str, str] | None = None) -> Response:
    """Answer with the verdicts, all or those to be acted on, as the sender prefers."""
    minimal = _MINIMAL in web.preferences_of(headers)
    status = outcome.status
    told = dict(more or {})
    if minimal:
        told["preference-applied"] = _MINIMAL
    if status == 503:
        told["retry-after"] = str(outcome.retry_after_s)
    return web.json_bytes_reply(outcome.body(minimal=minimal), status, told or None)
