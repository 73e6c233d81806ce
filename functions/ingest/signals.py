"""Telling trigger: one small CloudEvent when a backlog is reached or a flush is wanted, sent beside the reply.

Where it gets lost nothing else does: the ping finds the backlog, and the wish for a flush stands in the store.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from functions.adapters import event_sink, metrics
from functions.core import event_types
from functions.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.adapters.redis_store import Appended
    from functions.core.settings import Settings

logger = logging.getLogger(__name__)

_FAREWELL_S: Final = 5.0
_delivered: Final = metrics.SIGNALS.of("delivered")
_lost: Final = metrics.SIGNALS.of("lost")


def reached_shard(appended: Mapping[int, Appended], part_events: int) -> int | None:
    """Return a shard whose backlog this request took past its part of the threshold, or past a multiple of it.

    The multiples count too, since the first signal may have come while a run was active or others' parts were small.
    """
    for shard, answer in appended.items():
        if answer.pending_before // part_events < answer.pending_after // part_events:
            return shard
    return None


class Signals:
    """The signals that are under way."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._under_way: set[asyncio.Task[None]] = set()

    def backlog_reached(self, appended: Mapping[int, Appended], shards: int) -> None:
        """Say so where this request took a shard past its part of the threshold."""
        shard = reached_shard(appended, max(1, self._settings.threshold_events // shards))
        if shard is not None:
            answer = appended[shard]
            self._send(
                event_types.BACKLOG_REACHED,
                f"{shard}-{answer.entry_id}",
                {"shard": shard, "pending_events": answer.pending_after},
            )

    def flush_requested(self, moment_ms: int) -> None:
        """Say that everything received until this moment shall be folded."""
        self._send(event_types.FLUSH_REQUESTED, f"flush-{moment_ms}", {"received_until_ms": moment_ms})

    async def close(self) -> None:
        """Let signals that are under way arrive."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_FAREWELL_S)

    def _send(self, event_type: str, event_id: str, data: Mapping[str, int]) -> None:
        if self._settings.sink_url is not None:
            task = asyncio.create_task(self._deliver(self._settings.sink_url, event_type, event_id, data))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _deliver(self, url: str, event_type: str, event_id: str, data: Mapping[str, int]) -> None:
        source = f"/flyertime/{self._settings.namespace}/ingest"
        try:
            await event_sink.deliver(
                url, event_type, source, data, event_id=event_id, timeout_s=self._settings.sink_timeout_s
            )
            _delivered.add()
        except UnavailableError as e:
            _lost.add()
            logger.warning("%s not delivered, the ping will do: %s", event_type, e.message)
