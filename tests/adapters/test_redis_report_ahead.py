"""How the report has the store make the next shard ready: one at a time, and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import redis

from functions.adapters import redis_bulk, redis_report
from functions.core.shards import Keys, shard_of
from tests.adapters.averages_in_store import USERS, fill, fill_two_generations, reading

if TYPE_CHECKING:
    from functions.adapters.redis_report import ReportStore
    from functions.core.settings import Settings


async def unsorted(store: ReportStore) -> dict[bytes, bytes]:
    """Return all averages, by way of shards one after the other."""
    found: dict[bytes, bytes] = {}
    async for averages, is_last in store.unsorted(dict.fromkeys(range(4), 100), None):
        assert is_last
        found |= zip(*redis_report.by_objects(averages), strict=True)
    return found


def test_the_next_shard_is_made_ready_while_one_is_worked_on(settings: Settings, raw_redis: redis.Redis) -> None:
    """Each is asked for once; on a cluster, whose nodes each have theirs, when its turn comes."""
    fill(raw_redis, Keys(settings.namespace), USERS)
    if isinstance(raw_redis, redis.RedisCluster):
        assert USERS == reading(settings, unsorted)
        return

    def asked_for() -> int:
        stats: Any = raw_redis.info("commandstats")
        return int(stats.get("cmdstat_hgetall", {}).get("calls", 0))

    async def read(store: ReportStore) -> tuple[dict[bytes, bytes], list[int]]:
        before = asked_for()
        found: dict[bytes, bytes] = {}
        seen: list[int] = []
        async with aclosing(store.unsorted(dict.fromkeys(range(4), 100), None)) as shards:
            async for averages, _ in shards:
                found |= zip(*redis_report.by_objects(averages), strict=True)
                deadline_s = time.monotonic() + 5
                while asked_for() - before < min(len(seen) + 2, 4) and time.monotonic() < deadline_s:  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(0.005)
                seen.append(asked_for() - before)
        return found, seen

    assert (USERS, [2, 3, 4, 4]) == reading(settings, read)


def test_one_reply_at_most_waits_at_the_server(
    settings: Settings, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many begin to read at once, however long each takes to connect, and however slowly they read."""
    fill(raw_redis, Keys(settings.namespace), USERS)
    ask_ahead = redis_bulk.ask_ahead

    async def connecting(*asked: Any) -> redis_bulk.Asked:
        await asyncio.sleep(0.02)
        return await ask_ahead(*asked)

    monkeypatch.setattr(redis_bulk, "ask_ahead", connecting)

    async def read(store: ReportStore) -> tuple[dict[bytes, bytes], ...]:
        async with aclosing(store.unsorted({0: 100, 1: redis_report.BLOCK_USERS + 1}, None)) as shards:
            await anext(shards)
            assert not waiting(store), "what comes piece by piece is not asked for as a whole"
        async with AsyncExitStack() as stack:
            readers = [store.unsorted(dict.fromkeys(range(4), 100), None) for _ in range(5)]
            for reader in readers:
                await stack.enter_async_context(aclosing(reader))
            await asyncio.gather(*map(anext, readers))
            assert (0 if isinstance(raw_redis, redis.RedisCluster) else 1) == waiting(store)
            both = await unsorted(store), await unsorted(store)
        assert not waiting(store)
        return both

    def waiting(store: ReportStore) -> int:
        return len(store._redis.connection_pool._in_use_connections)

    assert (USERS, USERS) == reading(settings, read)


@pytest.mark.parametrize("somebody_else", [False, True], ids=["found out here", "found out by somebody else"])
def test_a_generation_that_is_replaced_while_a_shard_waits_leaves_no_gap(
    settings: Settings, raw_redis: redis.Redis, somebody_else: bool
) -> None:
    """What was asked ahead of the old one is as good; from then on it is the live one's, and no connection is lost."""
    old = fill_two_generations(settings, raw_redis)

    async def read(store: ReportStore) -> dict[bytes, bytes]:
        await store.state()
        found: dict[bytes, bytes] = {}
        async with aclosing(store.unsorted(dict.fromkeys(range(4), 100), None)) as shards:
            async for averages, _ in shards:
                found |= zip(*redis_report.by_objects(averages), strict=True)
                raw_redis.hset(old.layout, "generation", 1)
                raw_redis.delete(*map(old.averages, range(4)))
                if somebody_else:
                    await store.state()
        assert not store._redis.connection_pool._in_use_connections
        return found

    found = reading(settings, read)
    assert set(USERS) == set(found)
    assert {b"new"} == {found[name] for name in USERS if shard_of(name.decode(), 4) > 1}
    assert {found[name] for name in USERS if shard_of(name.decode(), 4) == 0} <= {*USERS.values()}


def test_what_cannot_be_asked_ahead_is_asked_when_it_is_time(
    settings: Settings, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to save time costs nobody the table."""
    fill(raw_redis, Keys(settings.namespace), USERS)
    ask_ahead, calls = redis_bulk.ask_ahead, count()

    async def every_other(*asked: Any) -> redis_bulk.Asked:
        if next(calls) % 2:
            raise redis.ConnectionError("no")
        return await ask_ahead(*asked)

    monkeypatch.setattr(redis_bulk, "ask_ahead", every_other)

    assert USERS == reading(settings, unsorted)
    assert isinstance(raw_redis, redis.RedisCluster) or next(calls) == 7
