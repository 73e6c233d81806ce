"""The quarantine in the hands of an operator: finding events, looking at them, correcting them, throwing them away.

How they are sent again is in functions/local/redriving.py.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from functions.adapters.redis_quarantine import PAGE_ENTRIES, Quarantine
from functions.core.events import Limits
from functions.core.timestamps import format_us
from functions.local.correcting import check_name, faults_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from functions.adapters.redis_quarantine import Books, Entry
    from functions.core.errors import Fault
    from functions.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries; all where nothing is said."""

    ids: Sequence[str] = ()
    code: str | None = None
    """Of one of its faults."""
    source: str | None = None
    """Of the CloudEvent, or where it begins."""
    key: str | None = None
    """Name of the write key that it came with."""
    since_ms: int | None = None
    """Received at this moment or later."""
    fixed: bool | None = None
    """Whether it was corrected."""

    @property
    def narrow(self) -> bool:
        """Whether anything is said."""
        return self != Choice()

    def takes(self, entry: Entry) -> bool:
        """Tell whether an entry is one of them."""
        record = entry.record
        return (
            (self.code is None or any(fault.code == self.code for fault in record.faults))
            and (self.source is None or (record.source or "").startswith(self.source))
            and (self.key is None or record.key == self.key)
            and (self.since_ms is None or entry.received_ms >= self.since_ms)
            and (self.fixed is None or self.fixed == (entry.fixed is not None))
        )


class Operator:
    """What an operator does, on one pipeline."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._quarantine = Quarantine(settings)

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        await self._quarantine.close()

    async def books(self) -> Books:
        """Return what is in the quarantine now, and what became of events."""
        return await self._quarantine.books()

    async def entry(self, entry_id: str) -> Entry:
        """Return one entry.

        Raises:
            RequestRefusedError: There is none of this id.
        """
        return await self._quarantine.entry(entry_id)

    async def entries(self, choice: Choice) -> AsyncIterator[Entry]:
        """Yield the entries of a choice, the oldest first.

        Raises:
            RequestRefusedError: There is none of an id that it names.
        """
        if choice.ids:
            for entry_id in choice.ids:
                entry = await self._quarantine.entry(entry_id)
                if choice.takes(entry):
                    yield entry
        else:
            async for entry in self._quarantine.entries():
                if choice.takes(entry):
                    yield entry

    def faults_of(self, entry: Entry, event: object) -> tuple[Fault, ...]:
        """Return what would be wrong with an event by now."""
        return faults_of(event, self._limits(), raw=entry.record.raw)

    async def fix(self, entry: Entry, event: object) -> tuple[Fault, ...]:
        """Keep a correction where nothing is wrong with it; return what is.

        Raises:
            RequestRefusedError: It has another name than the event had, or its entry is gone.
        """
        check_name(entry, event)
        faults = self.faults_of(entry, event)
        if not faults:
            await self._quarantine.fix(entry.id, event)
        return faults

    async def discard(self, choice: Choice) -> int:
        """Take entries out for good; return how many."""
        discarded = 0
        ids: list[str] = []
        async for entry in self.entries(choice):
            ids.append(entry.id)
            if len(ids) == PAGE_ENTRIES:
                discarded += await self._quarantine.remove(ids, "discarded")
                ids = []
        return discarded + await self._quarantine.remove(ids, "discarded")

    async def taken(self, entry_ids: Sequence[str]) -> None:
        """Take out entries whose events are in the log by now."""
        await self._quarantine.remove(entry_ids, "redriven")

    def _limits(self) -> Limits:
        settings = self._settings
        latest_us = int((self._clock() + settings.max_future_s) * 1_000_000) if settings.max_future_s else None
        return Limits(settings.max_field_bytes, settings.max_depth, latest_us)


async def books_of(settings: Settings) -> Books:
    """Return what is in the quarantine now, and what became of events."""
    async with Operator(settings) as operator:
        return await operator.books()


def told(faults: Sequence[Fault]) -> str:
    """Return faults in one line."""
    return "; ".join(f"{fault.pointer or 'the event'}: {fault.reason}" for fault in faults)


def shown(entry: Entry) -> dict[str, object]:
    """Return an entry as JSON."""
    record = entry.record
    return {
        "id": entry.id,
        "received_at": format_us(entry.received_ms * 1000),
        "event_id": record.event_id,
        "source": record.source,
        "key": record.key,
        "raw": record.raw,
        "credentials_hidden": record.changed,
        "faults": [dataclasses.asdict(fault) for fault in record.faults],
        "received": record.received,
        "fixed": entry.fixed,
    }
