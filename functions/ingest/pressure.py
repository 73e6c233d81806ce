"""Backpressure: the load of the store, looked at once a second beside the requests; senders hear when it is high."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from functions.core.errors import FlyertimeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.core.errors import UnavailableError
    from functions.core.pressure import Ceiling, StoreLoad

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
"""What arrives within this time may go beyond the ceiling."""


class Pressure:
    """What is known of the store's load; asking costs a request nothing."""

    def __init__(
        self,
        look: Callable[[], Awaitable[StoreLoad]],
        ceiling: Ceiling,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._ceiling = ceiling
        self._clock = clock
        self._looked_s = -LOOK_EVERY_S
        self._refusal: UnavailableError | None = None
        self._looking: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Let a request pass.

        Raises:
            UnavailableError: The store has as much as it should; nothing of the request is taken.
        """
        now_s = self._clock()
        if now_s - self._looked_s >= LOOK_EVERY_S and self._looking is None:
            self._looked_s = now_s
            self._looking = asyncio.create_task(self._update())
        if self._refusal is not None:
            raise self._refusal

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _update(self) -> None:
        try:
            refusal = self._ceiling.refusal(await self._look())
        except FlyertimeError:  # the writes will say what is wrong; what was known before stands no longer
            refusal = None
        finally:
            self._looking = None
        if refusal is not None and self._refusal is None:
            logger.error("no more events are taken: %s: %s", refusal.code, refusal.message)
        elif refusal is None and self._refusal is not None:
            logger.warning("events are taken again")
        self._refusal = refusal
