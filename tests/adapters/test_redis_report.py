"""How the report reads the store: in a trip, shard by shard, and whatever happens to the state meanwhile."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import redis

from functions.adapters import redis_report, redis_state
from functions.core.errors import FlyertimeError
from functions.core.shards import Keys, shard_of
from tests.adapters.averages_in_store import USERS, fill, fill_two_generations, reading

if TYPE_CHECKING:
    from functions.adapters.redis_report import ReportStore
    from functions.adapters.redis_value import AskedValue
    from functions.core.settings import Settings


def asked_ahead(raw_redis: redis.Redis, store: ReportStore, user_id: str, merchant: str | None) -> AskedValue | None:
    """Return what was asked for ahead: nothing on a cluster, where each question goes to a node of its own."""
    asked = store.ask_for_value(user_id, merchant)
    assert (asked is None) == isinstance(raw_redis, redis.RedisCluster)
    return asked


async def everything(store: ReportStore, merchant: str | None = None) -> dict[bytes, bytes]:
    """Return all averages, by way of the blocks that the report reads."""
    state = await store.state(merchant)
    found: dict[bytes, bytes] = {}
    for shard, held in enumerate(state.shards):
        names: list[bytes] = []
        async for ids, values in store.blocks(shard, merchant, held.users):
            names += ids
            found |= zip(ids, values, strict=True)
        assert sorted(names) == names
        assert len(set(names)) == len(names)
    return found


def test_the_state_is_read_whole(settings: Settings, raw_redis: redis.Redis) -> None:
    """Books, versions, numbers of users, the last run and the merchants, all at once."""
    fill(raw_redis, Keys(settings.namespace), USERS)
    fill(raw_redis, Keys(settings.namespace), {b"user1": b"x"}, "m")
    raw_redis.xadd(Keys(settings.namespace).runs, {"run": "r1", "ended_at": "then"})
    state = reading(settings, lambda store: store.state(merchants=True))
    of_merchant = reading(settings, lambda store: store.state("m"))

    assert (300, {"run": "r1", "ended_at": "then"}) == (state.users, state.last_run)
    assert [100, 101, 102, 103] == [shard.version for shard in state.shards]
    assert [{"m": 200 + shard} for shard in range(4)] == [*state.merchants]
    assert (1, [200, 201, 202, 203]) == (of_merchant.users, [shard.version for shard in of_merchant.shards])


def test_one_users_value_is_of_the_live_generation(settings: Settings, raw_redis: redis.Redis) -> None:
    """Also right after the switch to another one, of which the reader knows nothing yet."""
    fill_two_generations(settings, raw_redis)

    async def twice(store: ReportStore) -> list[bytes | None]:
        found = [await store.value_of(name, None) for name in ("user7", "nobody")]
        raw_redis.hset(Keys(settings.namespace).layout, "generation", 1)
        return [*found, await store.value_of("user7", None), await store.value_of("user8", None)]

    assert [b"7", None, b"new", b"new"] == reading(settings, twice)


def test_a_value_that_is_asked_for_ahead_comes_with_the_books_of_before(
    settings: Settings, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of each merchant for themselves; and not at all where they are not recent any more."""
    monkeypatch.setattr(redis_state, "RECENT_S", 3600.0)
    fill(raw_redis, Keys(settings.namespace), USERS)
    fill(raw_redis, Keys(settings.namespace), {b"user1": b"x"}, "m")

    async def read(store: ReportStore) -> list[object]:
        assert None is store.ask_for_value("user1", None)
        found: list[object] = []
        for merchant in (None, "m"):
            state, value = await store.state_and_value("user1", merchant)
            asked = asked_ahead(raw_redis, store, "user1", merchant)
            assert asked is None or state is asked.state
            found += [state.users, value, await store.value_of("user1", merchant, asked)]
        monkeypatch.setattr(redis_state, "RECENT_S", -1.0)
        assert None is store.ask_for_value("user1", None)
        return found

    assert [300, b"1", b"1", 1, b"x", b"x"] == reading(settings, read)


def test_a_value_that_is_asked_for_ahead_is_of_the_live_generation(settings: Settings, raw_redis: redis.Redis) -> None:
    """Also where another one went live before."""
    fill_two_generations(settings, raw_redis)

    async def across_the_switch(store: ReportStore) -> list[bytes | None]:
        await store.state()
        raw_redis.hset(Keys(settings.namespace).layout, "generation", 1)
        asked = asked_ahead(raw_redis, store, "user7", None)
        return [await store.value_of("user7", None, asked), (await store.state_and_value("user8", None))[1]]

    assert [b"new", b"new"] == reading(settings, across_the_switch)


def test_a_value_that_is_asked_for_ahead_may_be_let_fall(settings: Settings, raw_redis: redis.Redis) -> None:
    """What is asked after it gets its own reply."""
    fill(raw_redis, Keys(settings.namespace), USERS)

    async def leaving(store: ReportStore) -> list[bytes | None]:
        await store.state()
        for _ in range(3):
            if asked := asked_ahead(raw_redis, store, "user7", None):
                asked.leave()
        return [await store.value_of(name, None) for name in ("user8", "nobody")]

    assert [b"8", None] == reading(settings, leaving)


def test_a_store_that_does_not_know_the_script_is_told_it(settings: Settings, raw_redis: redis.Redis) -> None:
    """As after a restart."""

    async def twice(store: ReportStore) -> list[int]:
        first = await store.state()
        raw_redis.script_flush()
        return [first.users, (await store.state()).users]

    fill(raw_redis, Keys(settings.namespace), USERS)

    assert [300, 300] == reading(settings, twice)


