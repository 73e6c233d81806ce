"""The store's averages as rows: in their own order for whole tables, or the first so many in any order."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

from functions.adapters.redis_regular import Regular
from functions.adapters.redis_report import by_objects
from functions.core import shards as sharding
from functions.core.report_cursor import Position
from functions.core.report_rows import HIGHEST_BYTE, HUNDREDTHS_ALONE, UserRows, rows_of_averages, rows_of_users
from functions.core.spans import COMPUTED, TOTALS, TOTALS_FORMAT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from functions.adapters.redis_report import Averages, ReportStore
    from functions.adapters.redis_state import StoreState
    from functions.core.report_query import Filters, Order
    from functions.report.views import View

SLICE_USERS: Final = 4_000
"""Users worked on at a time; other requests are served in between."""
FEW_USERS: Final = 20_000
"""Of so many at most all shards are read in a few trips."""
_USERS_A_TRIP: Final = 1_000
"""So few are read in one trip."""
_PARTS_READ: Final = (0.125, 0.3125, 0.5625, 1.0)
"""Of the shards of more, after each trip: the first ones come soon, and few later ones are waited for.

Of 6 ms for 10,000 users 0.4 are waiting so; with two trips, of a quarter and the rest, 1.0.
"""
_AHEAD_USERS: Final = 32_000
"""Of shards that have more, none is read while the one before is put in order: at a million users that took 40 MB."""
USERS_A_PASS: Final = 150_000
"""Users held at a time where all are wanted in the order of their ids; each takes about 0.25 KB."""

_Item = TypeVar("_Item")
_Entry = tuple[Any, ...]


async def in_shards(
    store: ReportStore, state: StoreState, view: View, filters: Filters, after: bytes | None = None
) -> AsyncGenerator[UserRows]:
    """Yield rows shard by shard, and by the bytes of the id within one; the next shard is read meanwhile.

    Not for a view with pseudonyms: the order would tell what these hide.
    """
    first = 0 if after is None else sharding.shard_of(after.decode(), len(state.shards))

    async def blocks() -> AsyncGenerator[Averages]:
        for shard in range(first, len(state.shards)):
            known = after if shard == first else None
            async for block in store.blocks(shard, view.merchant, state.shards[shard].users, known):
                yield block

    async with aclosing(ahead(blocks())) as read:
        async for block in read:
            for ids, values in cut(*block):
                rows = filters.of(rows_of_users(ids, values))
                if len(rows):
                    yield rows


async def by_shard(
    store: ReportStore, state: StoreState, view: View, shards: Sequence[int]
) -> AsyncGenerator[tuple[Averages | Regular, bool]]:
    """Yield these shards' averages, as they were read, and whether it is a shard's last block, which may be empty.

    The next block is read meanwhile, where shards are not large. Those of a shard come in one block and in no order, or
    where it is very large in several in the order of the ids.
    """
    users = {shard: state.shards[shard].users for shard in shards}
    blocks = store.unsorted(users, view.merchant)
    async with aclosing(blocks if max(users.values(), default=0) > _AHEAD_USERS else ahead(blocks)) as read:
        async for block in read:
            yield block


async def in_trips(
    store: ReportStore, state: StoreState, view: View, shards: Sequence[int]
) -> AsyncGenerator[Averages | Regular]:
    """Yield the averages of each of these shards, which have few users, in no order; most arrive meanwhile."""
    some = [shard for shard in shards if state.shards[shard].users]
    async with aclosing(store.wholes(_trips(state, some), view.merchant)) as read:
        for shard in shards:
            yield await anext(read) if state.shards[shard].users else ([], [])


async def values_in_trips(
    store: ReportStore, state: StoreState, merchant: str | None, shards: Sequence[int]
) -> AsyncGenerator[list[bytes] | Regular]:
    """Yield the values alone of each of these shards, which have few users but some."""
    async with aclosing(store.all_values(_trips(state, shards), merchant)) as read:
        async for values in read:
            yield values


def _trips(state: StoreState, shards: Sequence[int]) -> list[Sequence[int]]:
    """Return which shards are asked for together: a few, and then half as many again as those that are worked on."""
    if state.users <= _USERS_A_TRIP:
        return [shards] if shards else []
    ends = [round(len(shards) * part) for part in _PARTS_READ]
    return [shards[start:end] for start, end in pairwise([0, *ends]) if end > start]


def ready_averages(averages: Averages | Regular) -> tuple[Sequence[bytes], Sequence[int]]:
    """Return the ids of users who have a session, and their averages in hundredths of an hour, in the order given."""
    if isinstance(averages, Regular) and is_current(averages):
        ids, hundredths = averages.fields(f"{averages.lengths[0]}s", f"x{HUNDREDTHS_ALONE}")
        if averages.bytes_at(len(averages.lengths) - 1, HIGHEST_BYTE).count(0) == averages.records:
            return ids, hundredths  # numbers below 2**24, which are none of those that stand for something else
        if COMPUTED not in hundredths:
            rows = rows_of_averages(ids, hundredths, ())
            return rows.ids, rows.hundredths()
    rows = rows_of_users(*by_objects(averages))
    return rows.ids, rows.hundredths()


def first_bytes(averages: Averages | Regular, ids: Sequence[bytes]) -> bytes:
    """Return the first byte of each id, where all of those that were read are wanted and of one length; else none."""
    if isinstance(averages, Regular) and averages.records == len(ids) and averages.lengths[0]:
        return bytes(averages.bytes_at(0, 0))
    return b""


def is_current(averages: Regular) -> bool:
    """Tell whether all values are of today's format."""
    last = len(averages.lengths) - 1
    of_today = averages.bytes_at(last, 0).count(TOTALS_FORMAT)
    return averages.lengths[last] == TOTALS.size and of_today == averages.records


