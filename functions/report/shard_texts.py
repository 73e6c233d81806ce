"""Whole tables as text, shard by shard: what is kept of unchanged shards as it is, the others made anew.

Where there are many users four things go on at once: a shard is read, the one before it is put in order, the next slice
of the one before that is written, and this slice is sent. Few are read in a few trips; of a million, whose shards are
large, none is read while another is put in order, and each is packed to be kept while the next one is sent.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from functions.adapters import metrics
from functions.adapters.compression import pack, unpack
from functions.adapters.redis_regular import Regular
from functions.adapters.redis_report import by_objects, in_order
from functions.core.report_columns import DEFAULT_FIELDS
from functions.core.report_query import Filters
from functions.core.report_rows import rows_of_users
from functions.core.report_texts import text_by_id
from functions.report.kept_texts import KeptPart, KeptTexts, LooseTexts
from functions.report.reading import FEW_USERS, SLICE_USERS, ahead, by_shard, cut, first_bytes, in_trips, ready_averages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from functions.adapters.redis_report import Averages, ReportStore
    from functions.adapters.redis_state import StoreState
    from functions.core.report_query import TableQuery
    from functions.core.report_texts import TextEncoder
    from functions.report.kernels import Kernels, SortedRows
    from functions.report.views import View

    Text: TypeAlias = tuple[int, bytes]
    """How many rows a slice has, and what it is."""

_SLICE_ROWS: Final = 10_000
"""About so many rows are written at a time by Arrow's kernels; a shard's slices have the same number, or nearly."""
_LATER_USERS: Final = 250_000
"""The rows of so many at most are packed once their table has been sent, which then takes a tenth less time."""
_LATER_BYTES: Final = 16 << 20
"""Of rows, those of all tables together, that may wait for that."""
_PACKED_BEHIND: Final = 2
"""Slices that may have been sent and still be held, as they are not packed yet."""


class _Table:
    """One table that is asked for."""

    def __init__(self, state: StoreState, view: View, query: TableQuery, encoder: TextEncoder) -> None:
        self.state = state
        self.view = view
        self.query = query
        self.encoder = encoder
        self.by_kernels = query.fields == DEFAULT_FIELDS and query.filters == Filters()
        """Whether it has the columns, and the rows, that Arrow's kernels know."""
        self.columns = f"{view.key()}|{state.pipeline}"
        """What its columns are kept as."""
        self.question = f"{self.columns}|{query.key()}|{type(encoder).__name__}"
        """What its texts are kept as."""
        self.versions = [(shard.version, state.generation) for shard in state.shards]

    def texts_of(self, averages: Averages) -> Iterator[Text]:
        """Yield the texts of users in the order of their ids."""
        for ids, values in cut(*averages):
            shown = self.query.filters.of(rows_of_users(ids, values))
            if len(shown):
                yield len(shown), self.encoder.text([shown.column(name) for name in self.query.fields])

    def texts_by_id(self, averages: Averages | Regular) -> Iterator[Text]:
        """Yield the texts of users, who come in no order, by their ids."""
        if self.by_kernels:
            ids, hundredths = ready_averages(averages)
            starts = first_bytes(averages, ids)
            text = text_by_id(self.encoder, ids, hundredths, starts) if 0 < len(ids) <= SLICE_USERS else None
            if text is not None:
                yield len(ids), text
                return
        yield from self.texts_of(in_order(by_objects(averages)))


