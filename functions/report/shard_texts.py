"""Whole tables as text, shard by shard: what is kept of unchanged shards as it is, the others made anew.

Five things go on at once where there are many users: a shard is read, the one before it is put in order, the next slice
of the one before that is written, this slice is sent, and the last ones are packed to be kept.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from functions.adapters import metrics
from functions.adapters.compression import pack, unpack
from functions.adapters.redis_regular import Regular
from functions.adapters.redis_report import by_objects, in_order
from functions.core.report_columns import DEFAULT_FIELDS
from functions.core.report_query import Filters
from functions.core.report_rows import rows_of_users
from functions.report.kept_texts import KeptPart, KeptTexts
from functions.report.reading import ahead, by_shard, cut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Sequence

    from functions.adapters.redis_report import Averages, ReportStore, StoreState
    from functions.core.report_query import TableQuery
    from functions.core.report_texts import TextEncoder
    from functions.report.kernels import Kernels, SortedRows
    from functions.report.views import View

_SLICE_ROWS: Final = 4_000
"""Rows that are written at a time by Arrow's kernels."""
_PACKED_BEHIND: Final = 2
"""Slices that may have been sent and still be held, as they are not packed yet."""


class ShardTexts:
    """Makes the texts of tables, and keeps them as long as their shards stay at their versions."""

    def __init__(self, store: ReportStore, kernels: Kernels) -> None:
        self._store = store
        self._kernels = kernels
        self._kept = KeptTexts()

    async def of(self, state: StoreState, view: View, query: TableQuery, encoder: TextEncoder) -> AsyncGenerator[bytes]:
        """Yield the texts of a table's slices, shard by shard and by the bytes of the id within one."""
        question = f"{view.key()}|{query.key()}|{type(encoder).__name__}|{state.pipeline}"
        versions = [(shard.version, state.generation) for shard in state.shards]
        found = {shard: self._kept.find(question, shard, version) for shard, version in enumerate(versions)}
        missing = [shard for shard, part in found.items() if part is None]
        keeping: asyncio.Future[None] | None = None
        async with aclosing(ahead(self._made(state, view, query, encoder, missing))) as made:
            for shard, part in found.items():
                if part is not None:
                    metrics.report_rows.add(part.rows)
                    for piece in part.pieces:
                        yield encoder.placed(unpack(piece))
                    continue
                count, packing = 0, []
                while (next_one := await anext(made))[0]:
                    rows, text = next_one
                    yield encoder.placed(text)
                    packing.append(asyncio.ensure_future(asyncio.to_thread(pack, text)))
                    count += rows
                    if len(packing) > _PACKED_BEHIND:
                        await packing[-1 - _PACKED_BEHIND]
                metrics.report_rows.add(count)
                if keeping is not None:
                    await keeping  # no more than one shard is waited for while the next one is sent
                keeping = asyncio.ensure_future(self._keep(question, shard, versions[shard], count, packing))
        if keeping is not None:
            await keeping

    async def _keep(
        self, question: str, shard: int, version: object, rows: int, packing: Sequence[Awaitable[bytes]]
    ) -> None:
        self._kept.keep(question, shard, KeptPart(version, rows, await asyncio.gather(*packing)))

    async def _made(
        self, state: StoreState, view: View, query: TableQuery, encoder: TextEncoder, shards: Sequence[int]
    ) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield these shards' texts slice by slice, with how many rows each has; none ends a shard."""
        by_kernels = query.fields == DEFAULT_FIELDS and query.filters == Filters()
        async with aclosing(ahead(self._in_order(state, view, shards, by_kernels=by_kernels))) as parts:
            async for part in parts:
                if not isinstance(part, tuple):
                    for start in range(0, len(part), _SLICE_ROWS):
                        text = await asyncio.to_thread(part.text, encoder, start, _SLICE_ROWS)
                        yield min(_SLICE_ROWS, len(part) - start), text
                    continue
                if not part[0]:
                    yield 0, b""
                for ids, values in cut(*part):
                    shown = query.filters.of(rows_of_users(ids, values))
                    if len(shown):
                        yield len(shown), encoder.text([shown.column(name) for name in query.fields])

    async def _in_order(
        self, state: StoreState, view: View, shards: Sequence[int], *, by_kernels: bool
    ) -> AsyncGenerator[SortedRows | Averages]:
        """Yield these shards' users in the order of their ids; nobody ends a shard."""
        async with aclosing(by_shard(self._store, state, view, shards)) as read:
            async for block in read:
                kernels = await self._kernels.ready() if by_kernels else None
                there = isinstance(block, Regular) or block[0]
                rows = await asyncio.to_thread(kernels.sorted_rows, block) if kernels is not None and there else None
                if rows is None:
                    yield in_order(by_objects(block))
                    continue
                if not isinstance(block, Regular):
                    for column in block:
                        column.clear()  # whoever handed it on still holds it
                yield rows
