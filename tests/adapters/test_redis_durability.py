"""When an event counts as accepted: memory, disk, replicas, on real servers that can and that cannot."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import redis

from functions.adapters.redis_durability import Durability
from functions.adapters.redis_store import RedisStore, ShardBatch
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.settings import FSYNC, MEMORY, REPLICAS, Settings
from tests.store_in_a_loop import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

T = TypeVar("T")
ENTRY = pack_events([Event(1, "u", "flyer_open", "f", "m")])


def append(settings: Settings, *numbers: int) -> list[str]:
    """Append an event for each number, by a connection of its own; return what became of it, in a word."""

    async def use(store: RedisStore) -> Any:
        await store.shards()
        digests = [number.to_bytes(12, "big") for number in numbers]
        return [(await store.append([ShardBatch(0, ENTRY, 1, [digest])], window=1))[0] for digest in digests]

    answers = run(settings, use)
    return [answer.code if isinstance(answer, FlyertimeError) else type(answer).__name__ for answer in answers]


def settings_for(server: EmbeddedValkey, durability: str, **fields: Any) -> Settings:
    """Return settings with little patience."""
    return Settings(redis_url=server.url, durability=durability, **{"durability_timeout_s": 0.2, **fields})


def accepted(server: EmbeddedValkey) -> int:
    """Return how many events are in the ledger."""
    return sum(ledger.accepted for ledger in run(Settings(redis_url=server.url), lambda store: store.ledgers()))


@pytest.fixture
def never_synced(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A server with an append-only file that it leaves to the operating system to write to disk."""
    with make_server({"appendfsync": "no"}) as server:
        yield server


def test_memory_waits_for_nothing(never_synced: EmbeddedValkey) -> None:
    """The default: the answer comes when the store has the event, and nothing is checked."""
    settings = settings_for(never_synced, MEMORY)
    run(settings, lambda store: store.ready(to_write=True))

    assert ["Appended", "Seen"] == append(settings, 1, 1)


def test_fsync_waits_for_the_disk(make_server: MakeServer) -> None:
    """Repeats are told then."""
    with make_server({"appendfsync": "always"}) as server:
        settings = settings_for(server, FSYNC, durability_timeout_s=5.0)
        run(settings, lambda store: store.ready(to_write=True))

        assert ["Appended", "Seen"] == append(settings, 1, 1)
        with redis.Redis.from_url(server.url) as client:
            assert [1, 0] == client.execute_command("WAITAOF", 1, 0, 1)


def test_a_store_that_says_too_early_that_something_is_on_disk_is_the_operators_matter(make_server: MakeServer) -> None:
    """Told by the probe and at each write, until it is set to sync each write; then the same process goes on."""
    with make_server() as server, redis.Redis.from_url(server.url) as client:
        if not says_too_early(client):
            pytest.skip("this server waits for its sync once a second")
        settings = settings_for(server, FSYNC)

        async def use(store: RedisStore) -> Any:
            with pytest.raises(MisconfiguredError, match="set its appendfsync to always"):
                await store.ready(to_write=True)
            batch = ShardBatch(0, ENTRY, 1, [b"x" * 12])
            (refused,) = await store.append([batch], window=1)
            client.config_set("appendfsync", "always")
            (taken,) = await store.append([batch], window=1)
            assert isinstance(refused, FlyertimeError)
            return refused.code, type(taken).__name__

        assert ("durability_early", "Appended") == run(settings, use)
        client.config_set("appendfsync", "everysec")
        assert ["Appended"] == append(settings_for(server, MEMORY), 9)


@pytest.mark.parametrize("denied", ["-config", "-info", "-config -info"])
def test_a_store_that_does_not_let_us_ask_is_taken_at_its_word(make_server: MakeServer, denied: str) -> None:
    """Managed ones do so; the answer to WAITAOF is then all that there is."""
    with make_server({"user": f"default on nopass ~* &* +@all {denied}"}) as server:
        settings = settings_for(server, FSYNC, durability_timeout_s=5.0)
        run(settings, lambda store: store.ready(to_write=True))

        assert ["Appended", "Seen"] == append(settings, 1, 1)


def says_too_early(client: redis.Redis) -> bool:
    """Tell whether we take a server for one whose WAITAOF does not wait for its sync once a second."""
    config: Any = client.config_get("appendfsync")
    durability = Durability(Settings(durability=FSYNC))
    return durability.early(client.info(), config) is not None


def test_what_a_server_is_taken_for_is_what_it_is(make_server: MakeServer) -> None:
    """Syncs once a second cannot confirm five writes, each after the last was confirmed, within three seconds."""
    with make_server() as server, redis.Redis.from_url(server.url) as client:
        started_s = time.monotonic()
        for number in range(5):
            client.set("key", number)
            assert [1, 0] == client.execute_command("WAITAOF", 1, 0, 10_000)

        assert says_too_early(client) == (time.monotonic() - started_s < 3)


