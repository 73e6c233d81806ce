"""The store as the report reads it: the averages, a shard at a time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import redis
from redis.exceptions import MovedError

from functions.adapters import metrics, redis_bulk
from functions.adapters.redis_client import translated_errors
from functions.adapters.redis_regular import Regular
from functions.adapters.redis_value import ValueStore
from functions.adapters.redis_wire import leave

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

    from functions.adapters.redis_bulk import Asked, Command
    from functions.adapters.redis_cluster import AsyncClient
    from functions.core import shards as sharding
    from functions.core.settings import Settings

Averages: TypeAlias = tuple[list[bytes], list[bytes]]
"""Ids of users, and their values."""

BLOCK_USERS: Final = 100_000
"""Users held at a time, of one shard; a larger shard is read as often as it has blocks of so many."""
SCAN_USERS: Final = 5_000


class ReportStore(ValueStore):
    """All that the report asks of Redis."""

    def __init__(self, settings: Settings, client: AsyncClient | None = None) -> None:
        super().__init__(settings, client)
        self._asking_ahead = asyncio.Lock()
        self._ahead: Asked | None = None
        """What the server may be holding: one shard's, for all readers together."""
        self.when_read: Callable[[int], None] = lambda _: None
        """Is told how many users' averages were read."""

    @metrics.timed_trip("report_shard")
    async def _whole(self, shard: int, merchant: str | None, ahead: Asked | None = None) -> Averages | Regular:
        """Return a shard's averages, which may have been asked for ahead."""
        ask = partial(self._ask_for_pairs, ahead=ahead)
        (flat,) = await self._of_live(partial(_whole_command, shard, merchant), ask)
        averages = flat if isinstance(flat, Regular) else (flat[0::2], flat[1::2])
        self.when_read(averages.records if isinstance(averages, Regular) else len(averages[0]))
        return averages

    async def _asked_ahead(self, shard: int, merchant: str | None) -> Asked | None:
        """Have the server make ready a shard's averages; None where it has others ready, or that cannot be."""
        if self._redis.is_cluster or self._asking_ahead.locked() or (self._ahead is not None and self._ahead.is_held):
            return None
        async with self._asking_ahead:
            self._ahead = None
            commands = await self._with_generation(partial(_whole_command, shard, merchant), self.keys)
            with suppress(redis.RedisError, OSError):  # whoever wants them will ask, and is told
                self._ahead = await redis_bulk.ask_ahead(self._redis.connection_pool, commands)
            return self._ahead

    async def wholes(self, trips: Sequence[Sequence[int]], merchant: str | None) -> AsyncGenerator[Averages | Regular]:
        """Yield the averages of shards that have few users but some, in no order; trip by trip.

        The live generation is made sure of where a shard turns out to be empty: one that was replaced is deleted key by
        key, and until then as good as when the reader asked how it stood.

        Args:
            trips: Which shards, those together that are asked for at once: the store answers nothing before it has read
                all of these, and reads the next ones while these are worked on.
            merchant: Whose averages.
        """
        async with aclosing(self._in_trips("HGETALL", 2, trips, merchant)) as replies:
            async for shard, reply in replies:
                if isinstance(reply, Regular):
                    yield reply
                else:
                    yield (reply[0::2], reply[1::2]) if reply else await self._whole(shard, merchant)

    async def all_values(
        self, trips: Sequence[Sequence[int]], merchant: str | None
    ) -> AsyncGenerator[list[bytes] | Regular]:
        """Yield the values alone, as `wholes` yields averages."""
        async with aclosing(self._in_trips("HVALS", 1, trips, merchant)) as replies:
            async for shard, reply in replies:
                yield reply or await self._all_values(shard, merchant)

    async def _in_trips(
        self, command: str, elements: int, trips: Sequence[Sequence[int]], merchant: str | None
    ) -> AsyncGenerator[tuple[int, Any]]:
        """Yield each shard with the reply to a command for its averages; None where it is to be asked another way."""
        arrived: Sequence[asyncio.Future[list[Any]]] = ()
        coming: Sequence[asyncio.Future[list[Any]]] = ()
        try:
            for before, trip in pairwise([(), *trips, ()]):
                if coming:
                    await asyncio.wait(coming[-1:])
                arrived, coming = coming, ()
                if trip and not self._redis.is_cluster:
                    commands: list[Command] = [(command, self.keys.averages(shard, merchant)) for shard in trip]
                    with translated_errors():
                        coming = await self._wire.ask_each(commands, elements)
                for place, shard in enumerate(before):
                    yield shard, await self._reply_of(arrived[place]) if arrived else None
        finally:
            leave([*arrived, *coming])

    @metrics.timed_trip("report_shards")
    async def _reply_of(self, asked: asyncio.Future[list[Any]]) -> Any:
        with translated_errors():
            (reply,) = await asked
            if isinstance(reply, MovedError):  # then the client asks, who finds out where
                self._redis.take_for_cluster()
                return None
            if isinstance(reply, redis.RedisError):
                raise reply
            return reply

    @metrics.timed_trip("report_values")
    async def _all_values(self, shard: int, merchant: str | None) -> list[bytes] | Regular:
        replies = await self._of_live(lambda keys, _: [("HVALS", keys.averages(shard, merchant))], self._ask_for_column)
        values: list[bytes] | Regular = replies[0]
        self.when_read(values.records if isinstance(values, Regular) else len(values))
        return values

    async def _scanned(self, shard: int, merchant: str | None, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        """Return the next piece of a shard; from the beginning where the generation was switched meanwhile."""
        begun = self.keys

        def scan(keys: sharding.Keys, _: int) -> list[Command]:
            at = cursor if keys == begun else 0
            return [("HSCAN", keys.averages(shard, merchant), at, "COUNT", SCAN_USERS)]

        ((following, held),) = await self._of_live(scan, self._ask_for_much)
        self.when_read(len(held))
        return int(following), held

    async def pieces(self, shard: int, merchant: str | None, users: int) -> AsyncIterator[Averages]:
        """Yield a shard's averages in no order: in one piece, of one moment, where they are not too many.

        A user may come twice where they are, with the value of then and of later; one that is there all the time comes
        (SCAN's promise).
        """
        if users <= BLOCK_USERS:
            yield by_objects(await self._whole(shard, merchant))
            return
        cursor = 0
        while True:
            cursor, held = await self._scanned(shard, merchant, cursor)
            yield [*held], [*held.values()]
            if cursor == 0:
                return

    async def blocks(
        self, shard: int, merchant: str | None, users: int, after: bytes | None = None
    ) -> AsyncIterator[Averages]:
        """Yield a shard's averages in the order of the ids' bytes, at most a block of them at a time.

        Args:
            shard: Which.
            merchant: Whose averages.
            users: How many there are, as far as is known.
            after: Only users whose ids come after this one.
        """
        if users <= BLOCK_USERS:
            averages = in_order(by_objects(await self._whole(shard, merchant)), after)
            for start in range(0, len(averages[0]), BLOCK_USERS):
                yield averages[0][start : start + BLOCK_USERS], averages[1][start : start + BLOCK_USERS]
            return
        while True:
            block: dict[bytes, bytes] = {}
            cut = False
            async for ids, values in self.pieces(shard, merchant, users):
                pairs = zip(ids, values, strict=True)
                block.update(pairs if after is None else (pair for pair in pairs if pair[0] > after))
                if len(block) > 2 * BLOCK_USERS:
                    block, cut = _first(block, BLOCK_USERS), True
            cut = cut or len(block) > BLOCK_USERS
            ids = sorted(block)[:BLOCK_USERS]
            if ids:
                after = ids[-1]  # whoever takes the block may empty it
                yield ids, [*map(block.__getitem__, ids)]
            if not cut:
                return

    async def unsorted(
        self, shards: Mapping[int, int], merchant: str | None
    ) -> AsyncGenerator[tuple[Averages | Regular, bool]]:
        """Yield averages shard by shard as `blocks` does, but in no order where a shard is one block.

        With each comes whether it is the shard's last one; that may be empty. The server makes the next shard's reply
        ready while one is worked on, and holds it: here it would be memory for two.

        Args:
            shards: And how many users each has, as far as is known.
            merchant: Whose averages.
        """
        ahead: Asked | None = None
        try:
            for shard, following in zip(shards, [*islice(shards, 1, None), None], strict=True):
                if shards[shard] > BLOCK_USERS:
                    async for block in self.blocks(shard, merchant, shards[shard]):
                        yield block, False
                    yield ([], []), True
                    continue
                averages = await self._whole(shard, merchant, ahead)
                if ahead is not None:
                    await ahead.leave()
                    ahead = None
                if following is not None and shards[following] <= BLOCK_USERS:
                    ahead = await self._asked_ahead(following, merchant)
                yield averages, True
        finally:
            if ahead is not None:
                await ahead.leave()

    async def values(self, shard: int, merchant: str | None, users: int) -> AsyncIterator[list[bytes] | Regular]:
        """Yield the values alone of a shard's averages, in no order, at most a block of them at a time."""
        if users <= BLOCK_USERS:
            yield await self._all_values(shard, merchant)
            return
        async for _, values in self.blocks(shard, merchant, users):
            yield values


def _whole_command(shard: int, merchant: str | None, keys: sharding.Keys, _: int) -> list[Command]:
    return [("HGETALL", keys.averages(shard, merchant))]


def by_objects(averages: Averages | Regular) -> Averages:
    """Return averages as objects."""
    if isinstance(averages, Regular):
        ids, values = averages.columns()
        return ids, values
    return averages


def in_order(averages: Averages, after: bytes | None = None) -> Averages:
    """Return averages by the ids' bytes, of those that come after one."""
    ids, values = averages
    places = range(len(ids)) if after is None else [place for place, name in enumerate(ids) if name > after]
    order = sorted(places, key=ids.__getitem__)
    return [*map(ids.__getitem__, order)], [*map(values.__getitem__, order)]


def _first(block: dict[bytes, bytes], count: int) -> dict[bytes, bytes]:
    """Return the first so many in the order of the ids."""
    return {name: block[name] for name in sorted(block)[:count]}