async def first_rows(
    store: ReportStore,
    state: StoreState,
    view: View,
    filters: Filters,
    order: Order,
    count: int,
    after: Position | None = None,
) -> tuple[UserRows, list[Position]]:
    """Return the first so many rows in an order, after a position, with theirs; holds about twice as many."""
    best: dict[bytes, _Entry] = {}
    bound: Any = None
    if after is not None:
        bound = (after.user_id if order.by_id else _sortable(after.value), after.user_id)
    worst: Any = None  # what the last of so many rows has come to be sorted by: who comes after it need not be kept
    async with aclosing(ahead(_pieces(store, state, view))) as read:
        async for piece in read:
            for ids, values in cut(*piece):
                rows = filters.of(rows_of_users(_shown(ids, view), values))
                keys = _keys(rows, order)
                if worst is not None:
                    near = [key >= worst for key in keys] if _backwards(order) else [key <= worst for key in keys]
                    rows, keys = rows.where(near), list(compress(keys, near))
                for entry in zip(keys, *rows.all_columns(), strict=True):
                    if bound is None or (entry[:2] < bound if _backwards(order) else entry[:2] > bound):
                        best[entry[1]] = entry
                if len(best) > 2 * count + SLICE_USERS:
                    best = {entry[1]: entry for entry in _sorted(best.values(), order)[:count]}
                    worst = next(reversed(best.values()))[0]
                await asyncio.sleep(0)
    entries = _sorted(best.values(), order)[:count]
    if not entries:
        return rows_of_users((), ()), []
    rows = UserRows(*zip(*(entry[1:] for entry in entries), strict=True))
    return rows, [Position(_stored(entry[0], order), entry[1]) for entry in entries]


async def in_id_order(
    store: ReportStore, state: StoreState, view: View, filters: Filters, *, descending: bool
) -> AsyncGenerator[UserRows]:
    """Yield all rows in the order of the ids as they are shown, over all shards.

    Everything is read once for each range of about `USERS_A_PASS` ids: shards have their users by a checksum, so one
    shard's ids are spread as those of all.
    """
    bounds: list[bytes] = []
    if state.users > USERS_A_PASS:
        shard = max(range(len(state.shards)), key=lambda number: state.shards[number].users)
        ids: list[bytes] = []
        async for some, _ in store.pieces(shard, view.merchant, state.shards[shard].users):
            ids += some
        names = sorted({*_shown(ids, view)})
        step = max(1, len(names) * USERS_A_PASS // state.users)
        bounds = names[step::step]
    ranges = [*pairwise([None, *bounds, None])]
    for low, high in reversed(ranges) if descending else ranges:
        held: dict[bytes, bytes] = {}
        async with aclosing(ahead(_pieces(store, state, view))) as read:
            async for piece in read:
                for some, values in cut(*piece):
                    held |= {
                        name: value
                        for name, value in zip(_shown(some, view), values, strict=True)
                        if (low is None or name > low) and (high is None or name <= high)
                    }
                    await asyncio.sleep(0)
        in_order = sorted(held, reverse=descending)
        for start in range(0, len(in_order), SLICE_USERS):
            names = in_order[start : start + SLICE_USERS]
            if len(rows := filters.of(rows_of_users(names, [held[name] for name in names]))):
                yield rows


async def _pieces(store: ReportStore, state: StoreState, view: View) -> AsyncGenerator[Averages]:
    for shard, shard_state in enumerate(state.shards):
        async for piece in store.pieces(shard, view.merchant, shard_state.users):
            yield piece


def _shown(ids: list[bytes], view: View) -> list[bytes]:
    return ids if view.pseudonyms is None else [*map(view.pseudonyms.of, ids)]


def _keys(rows: UserRows, order: Order) -> list[Any]:
    """Return what rows are sorted by, before their ids."""
    if order.by_id:
        return [*rows.ids]
    column = rows.column(order.column)
    if None in column:
        return [math.inf if value is None else -value if order.descending else value for value in column]
    return [-value for value in column] if order.descending else [*column]


def _stored(key: Any, order: Order) -> int | None:
    """Return the key as a cursor holds it."""
    return None if order.by_id or key == math.inf else key


def _backwards(order: Order) -> bool:
    """Tell whether ids come backwards; among equal numbers they always come forwards, and numbers are negated."""
    return order.by_id and order.descending


def _sorted(entries: Iterable[_Entry], order: Order) -> list[_Entry]:
    return sorted(entries, reverse=_backwards(order))


def _sortable(value: int | None) -> float:
    return math.inf if value is None else value


def cut(ids: list[bytes], values: list[bytes]) -> Iterator[Averages]:
    """Yield averages in slices of what is worked on at a time."""
    for start in range(0, len(ids), SLICE_USERS):
        yield ids[start : start + SLICE_USERS], values[start : start + SLICE_USERS]


async def ahead(items: AsyncGenerator[_Item]) -> AsyncGenerator[_Item]:
    """Yield what a generator does, while it already prepares its next item."""

    async def following() -> _Item | None:
        return await anext(items, None)

    task = asyncio.create_task(following())
    try:
        while (item := await task) is not None:
            task = asyncio.create_task(following())
            await asyncio.sleep(0)  # it begins before the item is worked on
            yield item
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await items.aclose()
