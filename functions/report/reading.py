"""The store's averages as rows: in their own order for whole tables, or the first so many in any order."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

from functions.core import shards as sharding
from functions.core.report_cursor import Position
from functions.core.report_rows import UserRows, rows_of_users

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from functions.adapters.redis_report import ReportStore, StoreState
    from functions.core.report_query import Filters, Order
    from functions.report.views import View

SLICE_USERS: Final = 4_000
"""Users worked on at a time; other requests are served in between."""

_Item = TypeVar("_Item")
_Entry = tuple[Any, ...]


async def in_shards(
    store: ReportStore, state: StoreState, view: View, filters: Filters, after: bytes | None = None
) -> AsyncGenerator[UserRows]:
    """Yield rows shard by shard, and by the bytes of the id within one; the next shard is read meanwhile.

    Not for a view with pseudonyms: the order would tell what these hide.
    """
    first = 0 if after is None else sharding.shard_of(after.decode(), len(state.shards))

    async def blocks() -> AsyncGenerator[dict[bytes, bytes]]:
        for shard in range(first, len(state.shards)):
            known = after if shard == first else None
            async for block in store.blocks(shard, view.merchant, state.shards[shard].users, known):
                yield block

    async with aclosing(_ahead(blocks())) as read:
        async for block in read:
            for ids, values in _sliced(block):
                rows = filters.of(rows_of_users(ids, values))
                if len(rows):
                    yield rows


async def first_rows(
    store: ReportStore,
    state: StoreState,
    view: View,
    filters: Filters,
    order: Order,
    count: int,
    after: Position | None = None,
) -> tuple[UserRows, list[Position]]:
    """Return the first so many rows in an order, after a position, with theirs; holds little more than these."""
    best: dict[bytes, _Entry] = {}
    bound = None if after is None else (_sortable(after.value), after.user_id)

    async def pieces() -> AsyncGenerator[dict[bytes, bytes]]:
        for shard, shard_state in enumerate(state.shards):
            async for piece in store.pieces(shard, view.merchant, shard_state.users):
                yield piece

    async with aclosing(_ahead(pieces())) as read:
        async for piece in read:
            for ids, values in _sliced(piece):
                shown = ids if view.pseudonyms is None else [*map(view.pseudonyms.of, ids)]
                for entry in _entries(filters.of(rows_of_users(shown, values)), order):
                    if bound is None or (entry[:2] < bound if _backwards(order) else entry[:2] > bound):
                        best[entry[1]] = entry
                if len(best) > count + 4 * SLICE_USERS:
                    best = {entry[1]: entry for entry in _sorted(best.values(), order)[:count]}
                await asyncio.sleep(0)
    entries = _sorted(best.values(), order)[:count]
    if not entries:
        return rows_of_users((), ()), []
    rows = UserRows(*zip(*(entry[1:] for entry in entries), strict=True))
    return rows, [Position(None if entry[0] == math.inf else entry[0], entry[1]) for entry in entries]


async def in_order(
    store: ReportStore, state: StoreState, view: View, filters: Filters, order: Order, block_rows: int
) -> AsyncGenerator[UserRows]:
    """Yield all rows in the order of the ids, by reading everything once for each block of rows."""
    after = None
    while True:
        rows, positions = await first_rows(store, state, view, filters, order, block_rows, after)
        for start in range(0, len(rows), SLICE_USERS):
            yield rows.part(start, start + SLICE_USERS)
        if len(rows) < block_rows:
            return
        after = positions[-1]


def _entries(rows: UserRows, order: Order) -> Iterator[_Entry]:
    keys: Sequence[Any]
    if order.by_id:
        keys = (0,) * len(rows)
    else:
        column = rows.column(order.column)
        keys = [math.inf if value is None else -value if order.descending else value for value in column]
    return zip(
        keys, rows.ids, rows.seconds, rows.sessions, rows.first_us, rows.last_us,
        rows.closed_seconds, rows.closed_sessions, rows.unclosed,
        strict=True,
    )  # fmt: skip


def _backwards(order: Order) -> bool:
    """Tell whether ids come backwards; among equal numbers they always come forwards."""
    return order.by_id and order.descending


def _sorted(entries: Iterable[_Entry], order: Order) -> list[_Entry]:
    return sorted(entries, reverse=_backwards(order))


def _sortable(value: int | None) -> float:
    return math.inf if value is None else value


def _sliced(block: dict[bytes, bytes]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    ids, values = [*block], [*block.values()]
    for start in range(0, len(ids), SLICE_USERS):
        yield ids[start : start + SLICE_USERS], values[start : start + SLICE_USERS]


async def _ahead(items: AsyncGenerator[_Item]) -> AsyncGenerator[_Item]:
    """Yield what a generator does, while it already prepares its next item."""

    async def following() -> _Item | None:
        return await anext(items, None)

    task = asyncio.create_task(following())
    try:
        while (item := await task) is not None:
            task = asyncio.create_task(following())
            yield item
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await items.aclose()
