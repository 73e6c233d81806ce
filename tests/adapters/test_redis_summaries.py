"""Summaries in the store: kept where they are of what it holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_summaries import KeptSummary, SummaryStore
from functions.core.report_summary import Summary
from functions.core.shards import Keys
from functions.core.summary_packing import pack_summary
from tests.store_in_a_loop import run_with

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

    from functions.core.settings import Settings

VERSION = 1_772_438_400_000_000


def using(settings: Settings, use: Callable[[SummaryStore], Awaitable[Any]]) -> Any:
    """Return what is done with a store."""
    return run_with(SummaryStore, settings, use)


def summary_of(users: int) -> Summary:
    """Return a summary of so many users."""
    return Summary(users, users, 3600 * users, users, 0, Counter({100: users}))


@pytest.fixture
def kept(settings: Settings, raw_redis: redis.Redis) -> list[KeptSummary]:
    """Summaries of each shard, and of one merchant in two of them, where the store has such averages."""
    keys = Keys(settings.namespace)
    for shard in range(4):
        raw_redis.hset(keys.ledger(shard), "version", VERSION + shard)
        raw_redis.hset(keys.versions(shard), mapping={"m": VERSION - 1, "other": VERSION - 2})
    summaries = [KeptSummary(shard, None, VERSION + shard, summary_of(10 + shard)) for shard in range(4)]
    return [*summaries, *(KeptSummary(shard, "m", VERSION - 1, summary_of(2)) for shard in (1, 3))]


def test_what_is_kept_is_found_by_shard_and_merchant(settings: Settings, kept: list[KeptSummary]) -> None:
    """All together, one merchant, and nothing where nothing is."""

    async def use(store: SummaryStore) -> list[Any]:
        await store.state()
        done = await store.keep_summaries(kept, 0)
        return [
            done,
            await store.kept_summaries(None, [3, 0], 0),
            await store.kept_summaries("m", range(4), 0),
            await store.kept_summaries("other", range(4), 0),
        ]

    done, overall, merchants, others = using(settings, use)

    assert len(kept) == done
    assert [kept[3], kept[0]] == overall
    assert kept[4:] == merchants
    assert [] == others


def test_averages_that_have_changed_since_they_were_read_are_not_kept(
    settings: Settings, kept: list[KeptSummary], raw_redis: redis.Redis
) -> None:
    """Of any shard, and of any merchant; what is there stays, with its version."""
    keys = Keys(settings.namespace)

    async def use(store: SummaryStore) -> list[Any]:
        await store.state()
        await store.keep_summaries(kept[1:2], 0)
        raw_redis.hincrby(keys.ledger(1), "version", 1)
        raw_redis.hdel(keys.versions(3), "m")
        newer = [each._replace(summary=summary_of(99)) for each in kept]
        return [
            await store.keep_summaries(newer, 0),
            await store.kept_summaries(None, range(4), 0),
            await store.kept_summaries("m", range(4), 0),
        ]

    done, overall, merchants = using(settings, use)

    assert 4 == done
    assert [99, 11, 99, 99] == [each.summary.users for each in overall]
    assert VERSION + 1 == overall[1].version
    assert [1] == [each.shard for each in merchants]


def test_nothing_is_kept_or_found_of_another_generation(
    settings: Settings, kept: list[KeptSummary], raw_redis: redis.Redis
) -> None:
    """Neither of one that was live, nor of one that the asker does not know of yet."""
    keys = Keys(settings.namespace)

    async def use(store: SummaryStore) -> list[Any]:
        await store.state()
        await store.keep_summaries(kept, 0)
        raw_redis.hset(keys.layout, "generation", 2)
        raw_redis.hset(Keys(settings.namespace, 2).summaries(0), "", pack_summary(summary_of(1), VERSION))
        return [
            await store.kept_summaries(None, range(4), 0),
            await store.keep_summaries(kept, 0),
            [each.summary.users for each in await store.kept_summaries(None, range(4), 2)],
        ]

    assert [[], 0, [1]] == using(settings, use)
