"""The store as the functions use it, on the real server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from functions.adapters.redis_client import MAX_CONNECTIONS
from functions.adapters.redis_layout import LAYOUT_FORMAT
from functions.adapters.redis_store import Appended, RedisStore, Seen, ShardBatch
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.settings import Settings
from functions.local.valkey import free_port
from tests.store_in_a_loop import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence

    import redis

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

WINDOW = 1000
T = TypeVar("T")


def batch_of(numbers: Sequence[int], shard: int = 0, **fields: Any) -> ShardBatch:
    """Return a batch with an event, and its digest, for each number."""
    events = [Event(number, f"u{number}", "flyer_open", "f", "m") for number in numbers]
    digests = [number.to_bytes(12, "big") for number in numbers]
    return ShardBatch(shard, pack_events(events), len(events), **{"digests": digests, **fields})


async def append(store: RedisStore, *batches: ShardBatch, window: int = WINDOW) -> list[Any]:
    """Append to a store that is laid out."""
    await store.shards()
    return list(await store.append(batches, window))


def kinds(answers: Sequence[object]) -> list[str]:
    """Return what became of each batch, in a word."""
    return [answer.code if isinstance(answer, FlyertimeError) else type(answer).__name__ for answer in answers]


def test_an_append_writes_entry_digests_and_ledger_together(settings: Settings, raw_redis: redis.Redis) -> None:
    """One entry, each digest, and the counts; the answer says what was pending before and after."""
    first, second = run(settings, lambda store: _both(append(store, batch_of([1, 2, 3])), append(store, batch_of([4]))))

    assert ((0, 3), (3, 4)) == tuple((a[0].pending_before, a[0].pending_after) for a in (first, second))
    keys = f"{{{settings.namespace}:0}}:"
    assert 2 == raw_redis.xlen(keys + "events")
    assert 4 == raw_redis.scard(keys + f"seen:{WINDOW}")
    assert {b"accepted": b"4"} == raw_redis.hgetall(keys + "ledger")


async def _both(first: Awaitable[Any], second: Awaitable[Any]) -> tuple[Any, Any]:
    return await first, await second


def test_a_batch_with_a_known_digest_writes_nothing(settings: Settings, raw_redis: redis.Redis) -> None:
    """It says which are known, so that the others can be sent again; not a key has changed."""
    run(settings, lambda store: append(store, batch_of([2, 4])))
    names = sorted(raw_redis.scan_iter(f"{{{settings.namespace}*"))
    before = [raw_redis.dump(name) for name in names if b":seen:" not in name]
    answers = run(settings, lambda store: append(store, batch_of([1, 2, 3, 4])))

    assert [Seen((1, 3))] == answers
    assert names == sorted(raw_redis.scan_iter(f"{{{settings.namespace}*"))
    assert before == [raw_redis.dump(name) for name in names if b":seen:" not in name]
    assert 2 == raw_redis.scard(f"{{{settings.namespace}:0}}:seen:{WINDOW}")


def test_shards_in_one_append_stand_each_for_itself(settings: Settings, raw_redis: redis.Redis) -> None:
    """One meets an error, one knows a digest, one is laid out otherwise: these write nothing, the others do."""
    run(settings, lambda store: append(store, batch_of([1], shard=2)))
    key = f"{{{settings.namespace}:%d}}:%s"
    raw_redis.set(key % (1, "events"), "no stream")
    raw_redis.hset(key % (3, "ledger"), "shards", 99)
    answers = run(settings, lambda store: append(store, *(batch_of([1], shard=shard) for shard in range(5))))

    assert ["Appended", "store_misused", "Seen", "resharding", "Appended"] == kinds(answers)
    assert [1, 1, 1] == [raw_redis.xlen(key % (shard, "events")) for shard in (0, 2, 4)]
    assert not raw_redis.exists(key % (1, "ledger"), key % (1, f"seen:{WINDOW}"))


@pytest.mark.parametrize(("later", "known"), [(0, True), (1, True), (-1, True), (2, False)])
def test_a_digest_is_remembered_in_its_window_and_the_next(settings: Settings, later: int, *, known: bool) -> None:
    """Also by a process whose clock is still in the window before."""
    run(settings, lambda store: append(store, batch_of([1])))

    assert ["Seen" if known else "Appended"] == kinds(
        run(settings, lambda store: append(store, batch_of([1]), window=WINDOW + later))
    )


def test_the_windows_end_by_themselves(settings: Settings, raw_redis: redis.Redis) -> None:
    """Each set has the time to live of two windows."""
    run(settings, lambda store: append(store, batch_of([1])))
    ttl_s: Any = raw_redis.ttl(f"{{{settings.namespace}:0}}:seen:{WINDOW}")

    assert settings.dedupe_window_s < ttl_s <= 2 * settings.dedupe_window_s


def test_a_large_batch_is_one_step_too(settings: Settings) -> None:
    """More digests than Lua passes to one command."""
    numbers = list(range(20_000))

    assert ["Appended"] == kinds(run(settings, lambda store: append(store, batch_of(numbers))))
    assert [Seen(tuple(numbers))] == run(settings, lambda store: append(store, batch_of(numbers)))


def test_of_concurrent_appends_of_the_same_events_one_writes(settings: Settings, raw_redis: redis.Redis) -> None:
    """Many connections at once: exactly one is told that it has written."""

    async def race(store: RedisStore) -> list[Any]:
        await store.shards()
        stores = [RedisStore(settings) for _ in range(20)]
        answers = await asyncio.gather(*(append(rival, batch_of([1, 2, 3])) for rival in stores))
        for rival in stores:
            await rival.close()
        return [answer for (answer,) in answers]

    answers = kinds(run(settings, race))

    assert {"Appended": 1, "Seen": 19} == {kind: answers.count(kind) for kind in set(answers)}
    assert 1 == raw_redis.xlen(f"{{{settings.namespace}:0}}:events")


def test_a_burst_waits_for_connections_rather_than_failing(settings: Settings, raw_redis: redis.Redis) -> None:
    """Many more calls at once than there are connections: each is done, and the connections stay few."""

    async def burst(store: RedisStore) -> list[str]:
        await store.shards()
        answers = await asyncio.gather(*(append(store, batch_of([number])) for number in range(500)))
        clients: Any = raw_redis.client_list()
        assert sum(client["db"] == "0" for client in clients) < MAX_CONNECTIONS + 20
        return kinds([answer for (answer,) in answers])

    assert ["Appended"] * 500 == run(settings, burst)


def test_events_without_names_are_always_written(settings: Settings) -> None:
    """Nobody can tell a repeat of them."""
    nameless = batch_of([1, 2], digests=())

    assert ["Appended"] * 2 == [
        kind for _ in range(2) for kind in kinds(run(settings, lambda store: append(store, nameless)))
    ]


def test_a_shard_that_fails_leaves_the_others_written(settings: Settings, raw_redis: redis.Redis) -> None:
    """Each answer stands for itself."""
    raw_redis.set(f"{{{settings.namespace}:1}}:events", "not a stream")
    answers = run(settings, lambda store: append(store, *(batch_of([shard], shard) for shard in range(3))))

    assert ["Appended", "store_misused", "Appended"] == kinds(answers)


def test_the_books_of_every_shard_are_read_at_once(settings: Settings) -> None:
    """Counts, duplicates, ids of the oldest and the newest entry."""

    async def use(store: RedisStore) -> Any:
        (first,) = await append(store, batch_of([1, 2], shard=2))
        (second,) = await append(store, batch_of([3], shard=2, duplicates=4))
        await store.add_duplicates(2, 5)
        return first, second, await store.ledgers()

    first, second, ledgers = run(settings, use)

    assert [0, 0, 3, 0] == [ledger.accepted for ledger in ledgers]
    assert (3, 9, "0-0") == (ledgers[2].pending, ledgers[2].duplicate, ledgers[2].folded_to)
    assert (int(first.entry_id.split("-")[0]), second.entry_id) == (ledgers[2].oldest_pending_ms, ledgers[2].newest_id)
    assert (None, None) == (ledgers[0].oldest_pending_ms, ledgers[0].newest_id)


def test_a_store_that_forgot_the_scripts_learns_them_again(settings: Settings, raw_redis: redis.Redis) -> None:
    """Between two calls of the same connection; nothing is written twice."""

    async def use(store: RedisStore) -> list[Any]:
        await append(store, batch_of([1]))
        raw_redis.script_flush()
        return await append(store, batch_of([2]), batch_of([3], shard=1))

    assert ["Appended", "Appended"] == kinds(run(settings, use))
    assert 1 == raw_redis.xlen(f"{{{settings.namespace}:1}}:events")


def test_a_flush_is_asked_for_in_the_stores_own_time(settings: Settings) -> None:
    """So that it can be compared with the log's ids."""

    async def use(store: RedisStore) -> tuple[int | None, int, int | None, int]:
        before = await store.flush_requested_ms()
        return before, await store.request_flush(), await store.flush_requested_ms(), await store.now_ms()

    before, asked, held, now = run(settings, use)

    assert before is None
    assert held is not None
    assert asked == held <= now


