"""Readers who wait: a flush is asked for, in the store and of the sink, as ingest does it, but not for each of them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from functions.adapters import event_sink, web
from functions.adapters.exchange import waits_by_wish
from functions.adapters.folding import folded
from functions.core import event_types
from functions.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.adapters.redis_store import RedisStore
    from functions.core.settings import Settings

logger = logging.getLogger(__name__)

_FAREWELL_S: Final = 5.0


class Waiting:
    """Holds requests back until what was pending when they came is in the report, or their time is up."""

    def __init__(self, settings: Settings, store: RedisStore) -> None:
        self._settings = settings
        self._store = store
        self._under_way: set[asyncio.Task[None]] = set()

    async def wait(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Wait as long as ``Prefer: wait=N`` asks, at most; return what the reply says of it."""
        wait_s = min(web.preferred_wait_s(headers), self._settings.max_wait_s)
        if not wait_s:
            return {}
        waits_by_wish()
        done = await folded(self._store, self._flush_requested, wait_s, reading=True)
        return {"preference-applied": f"wait={wait_s}", "flyertime-folded": "true" if done else "false"}

    async def close(self) -> None:
        """Let signals that are under way arrive."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_FAREWELL_S)

    def _flush_requested(self, moment_ms: int) -> None:
        if self._settings.sink_url is not None:
            task = asyncio.create_task(self._tell(self._settings.sink_url, moment_ms))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _tell(self, url: str, moment_ms: int) -> None:
        try:
            await event_sink.deliver(
                url,
                event_types.FLUSH_REQUESTED,
                f"/flyertime/{self._settings.namespace}/report",
                {"received_until_ms": moment_ms},
                event_id=f"flush-{moment_ms}",
                timeout_s=self._settings.sink_timeout_s,
            )
        except UnavailableError as e:
            logger.warning("%s not delivered, the ping will do: %s", event_types.FLUSH_REQUESTED, e.message)
