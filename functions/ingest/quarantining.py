"""Rejected events into the quarantine: after the verdict, in one trip, within bounds, and never at its expense.

Whatever hinders it, the event stays rejected and its sender is told so; the reply says whether it is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec

from functions.adapters import metrics
from functions.adapters.redis_quarantine import NO_ROOM, Quarantine
from functions.core.errors import FlyertimeError
from functions.core.quarantine import new_record, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functions.core.quarantine import Record
    from functions.core.settings import Settings
    from functions.ingest.submissions import Refusal, Submissions

logger = logging.getLogger(__name__)

MAX_EVENTS: Final = 1000
MAX_BYTES: Final = 1 << 20
"""Of one request that are kept: what is wrong with an app shows in fewer."""
MAX_WAIT_S: Final = 0.5
WRITERS: Final = 2
RATE_EVENTS_S: Final = 1000
"""That one process keeps at most, in the long run: a flood takes a few per cent of it and of the store, and no more."""
BURST_EVENTS: Final = 5000

_encode: Final = msgspec.json.Encoder().encode


class Quarantining:
    """Keeps what was rejected, as long as that takes nothing from what was not."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._quarantine = Quarantine(settings)
        self._clock = clock
        self._left_events = float(BURST_EVENTS)
        self._left_at_s = clock()
        self._off = settings.quarantine_max_events == 0
        self._max_event_bytes = settings.quarantine_max_event_bytes
        self._wait_s = min(settings.redis_timeout_s, MAX_WAIT_S)
        self._turns = asyncio.Semaphore(WRITERS)

    async def close(self) -> None:
        """Close the connections."""
        await self._quarantine.close()

    async def keep(
        self, submissions: Submissions, *, key: str | None, token: str | None, raw: bool = False
    ) -> Mapping[int, str]:
        """Return the id in the quarantine of each rejected event that is kept, by its place in the request.

        Args:
            submissions: The events of a request.
            key: Name of the write key that it came with.
            token: That key itself, which must not be kept, wherever it stands.
            raw: Whether they are items of a raw array.
        """
        if self._off or not submissions.refused:
            return {}
        records = self._records(submissions, key, token, raw)
        kept: dict[int, str] = {}
        try:
            async with asyncio.timeout(self._wait_s), self._turns:
                answers = await self._quarantine.add(list(records.values())) if records else []
        except (FlyertimeError, TimeoutError) as e:
            logger.warning("%d rejected events are not kept: %s", len(records), str(e) or "no answer in time")
            metrics.QUARANTINE.of("unavailable").add(len(records))
            return kept
        for place, answer in zip(records, answers, strict=True):
            if answer == NO_ROOM:
                metrics.QUARANTINE.of(answer).add()
            else:
                metrics.QUARANTINE.of("kept").add()
                kept[place] = answer
        return kept

    def _records(
        self, submissions: Submissions, key: str | None, token: str | None, raw: bool
    ) -> dict[int, tuple[Record, bytes]]:
        """Return the records of those that are not too large, by place, as many as one request may have kept."""
        records: dict[int, tuple[Record, bytes]] = {}
        bytes_left, events_left = MAX_BYTES, min(MAX_EVENTS, self._allowed())
        for looked_at, (place, refusal) in enumerate(submissions.refused.items()):
            if len(records) == events_left or bytes_left <= 0:
                metrics.QUARANTINE.of("too_many").add(len(submissions.refused) - looked_at)
                break
            record = self._record(refusal, submissions.ids[place], key, token, raw)
            if record is None:
                metrics.QUARANTINE.of("too_large").add()
            else:
                records[place] = record
                bytes_left -= len(record[1])
        self._left_events -= len(records)
        return records

    def _allowed(self) -> int:
        """Return how many events may be kept now."""
        now_s = self._clock()
        self._left_events = min(BURST_EVENTS, self._left_events + (now_s - self._left_at_s) * RATE_EVENTS_S)
        self._left_at_s = now_s
        return int(self._left_events)

    def _record(
        self, refusal: Refusal, event_id: str | None, key: str | None, token: str | None, raw: bool
    ) -> tuple[Record, bytes] | None:
        try:
            if len(_encode(refusal.received)) > self._max_event_bytes:  # before anything looks into it
                return None
            record = new_record(
                refusal.faults,
                refusal.received,
                event_id=event_id,
                source=refusal.source,
                position=refusal.position,
                key=key,
                raw=raw,
                token=token,
            )
            return record, packed(record)
        except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):  # nested too deeply, for one
            return None
