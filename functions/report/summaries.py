"""Summaries of all users, of one merchant's, of merchants side by side; unchanged shards are not read again.

What is read is kept, here and in the store: for other processes, and for runs, whose commits then take it along.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_regular import Regular
from functions.adapters.redis_summaries import KeptSummary
from functions.core.errors import FlyertimeError
from functions.core.report_rows import rows_of_users
from functions.core.report_summary import SUMMARY_FIELDS, Summary
from functions.core.summary_packing import WORTH_KEEPING_USERS
from functions.report.reading import FEW_USERS, SLICE_USERS, is_current, values_in_trips

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.adapters.redis_state import StoreState
    from functions.adapters.redis_summaries import SummaryStore
    from functions.report.kernels import Kernels
    from functions.report.views import View

logger = logging.getLogger(__name__)

_MOST_KEPT: Final = 300_000
"""Different averages, of all shards' summaries together, that are kept; each takes about 0.1 KB."""

_READ_AT_ONCE: Final = 3
"""Shards whose values are held at a time."""


class Summaries:
    """Reads summaries, and keeps those of shards as long as these stay at their versions."""

    def __init__(self, store: SummaryStore, kernels: Kernels) -> None:
        self._store = store
        self._kernels = kernels
        self._few = asyncio.Semaphore(_READ_AT_ONCE)
        self._kept: OrderedDict[tuple[str | None, int], tuple[object, Summary]] = OrderedDict()
        self._size = 0

    async def of(self, state: StoreState, view: View) -> Summary:
        """Return the summary of a view."""
        versions = {shard: held.version for shard, held in enumerate(state.shards) if held.users}
        return await self._of(state, view.merchant, versions)

    async def of_merchant(self, state: StoreState, merchant: str) -> Summary:
        """Return a merchant's summary, where the state holds the merchants' versions."""
        versions = {shard: held[merchant] for shard, held in enumerate(state.merchants) if merchant in held}
        return await self._of(state, merchant, versions)

    async def _of(self, state: StoreState, merchant: str | None, versions: Mapping[int, int]) -> Summary:
        """Return what these shards' averages, of these versions, come to."""
        parts = {shard: self._known(shard, merchant, (versions[shard], state.generation)) for shard in versions}
        missing = [shard for shard, part in parts.items() if part is None]
        # A merchant's part of a shard has fewer users than the shard, which is what is known here.
        many = [shard for shard in missing if state.shards[shard].users >= WORTH_KEEPING_USERS]
        if many:
            for kept in await self._store.kept_summaries(merchant, many, state.generation):
                if kept.version == versions[kept.shard]:
                    parts[kept.shard] = kept.summary
        unread = [shard for shard in missing if parts[shard] is None]
        summaries = await self._read_all(state, merchant, unread)
        read = [
            KeptSummary(shard, merchant, versions[shard], part) for shard, part in zip(unread, summaries, strict=True)
        ]
        parts |= {kept.shard: kept.summary for kept in read}
        total = Summary()
        for shard, part in parts.items():
            if part is not None:
                total.merge(part)
                self._keep((merchant, shard), (versions[shard], state.generation), part)
        await self._keep_in_store(read, state.generation)
        return total

    async def _read_all(self, state: StoreState, merchant: str | None, shards: Sequence[int]) -> list[Summary]:
        """Return what these shards' averages come to, from all their values."""
        if not shards:
            return []
        if state.users <= FEW_USERS and await self._kernels.ready() is None:
            async with aclosing(values_in_trips(self._store, state, merchant, shards)) as read:
                return [await summary_of(await anext(read)) for _ in shards]
        return await asyncio.gather(*(self._read(shard, merchant, state.shards[shard].users) for shard in shards))

    async def _read(self, shard: int, merchant: str | None, users: int) -> Summary:
        summary = Summary()
        async with self._few:
            async for values in self._store.values(shard, merchant, users):
                kernels = await self._kernels.ready()
                part = None if kernels is None else await asyncio.to_thread(kernels.summary_of, values)
                summary.merge(part or await summary_of(values))
        return summary

    async def _keep_in_store(self, read: Sequence[KeptSummary], generation: int) -> None:
        """Keep what was read for others too, where that is worth it; nothing hangs on it."""
        try:
            await self._store.keep_summaries(
                [kept for kept in read if kept.summary.users >= WORTH_KEEPING_USERS], generation
            )
        except FlyertimeError as e:
            logger.debug("summaries are not kept: %s", e.message)

    def _known(self, shard: int, merchant: str | None, version: object) -> Summary | None:
        known = self._kept.get((merchant, shard))
        if known is None or known[0] != version:
            return None
        self._kept.move_to_end((merchant, shard))
        return known[1]

    def _keep(self, key: tuple[str | None, int], version: object, summary: Summary) -> None:
        replaced = self._kept.pop(key, None)
        self._size += _size_of(summary) - (0 if replaced is None else _size_of(replaced[1]))
        self._kept[key] = (version, summary)
        while self._size > _MOST_KEPT:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._size -= _size_of(oldest)


async def summary_of(values: Sequence[bytes] | Regular) -> Summary:
    """Return the summary of users from their values in an averages hash; others are served in between."""
    summary = Summary()
    if isinstance(values, Regular):
        few = values.records <= SLICE_USERS
        if few and is_current(values) and summary.add_current(values.fields(SUMMARY_FIELDS)):
            return summary
        values = values.columns()[0]
    for start in range(0, len(values), SLICE_USERS):
        some = values[start : start + SLICE_USERS]
        summary.add(rows_of_users(some, some))
        await asyncio.sleep(0)
    return summary


def _size_of(summary: Summary) -> int:
    return 10 + len(summary.hundredths)