def test_large_shards_are_read_in_blocks(
    settings: Settings, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, everybody once, with no more than twice a block and a piece held."""
    monkeypatch.setattr(redis_report, "BLOCK_USERS", 7)
    monkeypatch.setattr(redis_report, "SCAN_USERS", 3)
    fill(raw_redis, Keys(settings.namespace), USERS)

    assert USERS == reading(settings, everything)


@pytest.mark.parametrize("block_users", [7, 100_000])
def test_a_generation_that_is_replaced_while_it_is_read_leaves_no_gap(
    settings: Settings, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, block_users: int
) -> None:
    """The old one is deleted as soon as the new one is live: what is read next is of that one, and nobody is missed."""
    monkeypatch.setattr(redis_report, "BLOCK_USERS", block_users)
    monkeypatch.setattr(redis_report, "SCAN_USERS", 3)
    old = fill_two_generations(settings, raw_redis)

    async def read(store: ReportStore) -> set[bytes]:
        state = await store.state()
        found: set[bytes] = set()
        for shard, held in enumerate(state.shards):
            async for ids, _ in store.blocks(shard, None, held.users):
                if not found:
                    raw_redis.hset(old.layout, "generation", 1)
                    for each in range(4):
                        raw_redis.delete(old.averages(each))
                found |= set(ids)
        assert 1 == (await store.state()).generation
        return found

    assert set(USERS) == reading(settings, read)


def test_a_shard_whose_generation_is_replaced_between_two_pieces_is_read_from_its_beginning(
    settings: Settings, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one may have users where the old one had none, in what was read of it already."""
    monkeypatch.setattr(redis_report, "BLOCK_USERS", 7)
    monkeypatch.setattr(redis_report, "SCAN_USERS", 50)
    old, new = Keys(settings.namespace), Keys(settings.namespace, 1)
    others: Any = {b"new%d" % number: b"value" for number in range(500)}
    raw_redis.hset(old.averages(0), mapping={b"old%d" % number: b"value" for number in range(500)})
    raw_redis.hset(new.averages(0), mapping=others)

    async def read(store: ReportStore) -> set[bytes]:
        found: set[bytes] = set()
        async for ids, _ in store.pieces(0, None, 500):
            if not found:
                raw_redis.hset(old.layout, "generation", 1)
                raw_redis.delete(old.averages(0))
            found |= set(ids)
        return found

    found = reading(settings, read)
    assert len(found) < 1000, "all of the old one was there before it was replaced"
    assert set(others) <= found


TRIPS: Any = [[[0, 1, 2, 3]], [[0], [1, 2, 3]], [[0], [1, 2], [3]]]


async def every_whole(store: ReportStore, trips: list[list[int]]) -> dict[bytes, bytes]:
    """Return all averages, by way of small shards."""
    found: dict[bytes, bytes] = {}
    async for averages in store.wholes(trips, None):
        found |= zip(*redis_report.by_objects(averages), strict=True)
    return found


@pytest.mark.parametrize("trips", TRIPS, ids=len)
@pytest.mark.parametrize("digits", [1, 4])
def test_small_shards_are_read_in_a_few_trips(
    settings: Settings, raw_redis: redis.Redis, trips: list[list[int]], digits: int
) -> None:
    """Whether their ids have one length or not, and wherever the trips are parted."""
    users = {b"%0*d" % (digits, number): b"value" for number in range(300)}
    fill(raw_redis, Keys(settings.namespace), users)

    assert users == reading(settings, lambda store: every_whole(store, trips))


@pytest.mark.parametrize("trips", TRIPS, ids=len)
def test_a_generation_that_is_replaced_before_small_shards_are_read_leaves_no_gap(
    settings: Settings, raw_redis: redis.Redis, trips: list[list[int]]
) -> None:
    """What has been deleted meanwhile is read of the live one, shard by shard."""
    old = fill_two_generations(settings, raw_redis)

    async def read(store: ReportStore) -> dict[bytes, bytes]:
        await store.state()
        raw_redis.hset(old.layout, "generation", 1)
        raw_redis.delete(*map(old.averages, range(2)))
        return await every_whole(store, trips)

    found = reading(settings, read)

    assert set(USERS) == set(found)
    assert {b"new"} == {found[name] for name in USERS if shard_of(name.decode(), 4) < 2}


def test_who_leaves_in_the_middle_of_small_shards_takes_nobodys_reply(
    settings: Settings, raw_redis: redis.Redis
) -> None:
    """The next question on the same connection gets its own."""
    fill(raw_redis, Keys(settings.namespace), USERS)

    async def read(store: ReportStore) -> tuple[int, bytes | None]:
        async with aclosing(store.wholes(TRIPS[1], None)) as shards:
            await anext(shards)
        return (await store.state()).users, await store.value_of("user7", None)

    assert (300, b"7") == reading(settings, read)


def test_a_store_that_refuses_small_shards_is_said_to(settings: Settings, raw_redis: redis.Redis) -> None:
    """As it is with any question: the caller knows what to do."""
    fill(raw_redis, Keys(settings.namespace), USERS)
    raw_redis.delete(Keys(settings.namespace).averages(2))
    raw_redis.set(Keys(settings.namespace).averages(2), "no hash")

    with pytest.raises(FlyertimeError, match="WRONGTYPE"):
        reading(settings, lambda store: every_whole(store, TRIPS[1]))