@pytest.mark.parametrize(
    ("info", "appendfsync", "early"),
    [
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"}, "everysec", True),
        ({"redis_version": "7.4.1"}, "everysec", True),
        ({"redis_version": "8.0.0"}, "everysec", False),
        ({"redis_version": "7.4.1"}, "always", False),
        ({"redis_version": "7.4.1"}, "no", False),
    ],
)
def test_servers_are_known_by_name_and_version(info: dict[str, str], appendfsync: str, *, early: bool) -> None:
    """Redis mended it in version 8; `no` confirms nothing ever."""
    durability = Durability(Settings(durability=FSYNC))

    assert early == (durability.early({**info, "aof_enabled": 1}, {"appendfsync": appendfsync}) is not None)


def test_what_is_not_on_disk_in_time_is_to_be_sent_again_and_so_is_its_repeat(never_synced: EmbeddedValkey) -> None:
    """The event is in memory and counts once, but nobody is told so before it is on disk, whatever the connection."""
    settings = settings_for(never_synced, FSYNC)

    assert ["not_durable", "not_durable"] == append(settings, 1, 1)
    assert ["not_durable", "not_durable"] == append(settings, 1, 2)
    with redis.Redis.from_url(never_synced.url) as client:
        client.config_set("appendfsync", "always")
    assert ["Seen", "Seen", "Appended"] == append(settings, 1, 2, 3)
    assert 3 == accepted(never_synced)


@pytest.mark.parametrize(
    ("config", "code", "hint"),
    [
        ({"appendonly": "no"}, "durability_off", "set its appendonly to yes"),
        ({"rename-command": "WAITAOF GONE", "appendfsync": "always"}, "durability_unknown", "Redis 7.2 or Valkey"),
    ],
)
def test_a_store_that_cannot_sync_is_the_operators_matter(
    make_server: MakeServer, config: dict[str, str], code: str, hint: str
) -> None:
    """Told when it is asked whether it is ready, and at each write; replicas and memory still work there."""
    with make_server(config) as server:
        settings = settings_for(server, FSYNC)
        with pytest.raises(MisconfiguredError, match=hint) as error:
            run(settings, lambda store: store.ready(to_write=True))

        assert code == error.value.code
        assert [code] == append(settings, 1)
        assert ["Seen"] == append(settings_for(server, MEMORY), 1)


def test_replicas_must_have_an_event_first(replicated: tuple[EmbeddedValkey, EmbeddedValkey]) -> None:
    """While the replica hangs an event and its repeat are to be sent again; then it has them, once."""
    master, replica = replicated
    patient, settings = (settings_for(master, REPLICAS, durability_timeout_s=wait_s) for wait_s in (10.0, 0.2))
    assert ["Appended"] == append(patient, 1)
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        assert ["not_durable", "not_durable", "not_durable"] == append(settings, 1, 2, 2)
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert ["Seen", "Seen"] == append(patient, 1, 2)
    with redis.Redis.from_url(replica.url) as client:
        assert 2 == client.xlen("{ft:0}:events")


def test_too_few_replicas_are_told_beforehand(replicated: tuple[EmbeddedValkey, EmbeddedValkey]) -> None:
    """Not ready, with the numbers; they may come, so it is no fault of the settings."""
    master, replica = replicated
    run(settings_for(master, REPLICAS), lambda store: store.ready(to_write=True))

    with pytest.raises(UnavailableError, match="1 replicas are connected, but FLYERTIME_DURABILITY_REPLICAS is 2"):
        run(settings_for(master, REPLICAS, durability_replicas=2), lambda store: store.ready(to_write=True))
    with pytest.raises(UnavailableError) as error:
        run(settings_for(replica, REPLICAS), lambda store: store.ready(to_write=True))
    assert "store_read_only" == error.value.code


def test_each_node_of_a_cluster_waits_for_its_own(redis_cluster: Any) -> None:
    """Behind the appends of each node, on their connection."""
    settings = Settings(
        redis_url=redis_cluster.url, namespace="durable", shards=12, durability=FSYNC, durability_timeout_s=5.0
    )

    async def use(store: RedisStore) -> Any:
        await store.ready(to_write=True)
        batches = [ShardBatch(shard, ENTRY, 1, [b"x" * 12]) for shard in range(await store.shards())]
        return [[type(answer).__name__ for answer in await store.append(batches, window=1)] for _ in range(2)]

    with ExitStack() as stack:
        for node in redis_cluster.nodes:
            client = stack.enter_context(redis.Redis.from_url(node.url))
            client.config_set("appendfsync", "always")
            stack.callback(client.config_set, "appendfsync", "everysec")
        assert [["Appended"] * 12, ["Seen"] * 12] == run(settings, use)
