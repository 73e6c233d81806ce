"""The use case: look at the backlog and the runs, decide, and start the run that is due.

Everything that trigger is told only makes it look. It can be told twice, late, or by two at once: what it does follows
from what it sees, and a run's name from the work to be done.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from functions.adapters import cloud_events, metrics, tracing, web
from functions.adapters.bodies import read_body
from functions.adapters.cloud_events import Received, Refused
from functions.adapters.exchange import name_event
from functions.adapters.redis_quarantine import Quarantine
from functions.adapters.redis_store import RedisStore
from functions.core import event_types
from functions.core.errors import FlyertimeError, MisconfiguredError, RequestRefusedError
from functions.core.ledger import backlog_of
from functions.core.policy import Cause, Launch, RunState, Wait, decide
from functions.core.report_freshness import freshness_of
from functions.trigger.events import Wish, ended_run_of, flush_moment_ms, updated_data, wish_of
from functions.trigger.explanation import Look, body_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from functions.core.settings import Settings
    from functions.trigger.launcher import Launcher

logger = logging.getLogger(__name__)

_METHODS: Final = "GET, HEAD, POST"
_NOT_RETRIED: Final = 424
"""A broker retries 404, 408, 409, 429 and all of 5xx; what only a person can mend goes to the dead letters instead, and
the next ping finds the backlog when it is mended."""


class TriggerHandler:
    """Answers events and who asks why; keeps nothing between requests but connections."""

    def __init__(self, settings: Settings, launcher: Launcher) -> None:
        self._settings = settings
        self._store = RedisStore(settings)
        self._quarantine = Quarantine(settings)
        self._launcher = launcher
        self._turn = asyncio.Lock()
        self._looks_begun = 0
        self._latest: Look | FlyertimeError | None = None

    async def ready(self) -> None:
        """Return when the store answers and fits the settings."""
        await self._store.ready()

    async def close(self) -> None:
        """Close the connections; runs go on."""
        await self._launcher.close()
        await self._quarantine.close()
        await self._store.close()

    async def handle(self, request: Request) -> Response:
        """Answer a request by its path and method."""
        if request.url.path not in {"", "/"}:
            return web.problem_reply(404, "no_such_path", "events go to POST /; GET / explains what trigger would do")
        try:
            if request.method == "POST":
                return await self._events(request)
            if request.method in {"GET", "HEAD"}:
                with_shards = request.query_params.get("shards", "").lower() in {"1", "true", "yes"}
                return web.json_reply(body_of(await self._look(), self._settings.policy, with_shards=with_shards))
        except MisconfiguredError as e:  # told in full: only events and the operator reach trigger
            logger.error("%s: %s", e.code, e.message)  # noqa: TRY400  # the message says it all
            return web.problem_reply(503 if request.method != "POST" else _NOT_RETRIED, e.code, e.message)
        return web.method_not_allowed(_METHODS)

    async def _events(self, request: Request) -> Response:
        body = await read_body(request, self._settings.max_body_bytes, self._settings.body_timeout_s)
        tracing.link_events(request.headers, body)
        events = _accepted(cloud_events.decode(request.headers, body))
        if len(events) == 1:
            name_event(events[0].id)
        wishes = {wish_of(event) for event in events}
        for event in events:
            if wish_of(event) is Wish.FLUSH:
                await self._request_flush(event)
        look = await self._act() if wishes - {Wish.NOTHING} else None
        if any(event.type == event_types.PING for event in events):
            await self._expire_quarantine()
        if look is None or web.wants_event_or_nothing(request.headers):
            return self._updated(events, look)
        return web.json_reply(body_of(look, self._settings.policy), 202 if look.started else 200)

    def _updated(self, events: Sequence[Received], look: Look | None) -> Response:
        """Return the event that goes to the broker in answer to a run's end; nothing where none has ended."""
        ended = next(filter(None, map(ended_run_of, events)), None)
        if ended is None or look is None:
            return web.empty_reply()
        data = updated_data(ended, freshness_of(look.ledgers, None, self._settings.max_age_s))
        headers, body = cloud_events.new_event(
            event_types.REPORT_UPDATED,
            f"/flyertime/{self._settings.namespace}/trigger",
            data,
            event_id=f"{ended.name}-updated",  # the run's object changes again after its end, and is told of each time
        )
        return Response(body, headers={**web.NO_STORE, **headers})

    async def _request_flush(self, event: Received) -> None:
        """Put the wish into the store, where it outlasts an active run and its pauses.

        Not where it stands there already: an event delivered again would move the moment on, and start another run.
        """
        moment_ms = flush_moment_ms(event)
        if moment_ms is not None:
            stored_ms = await self._store.flush_requested_ms()
            if stored_ms is not None and stored_ms >= moment_ms:
                return
        await self._store.request_flush()

    async def _expire_quarantine(self) -> None:
        """Let what is too old leave the quarantine: the ping is the one thing that happens however little comes in."""
        try:
            await self._quarantine.expire()
        except FlyertimeError as e:
            logger.warning("the quarantine keeps what is too old until the next ping: %s", e.message)

    async def _act(self) -> Look:
        """Look and do what is due; requests that wait for their turn meanwhile share the next look."""
        begun = self._looks_begun
        async with self._turn:
            if self._looks_begun == begun or self._latest is None:
                self._looks_begun += 1
                self._latest = None
                try:
                    self._latest = await self._look_and_launch()
                except FlyertimeError as e:  # those who wait would wait for the same, one after another
                    self._latest = e
            if isinstance(self._latest, FlyertimeError):
                raise self._latest
            return self._latest

    async def _look_and_launch(self) -> Look:
        look = await self._look()
        _take_note(look)
        if isinstance(look.decision, Launch):
            look = dataclasses.replace(look, started=await self._launch(look.decision))
        return look

    async def _look(self) -> Look:
        """Read the runs, then the backlog, in this order (see functions/core/policy.py), and decide."""
        runs = await self._launcher.runs()
        ledgers = await self._store.ledgers()
        flush_ms, now_ms = await asyncio.gather(self._store.flush_requested_ms(), self._store.now_ms())
        backlog = backlog_of(ledgers, await self._store.pipeline())
        prefix = self._settings.run_name_prefix
        decision = decide(backlog, self._settings.policy, runs, now_ms, flush_ms=flush_ms, name_prefix=prefix)
        return Look(now_ms, ledgers, backlog, flush_ms, runs, decision)

    async def _launch(self, launch: Launch) -> bool:
        started = await self._launcher.launch(launch)
        metrics.LAUNCHES.of("started" if started else "existed").add()
        logger.info(
            "run %s %s: %s",
            launch.name,
            "started" if started else "exists already",
            launch.explanation,
            extra={"run": launch.name, "cause": launch.cause.value, "pending_events": launch.pending_events},
        )
        return started