@pytest.fixture
def own_valkey(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A server that the test may disturb."""
    with make_server() as server:
        yield server


def test_a_store_that_restarts_is_found_again(own_valkey: EmbeddedValkey) -> None:
    """The same client goes on; while the store is away the answer comes at once."""

    async def use(store: RedisStore) -> list[str]:
        answers = kinds(await append(store, batch_of([1])))
        own_valkey.stop()
        answers += kinds(await append(store, batch_of([2])))
        own_valkey.start()
        return answers + kinds(await append(store, batch_of([2]))) + kinds(await append(store, batch_of([1])))

    assert ["Appended", "store_unavailable", "Appended", "Seen"] == run(Settings(redis_url=own_valkey.url), use)


def test_a_store_that_hangs_is_given_up_in_time_and_asked_once(
    own_valkey: EmbeddedValkey,
) -> None:
    """No write is sent again by itself: when the store wakes it has the entry once."""

    async def use(store: RedisStore) -> tuple[list[str], float]:
        await append(store, batch_of([1]))
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            started_s = time.monotonic()
            answers = kinds(await append(store, batch_of([2], digests=())))
            return answers, time.monotonic() - started_s
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)

    settings = Settings(redis_url=own_valkey.url, redis_timeout_s=0.3)
    answers, took_s = run(settings, use)

    assert ["store_unavailable"] == answers
    assert took_s < 3
    assert 2 == sum(ledger.accepted for ledger in run(settings, lambda store: store.ledgers()))


def test_nobody_there_is_unavailable() -> None:
    """With the time after which to try again."""
    with pytest.raises(UnavailableError, match="does not answer") as error:
        run(Settings(redis_url=f"redis://127.0.0.1:{free_port()}"), lambda store: store.shards())

    assert error.value.retry_after_s > 0


def test_a_wrong_password_is_the_operators_matter(make_server: MakeServer) -> None:
    """The message has neither the wrong password nor the right one."""
    with make_server({"requirepass": "right-one"}) as server:
        wrong = Settings(redis_url=server.url, redis_password="wrong-one")
        with pytest.raises(MisconfiguredError, match="refuses our user or password") as error:
            run(wrong, lambda store: store.shards())
        held = run(Settings(redis_url=server.url, redis_password="right-one"), lambda store: store.shards())

    assert 16 == held
    assert "one" not in error.value.message


def test_a_full_store_takes_nothing_and_says_so(make_server: MakeServer) -> None:
    """Nothing of the batch is written; what was accepted before stays."""
    with make_server({"maxmemory": "4mb", "maxmemory-policy": "noeviction"}) as server:
        settings = Settings(redis_url=server.url, shards=1)

        async def use(store: RedisStore) -> tuple[int, list[str], Any]:
            numbers = iter(range(10**9))
            accepted = 0
            while True:
                batch = batch_of([next(numbers) for _ in range(500)])
                (answer,) = await append(store, batch)
                if not isinstance(answer, Appended):
                    return accepted, kinds([answer]), (await store.ledgers())[0]
                accepted += 500

        accepted, answer, ledger = run(settings, use)

    assert ["store_full"] == answer
    assert accepted == ledger.accepted > 0


def test_the_layout_is_fixed_by_whoever_is_first(settings: Settings) -> None:
    """Many starters with different wishes at once: one number holds, the others are told."""

    async def race(_: RedisStore) -> list[Any]:
        stores = [
            RedisStore(Settings(redis_url=settings.redis_url, namespace=settings.namespace, shards=shards))
            for shards in range(1, 11)
        ]
        answers = await asyncio.gather(*(store.shards() for store in stores), return_exceptions=True)
        for store in stores:
            await store.close()
        return answers

    answers = run(settings, race)

    assert 1 == sum(isinstance(answer, int) for answer in answers)
    assert {"layout_shards"} == {answer.code for answer in answers if isinstance(answer, MisconfiguredError)}


def test_all_who_write_to_a_store_make_the_same_digests_and_no_other_store_has_them(settings: Settings) -> None:
    """Else a repeat that comes to another process would count, or who writes to one store could tell another's."""
    elsewhere = Settings(redis_url=settings.redis_url, namespace=f"{settings.namespace}-elsewhere", shards=4)

    async def digest(store: RedisStore) -> bytes:
        (made,) = (await store.digests()).of("/source", ["1"])
        return made

    one, other, elsewhere_made = (run(each, digest) for each in (settings, settings, elsewhere))

    assert one == other
    assert one != elsewhere_made


def test_without_a_wish_the_store_decides(settings: Settings) -> None:
    """Sixteen in a new store, else what it has."""
    free = Settings(redis_url=settings.redis_url, namespace=f"{settings.namespace}-free")

    assert 16 == run(free, lambda store: store.shards())
    assert 4 == run(settings, lambda store: store.shards())
    unset = Settings(redis_url=settings.redis_url, namespace=settings.namespace)
    assert 4 == run(unset, lambda store: store.shards())


def test_a_store_of_another_format_is_left_alone(settings: Settings, raw_redis: redis.Redis) -> None:
    """A newer version's store is not touched by an older one."""
    raw_redis.hset(f"{{{settings.namespace}}}:layout", mapping={"shards": 4, "format": LAYOUT_FORMAT + 1})

    with pytest.raises(MisconfiguredError, match="the store has layout") as error:
        run(settings, lambda store: store.shards())

    assert "layout_format" == error.value.code
