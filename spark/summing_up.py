"""When a run sums up: after it has changed averages, what they come to is made anew where readers ask for that.

Only what the report has kept in the store is made, so a run does nothing that nobody has asked for. All of it is a
matter of time alone: what is not there, or of another version, the report makes itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_shard import ShardStore
from functions.core.errors import FlyertimeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.core.settings import Settings

logger = logging.getLogger("flyertime.job")

LIMIT_S: Final = 5.0
"""For so long at most, or for a tenth of what the run has taken, where that is more."""
SHARE: Final = 0.1
"""Of a run's time."""


class SummingUp:
    """Sums up while a run has nothing else to do, and not much of its time, and once more when it ends."""

    def __init__(self, settings: Settings, is_stopping: Callable[[], bool]) -> None:
        self._settings = settings
        self._is_stopping = is_stopping
        self._began_s = time.monotonic()
        self._next_s = 0.0
        self._is_due = False

    def committed(self) -> None:
        """Take note that averages have changed."""
        self._is_due = True

    def when_idle(self) -> None:
        """Sum up where there is something, and the last time was long enough ago for what it took."""
        started_s = time.monotonic()
        if self._is_due and started_s >= self._next_s:
            self.now()
            ended_s = time.monotonic()
            self._next_s = ended_s + (ended_s - started_s) / SHARE

    def now(self) -> None:
        """Sum up where there is something; what cannot be is left to the report."""
        if not self._is_due:
            return
        self._is_due = False
        started_s = time.monotonic()
        limit_s = max(LIMIT_S, SHARE * (started_s - self._began_s))
        try:
            if not _is_wanted(self._settings):
                return
            from spark.summaries import sum_up  # noqa: PLC0415  # 0.1 s that a run without readers need not wait for

            done, wanted = asyncio.run(
                sum_up(self._settings, lambda: self._is_stopping() or time.monotonic() > started_s + limit_s)
            )
        except FlyertimeError as e:
            logger.warning("the report's summaries were not made: %s", e.message)
            return
        if wanted:
            took_s = time.monotonic() - started_s
            logger.info("%d of %d summaries that readers ask for made anew, %.1f s", done, wanted, took_s)


def _is_wanted(settings: Settings) -> bool:
    """Tell whether readers have asked for any summary lately."""
    store = ShardStore(settings)
    try:
        return store.has_summaries()
    finally:
        store.close()