def _accepted(received: Sequence[Received | Refused]) -> list[Received]:
    """Return the events that keep to the specification.

    Raises:
        RequestRefusedError: None does; the message names every fault.
    """
    events = [event for event in received if isinstance(event, Received)]
    faults = [fault for event in received if isinstance(event, Refused) for fault in event.faults]
    if faults and not events:
        raise RequestRefusedError(
            "bad_event", "; ".join(f"{fault.pointer or 'the event'}: {fault.reason}" for fault in faults[:20])
        )
    return events


def _take_note(look: Look) -> None:
    """Count the decision, and say why no run is started, the louder the more it needs a person."""
    decision = look.decision
    metrics.DECISIONS.of("launch" if isinstance(decision, Launch) else "wait", decision.cause.value).add()
    if isinstance(decision, Wait):
        level = logging.DEBUG
        if decision.cause in {Cause.EXHAUSTED, Cause.LOST}:
            level = logging.ERROR
        elif decision.cause is Cause.PAUSED or (
            decision.cause is Cause.RUNNING and any(run.message and run.state is RunState.ACTIVE for run in look.runs)
        ):
            level = logging.WARNING
        logger.log(
            level,
            "no run: %s",
            decision.explanation,
            extra={"cause": decision.cause.value, "pending_events": look.backlog.pending_events},
        )
