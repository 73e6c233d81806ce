"""Summaries of all users, of one merchant's, of merchants side by side; unchanged shards are not read again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_regular import Regular
from functions.core.report_rows import rows_of_users
from functions.core.report_summary import SUMMARY_FIELDS, Summary
from functions.report.reading import FEW_USERS, SLICE_USERS, is_current, values_in_trips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.adapters.redis_report import ReportStore
    from functions.adapters.redis_state import StoreState
    from functions.report.kernels import Kernels
    from functions.report.views import View

_MOST_KEPT: Final = 300_000
"""Different averages, of all shards' summaries together, that are kept; each takes about 0.1 KB."""

_READ_AT_ONCE: Final = 3
"""Shards whose values are held at a time."""


class Summaries:
    """Reads summaries, and keeps those of shards as long as these stay at their versions."""

    def __init__(self, store: ReportStore, kernels: Kernels) -> None:
        self._store = store
        self._kernels = kernels
        self._few = asyncio.Semaphore(_READ_AT_ONCE)
        self._kept: OrderedDict[tuple[str | None, int], tuple[object, Summary]] = OrderedDict()
        self._size = 0

    async def of(self, state: StoreState, view: View) -> Summary:
        """Return the summary of a view."""
        if state.users <= FEW_USERS and await self._kernels.ready() is None:
            await self._read_few(state, view.merchant)
        parts = await asyncio.gather(
            *(
                self._of_shard(shard, view.merchant, held.users, (held.version, state.generation))
                for shard, held in enumerate(state.shards)
                if held.users
            )
        )
        total = Summary()
        for part in parts:
            total.merge(part)
        return total

    async def of_merchant(self, state: StoreState, merchant: str) -> Summary:
        """Return a merchant's summary, where the state holds the merchants' versions."""
        total = Summary()
        for shard, versions in enumerate(state.merchants):
            if merchant in versions:
                # A merchant's part of a shard has fewer users than the shard, which is what this number is for.
                users = state.shards[shard].users
                total.merge(await self._of_shard(shard, merchant, users, (versions[merchant], state.generation)))
        return total

    async def _read_few(self, state: StoreState, merchant: str | None) -> None:
        """Have all shards kept where little is to be read."""
        versions = {shard: (held.version, state.generation) for shard, held in enumerate(state.shards) if held.users}
        missing = [shard for shard, version in versions.items() if self._known(shard, merchant, version) is None]
        async with aclosing(values_in_trips(self._store, state, merchant, missing)) as read:
            for shard in missing:
                self._keep((merchant, shard), versions[shard], await summary_of(await anext(read)))

    async def _of_shard(self, shard: int, merchant: str | None, users: int, version: object) -> Summary:
        known = self._known(shard, merchant, version)
        if known is not None:
            return known
        async with self._few:
            summary = await self._read(shard, merchant, users)
        self._keep((merchant, shard), version, summary)
        return summary

    def _known(self, shard: int, merchant: str | None, version: object) -> Summary | None:
        known = self._kept.get((merchant, shard))
        if known is None or known[0] != version:
            return None
        self._kept.move_to_end((merchant, shard))
        return known[1]

    async def _read(self, shard: int, merchant: str | None, users: int) -> Summary:
        summary = Summary()
        async for values in self._store.values(shard, merchant, users):
            kernels = await self._kernels.ready()
            part = None if kernels is None else await asyncio.to_thread(kernels.summary_of, values)
            summary.merge(part or await summary_of(values))
        return summary

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
