"""What the store says when somebody scrapes: backlog, books, quarantine, last run. Once a second at most."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from functions.adapters import redis_client
from functions.adapters.redis_quarantine import Quarantine
from functions.adapters.redis_store import RedisStore
from functions.core.errors import FlyertimeError
from functions.core.ledger import backlog_of
from functions.core.settings import MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.adapters.redis_quarantine import Books
    from functions.core.settings import Settings

TIMEOUT_S: Final = 1.0
"""A scrape waits no longer for a store that is away; Prometheus' own limit is 10 s."""
KEPT_S: Final = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run on record."""

    succeeded: bool
    ended_s: float
    """Seconds since 1970."""
    duration_s: float
    events: int


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What the store holds at one moment."""

    pending_events: int
    oldest_age_s: float
    """Of the oldest pending event, by the store's clock; 0 where none is pending."""
    accepted: int
    duplicate: int
    folded: int
    erased: int
    quarantine: Books
    last_run: LastRun | None


class StoreFigures:
    """Reads the figures over a connection of its own: a scrape answers also while requests hold all others."""

    def __init__(self, settings: Settings) -> None:
        own = dataclasses.replace(settings, redis_timeout_s=min(settings.redis_timeout_s, TIMEOUT_S), durability=MEMORY)
        self._client = redis_client.connect_async(own)
        self._store = RedisStore(own, self._client)
        self._quarantine = Quarantine(own, self._client)
        self._turn = asyncio.Lock()
        self._read_at_s: float | None = None
        self._figures: Figures | None = None

    async def close(self) -> None:
        """Close the connection."""
        await self._store.close()

    async def read(self) -> Figures | None:
        """Return what the store holds, at most a second old; None where it does not say in time."""
        async with self._turn:
            if self._read_at_s is None or time.monotonic() - self._read_at_s > KEPT_S:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        self._figures = await self._read()
                except (FlyertimeError, TimeoutError):
                    self._figures = None
                self._read_at_s = time.monotonic()
            return self._figures

    async def _read(self) -> Figures:
        ledgers = await self._store.ledgers()
        now_ms = await self._store.now_ms()
        runs = await self._store.runs(1)
        quarantine = await self._quarantine.books()
        backlog = backlog_of(ledgers)
        oldest_ms = backlog.oldest_pending_ms
        return Figures(
            pending_events=backlog.pending_events,
            oldest_age_s=0.0 if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000),
            accepted=sum(ledger.accepted for ledger in ledgers),
            duplicate=sum(ledger.duplicate for ledger in ledgers),
            folded=sum(ledger.folded for ledger in ledgers),
            erased=sum(ledger.erased for ledger in ledgers),
            quarantine=quarantine,
            last_run=last_run_of(runs[0]) if runs else None,
        )


def last_run_of(record: Mapping[str, str]) -> LastRun | None:
    """Return a run from its record; None where the record is not one that we write."""
    try:
        started, ended = (datetime.fromisoformat(record[name]) for name in ("started_at", "ended_at"))
        return LastRun(
            record["state"] == "succeeded",
            ended.timestamp(),
            (ended - started).total_seconds(),
            int(record["events"]),
        )
    except (KeyError, ValueError):
        return None