class ShardTexts:
    """Makes the texts of tables, and keeps them as long as their shards stay at their versions."""

    def __init__(self, store: ReportStore, kernels: Kernels) -> None:
        self._store = store
        self._kernels = kernels
        self._kept = KeptTexts()
        self._packing: asyncio.Task[None] | None = None
        self._later_bytes = 0

    async def of(self, state: StoreState, view: View, query: TableQuery, encoder: TextEncoder) -> AsyncGenerator[bytes]:
        """Yield the texts of a table's slices, shard by shard and by the bytes of the id within one."""
        table = _Table(state, view, query, encoder)
        await self._packed()  # so that what was sent just now is found
        found = [self._find(table, shard) for shard in range(len(state.shards))]
        missing = [shard for shard, part in enumerate(found) if part is None]
        few = state.users <= FEW_USERS and not any(isinstance(part, KeptPart) for part in found)
        slices = self._small(table, found, missing) if few else ahead(self._large(table, found, missing))
        async with aclosing(slices) as made:
            async for rows, text in made:
                metrics.report_rows.add(rows)
                yield text

    def _find(self, table: _Table, shard: int) -> KeptPart | LooseTexts | None:
        found = self._kept.find(table.question, shard, table.versions[shard])
        if found is None and table.by_kernels:
            found = self._kept.find(table.columns, shard, table.versions[shard])
        return found

    async def _small(
        self, table: _Table, found: Sequence[KeptPart | LooseTexts | None], missing: Sequence[int]
    ) -> AsyncGenerator[Text]:
        """Yield all slices where little is to be read."""
        async with aclosing(in_trips(self._store, table.state, table.view, missing)) as read:
            for shard, part in enumerate(found):
                if part is not None:
                    for rows, text in _texts_of(part):
                        yield rows, table.encoder.placed(text)
                    continue
                texts = []
                for rows, text in table.texts_by_id(await anext(read)):
                    texts.append((rows, text))
                    yield rows, table.encoder.placed(text)
                self._kept.keep(table.question, shard, LooseTexts(table.versions[shard], texts))

    async def _large(
        self, table: _Table, found: Sequence[KeptPart | LooseTexts | None], missing: Sequence[int]
    ) -> AsyncGenerator[Text]:
        """Yield all slices where much is to be read."""
        columns = [part for part in found if isinstance(part, KeptPart) and part.shapes]
        async with (
            aclosing(ahead(self._in_order(table, missing))) as blocks,
            aclosing(ahead(self._kept_rows(columns))) as kept,
            self._packed_at_the_end(table) as later,
        ):
            for shard, part in enumerate(found):
                if isinstance(part, KeptPart) and part.shapes:
                    for again in await anext(kept):
                        async for slice_ in self._written(table, again):
                            yield slice_
                    continue
                if part is not None:
                    for rows, text in _texts_of(part):
                        yield rows, table.encoder.placed(text)
                    continue
                made: list[SortedRows] = []
                count = 0
                packed: list[asyncio.Future[bytes]] = []
                async for block, is_last in blocks:
                    if isinstance(block, tuple):
                        for rows, text in table.texts_of(block):
                            yield rows, table.encoder.placed(text)
                            count += rows
                            packed.append(asyncio.ensure_future(asyncio.to_thread(pack, text)))
                            if len(packed) > _PACKED_BEHIND:
                                await packed[-1 - _PACKED_BEHIND]
                    else:
                        made.append(block)
                        async for slice_ in self._written(table, block):
                            yield slice_
                    if is_last:
                        break
                if made and packed:  # of both kinds, since values are of two formats: then it is not kept
                    continue
                if made and self._may_wait(table, made):
                    later[shard] = made
                else:
                    await self._keep(table, shard, made, packed, count)

    async def _kept_rows(self, parts: Sequence[KeptPart]) -> AsyncGenerator[list[SortedRows]]:
        """Yield the rows of each part whose columns were kept."""
        kernels = await self._kernels.ready()
        if kernels is None:  # then there are none
            return
        for part in parts:
            pieces = [*part.pieces]
            each = len(pieces) // len(part.shapes)
            yield [
                await asyncio.to_thread(kernels.unpacked, shape, pieces[place * each : (place + 1) * each], unpack)
                for place, shape in enumerate(part.shapes)
            ]

    async def _written(self, table: _Table, rows: SortedRows) -> AsyncGenerator[Text]:
        """Yield the slices of rows."""
        slices = max(1, round(len(rows) / _SLICE_ROWS))
        slice_rows = max(1, -(-len(rows) // slices))
        for start in range(0, len(rows), slice_rows):
            lead = table.encoder.placed(b"")
            text = await asyncio.to_thread(rows.text, table.encoder, start, slice_rows, lead)
            yield min(slice_rows, len(rows) - start), text

    def _may_wait(self, table: _Table, made: Sequence[SortedRows]) -> bool:
        """Tell whether rows may wait to be packed; then they count among those that do."""
        size_bytes = _size_bytes(made)
        if table.state.users > _LATER_USERS or self._later_bytes + size_bytes > _LATER_BYTES:
            return False
        self._later_bytes += size_bytes
        return True

    @asynccontextmanager
    async def _packed_at_the_end(self, table: _Table) -> AsyncGenerator[dict[int, list[SortedRows]]]:
        """Have rows that are put here, shard by shard, packed and kept once the table has been made."""
        later: dict[int, list[SortedRows]] = {}

        async def pack_and_keep(before: asyncio.Task[None] | None) -> None:
            if before is not None:
                await asyncio.wait((before,))
            while later:
                shard, made = later.popitem()
                self._later_bytes -= _size_bytes(made)
                await self._pack_and_keep(table, shard, made)

        try:
            yield later
        except BaseException:
            self._later_bytes -= sum(map(_size_bytes, later.values()))
            raise
        if later:
            self._packing = asyncio.create_task(pack_and_keep(self._packing))

    async def _keep(
        self,
        table: _Table,
        shard: int,
        made: Sequence[SortedRows],
        packed: Sequence[asyncio.Future[bytes]],
        rows: int,
    ) -> None:
        """Have a shard's part kept soon; one at a time is waited for while the next one is sent."""
        await self._packed()

        async def gather_and_keep() -> None:
            part = KeptPart(table.versions[shard], rows, await asyncio.gather(*packed))
            self._kept.keep(table.question, shard, part)

        self._packing = asyncio.create_task(self._pack_and_keep(table, shard, made) if made else gather_and_keep())

    async def _pack_and_keep(self, table: _Table, shard: int, made: Sequence[SortedRows]) -> None:
        both = [await asyncio.to_thread(each.packed, pack) for each in made]
        pieces = [piece for _, some in both for piece in some]
        part = KeptPart(table.versions[shard], sum(map(len, made)), pieces, [shape for shape, _ in both])
        self._kept.keep(table.columns, shard, part)

    async def _packed(self) -> None:
        """Wait for what is being packed; whoever waits may leave."""
        if self._packing is not None:
            await asyncio.wait((self._packing,))

    async def _in_order(
        self, table: _Table, shards: Sequence[int]
    ) -> AsyncGenerator[tuple[SortedRows | Averages, bool]]:
        """Yield these shards' users in the order of their ids, and whether they are the shard's last."""
        async with aclosing(by_shard(self._store, table.state, table.view, shards)) as read:
            async for block, is_last in read:
                kernels = await self._kernels.ready() if table.by_kernels else None
                there = isinstance(block, Regular) or block[0]
                rows = await asyncio.to_thread(kernels.sorted_rows, block) if kernels is not None and there else None
                if rows is None:
                    yield in_order(by_objects(block)), is_last
                    continue
                yield rows, is_last
                del rows, block
                await self._packed()  # on a busy machine this falls behind, and is memory then


def _size_bytes(made: Sequence[SortedRows]) -> int:
    return sum(rows.size_bytes for rows in made)


def _texts_of(part: KeptPart | LooseTexts) -> Iterator[Text]:
    """Yield the texts that were kept."""
    if isinstance(part, LooseTexts):
        yield from part.texts
        return
    rows = part.rows
    for piece in part.pieces:
        yield rows, unpack(piece)
        rows = 0  # counted once
