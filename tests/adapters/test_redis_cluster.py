"""Clients on a real Redis Cluster: routing, redirections, and nodes that go away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import redis
import redis.asyncio

from functions.adapters.redis_client import connect, connect_async
from functions.adapters.redis_report import ReportStore
from functions.adapters.redis_shard import ShardStore
from functions.adapters.redis_slots import Address, slot_of
from functions.adapters.redis_store import Appended, RedisStore, ShardBatch
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.settings import Settings
from tests.redis_cluster import EmbeddedCluster
from tests.store_in_a_loop import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from functions.local.valkey import EmbeddedValkey

T = TypeVar("T")
SHARDS = 12


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A cluster that the test may disturb."""
    with EmbeddedCluster(tmp_path, binary=os.environ.get("FLYERTIME_TEST_SERVER")) as cluster:
        yield cluster


async def append_everywhere(store: RedisStore, number: int) -> list[str]:
    """Append an event to every shard; return what became of each, in a word."""
    entry = pack_events([Event(number, "u", "flyer_open", "f", "m")])
    digest = number.to_bytes(12, "big")
    batches = [ShardBatch(shard, entry, 1, [digest]) for shard in range(await store.shards())]
    return [
        answer.code if isinstance(answer, FlyertimeError) else type(answer).__name__
        for answer in await store.append(batches, window=1)
    ]


def nodes_of(cluster: EmbeddedCluster, namespace: str) -> list[int]:
    """Return the node of each shard."""
    return [cluster.node_of(f"{{{namespace}:{shard}}}:events") for shard in range(SHARDS)]


def test_an_append_is_one_trip_to_each_node(redis_cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shards it is for."""
    settings = Settings(redis_url=redis_cluster.url, namespace="trips", shards=SHARDS)
    sent: list[int] = []
    plain = redis.asyncio.Connection._send_packed_command

    async def counted(self: Any, command: Any) -> None:
        sent.append(self.port)
        await plain(self, command)

    async def use(store: RedisStore) -> list[str]:
        await append_everywhere(store, 1)
        monkeypatch.setattr(redis.asyncio.Connection, "_send_packed_command", counted)
        return await append_everywhere(store, 2)

    assert ["Appended"] * SHARDS == run(settings, use)
    assert {0, 1, 2} == set(nodes_of(redis_cluster, "trips"))
    assert sorted(node.port for node in redis_cluster.nodes) == sorted(sent)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_address_of_one_node_is_enough(redis_cluster: EmbeddedCluster, number: int) -> None:
    """It says where the others are, to functions and to the job."""
    settings = Settings(redis_url=redis_cluster.nodes[number].url, namespace=f"one{number}", shards=SHARDS)

    async def use(store: RedisStore) -> Any:
        appended = await append_everywhere(store, 1)
        return appended, await store.ledgers(), await store.runs()

    async def ask() -> Any:
        report = ReportStore(settings)
        state, value = await report.state_and_value("u", None)
        await report.close()
        return len(state.shards), value

    appended, ledgers, runs = run(settings, use)
    store = ShardStore(settings)
    here = [store.ledger(shard).accepted for shard in range(store.shards())]
    store.close()

    assert ["Appended"] * SHARDS == appended
    assert [1] * SHARDS == here == [ledger.accepted for ledger in ledgers]
    assert [] == runs
    assert (SHARDS, None) == asyncio.run(ask())


@pytest.mark.parametrize("place", [0, 1])
def test_of_several_addresses_one_may_be_away_at_the_start(redis_cluster: EmbeddedCluster, place: int) -> None:
    """The first or another: to functions and to the job."""
    addresses = [redis_cluster.nodes[number].url for number in (0, 2)]
    addresses.insert(place, "redis://127.0.0.1:1/0")
    settings = Settings(redis_url=",".join(addresses), namespace=f"away{place}", shards=SHARDS)

    assert ["Appended"] * SHARDS == run(settings, lambda store: append_everywhere(store, 1))
    run(settings, lambda store: store.ready(to_write=True))
    store = ShardStore(settings)
    assert [1] * SHARDS == [store.ledger(shard).accepted for shard in range(store.shards())]
    store.close()


def test_pipelines_of_the_job_go_to_many_nodes_too(redis_cluster: EmbeddedCluster) -> None:
    """In order; a transaction over one shard only; the first error is raised, or stands in its place."""
    for url in (redis_cluster.url, redis_cluster.nodes[0].url):
        client = connect(Settings(redis_url=url))
        pipe = client.pipeline(transaction=False)
        for number in range(20):
            pipe.set(f"{{job:{number}}}", number)
            pipe.get(f"{{job:{number}}}")
        replies = pipe.execute()
        pipe = client.pipeline()
        pipe.incr("{job:t}")
        pipe.get("{job:t}")
        count, held = pipe.execute()
        pipe = client.pipeline(transaction=False)
        pipe.incr("{job:t}")
        pipe.hset("{job:t}", "no", "hash")
        _, error = pipe.execute(raise_on_error=False)
        pipe.set("{job:1}", 1)
        pipe.hset("{job:t}", "no", "hash")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            pipe.execute()
        pipe = client.pipeline()
        pipe.set("{job:1}", 1)
        pipe.set("{job:2}", 2)
        with pytest.raises(redis.RedisError, match="one shard"):
            pipe.execute()
        assert [b"PONG"] * 3 == [b"PONG" if reply is True else reply for reply in client.on_each_node("PING")]
        client.close()

        assert [value for number in range(20) for value in (True, str(number).encode())] == replies
        assert (count, isinstance(error, redis.ResponseError)) == (int(held), True)


def move_slot(cluster: EmbeddedCluster, slot: int, *, halfway: Callable[[], None]) -> None:
    """Move a slot and its keys to another node, and call something while it is on its way."""
    source = slot * cluster.masters // 16384
    target = (source + 1) % cluster.masters
    with cluster.client(source) as there, cluster.client(target) as here:
        source_id, target_id = (client.execute_command("CLUSTER", "MYID").decode() for client in (there, here))
        here.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        there.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        keys = there.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        port = cluster.nodes[target].port
        there.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
        halfway()
        for client in (here, there):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def test_a_slot_that_moves_is_followed(own_cluster: EmbeddedCluster) -> None:
    """While it moves (ASK), what needs no new key goes on and writes wait for a repeat; then (MOVED) all goes on."""
    settings = Settings(redis_url=own_cluster.url, shards=SHARDS)
    slot = slot_of(("GET", "{ft:5}:events"))
    assert slot is not None
    answers: list[list[str]] = []
    job = ShardStore(settings)
    halfway: list[int] = []

    async def use(store: RedisStore) -> list[int]:
        answers.append(await append_everywhere(store, 1))
        loop = asyncio.get_running_loop()

        def while_it_moves() -> None:
            answers.append(asyncio.run_coroutine_threadsafe(append_everywhere(store, 2), loop).result(10))
            halfway.append(job.ledger(5).accepted)

        await asyncio.to_thread(move_slot, own_cluster, slot, halfway=while_it_moves)
        answers.append(await append_everywhere(store, 2))
        return [ledger.accepted for ledger in await store.ledgers()]

    job.ledger(5)
    accepted = run(settings, use)

    during = ["store_unavailable" if shard == 5 else "Appended" for shard in range(SHARDS)]
    after = ["Appended" if shard == 5 else "Seen" for shard in range(SHARDS)]
    assert [["Appended"] * SHARDS, during, after] == answers
    assert [2] * SHARDS == accepted
    assert ([1], 2) == (halfway, job.ledger(5).accepted)
    job.close()


def until_all_are_taken(store: RedisStore) -> Callable[[int], Awaitable[list[str]]]:
    """Return what sends an event until every shard has it, as senders do."""

    async def send(number: int) -> list[str]:
        deadline_s = time.monotonic() + 20
        while True:
            answers = await append_everywhere(store, number)
            if {"Appended", "Seen"} >= set(answers):
                return answers
            assert time.monotonic() < deadline_s, answers
            await asyncio.sleep(0.05)

    return send


def test_without_one_node_its_shards_wait_and_the_others_go_on(own_cluster: EmbeddedCluster) -> None:
    """Killed and started again: the same client goes on; what was told to be retried is in once."""
    settings = Settings(redis_url=own_cluster.url, shards=SHARDS)
    nodes = nodes_of(own_cluster, "ft")
    lost = next(node for node in (0, 1, 2) if node != own_cluster.node_of("{ft}:layout"))

    async def use(store: RedisStore) -> Any:
        await append_everywhere(store, 1)
        own_cluster.nodes[lost].kill()
        during = [await append_everywhere(store, number) for number in (2, 3)]
        now_ms, load = await store.now_ms(), await store.load()
        own_cluster.nodes[lost].start()
        await until_all_are_taken(store)(2)
        await until_all_are_taken(store)(3)
        return during, now_ms, load, [ledger.accepted for ledger in await store.ledgers()]

    during, now_ms, load, accepted = run(settings, use)

    expected = ["store_unavailable" if node == lost else "Appended" for node in nodes]
    assert 0 < nodes.count(lost) < SHARDS
    assert [expected, expected] == during
    assert now_ms > 0
    assert load.pending_events > 0
    assert [3] * SHARDS == accepted


def test_a_replica_that_takes_over_is_found(tmp_path: Path) -> None:
    """The master is killed, the cluster promotes its replica, and the same clients write to that."""
    with EmbeddedCluster(tmp_path, replicas=1, binary=os.environ.get("FLYERTIME_TEST_SERVER")) as cluster:
        settings = Settings(redis_url=cluster.url, shards=SHARDS)
        lost = cluster.node_of("{ft:0}:events")
        job = ShardStore(settings)

        async def use(store: RedisStore) -> list[int]:
            await append_everywhere(store, 1)
            assert 1 == job.ledger(0).accepted
            with cluster.client(lost) as client:
                assert 1 == client.execute_command("WAIT", 1, 5000)
            cluster.nodes[lost].kill()
            await until_all_are_taken(store)(2)
            return [ledger.accepted for ledger in await store.ledgers()]

        accepted = run(settings, use)
        with pytest.raises(UnavailableError):
            job.ledger(0)  # the connection was to the dead one; Spark runs its task again
        ledger = job.ledger(0)
        job.close()

    assert [2] * SHARDS == accepted
    assert 2 == ledger.accepted


def test_a_node_that_hangs_holds_the_others_up_once(own_cluster: EmbeddedCluster) -> None:
    """Then it is left alone for a while, and tried by one trip at a time."""
    settings = Settings(redis_url=own_cluster.url, shards=SHARDS, redis_timeout_s=0.5)
    nodes = nodes_of(own_cluster, "ft")
    hung = next(node for node in (0, 1, 2) if node != own_cluster.node_of("{ft}:layout"))

    async def use(store: RedisStore) -> Any:
        await append_everywhere(store, 1)
        os.kill(own_cluster.nodes[hung].pid, signal.SIGSTOP)
        first = await append_everywhere(store, 2)
        started_s = time.monotonic()
        second = await append_everywhere(store, 3)
        took_s = time.monotonic() - started_s
        os.kill(own_cluster.nodes[hung].pid, signal.SIGCONT)
        await until_all_are_taken(store)(2)
        await until_all_are_taken(store)(3)
        return first, second, took_s, [ledger.accepted for ledger in await store.ledgers()]

    first, second, took_s, accepted = run(settings, use)

    expected = ["store_unavailable" if node == hung else "Appended" for node in nodes]
    assert [expected, expected] == [first, second]
    assert took_s < 0.4
    assert [3] * SHARDS == accepted


def test_several_addresses_of_what_is_no_cluster_are_the_operators_matter(valkey: EmbeddedValkey) -> None:
    """It says which setting, and what to set."""
    settings = Settings(redis_url=f"{valkey.url},127.0.0.1:1")

    with pytest.raises(MisconfiguredError, match="FLYERTIME_REDIS_URL names several addresses") as error:
        run(settings, lambda store: store.shards())
    with pytest.raises(MisconfiguredError, match="name one"):
        ShardStore(settings).shards()
    assert "store_is_no_cluster" == error.value.code


def test_the_addresses_have_one_password() -> None:
    """Nodes that are found later get it as the first has it."""
    client = connect_async(Settings(redis_url="redis://u:old@127.0.0.1:1,127.0.0.1:2", redis_password="new"))
    known = [node.connection_pool.connection_kwargs for node in client._clients.values()]
    known.append(client._pool_of(Address("127.0.0.1", 3)).connection_kwargs)

    assert [("u", "new", port) for port in (1, 2, 3)] == [
        (node["username"], node["password"], node["port"]) for node in known
    ]


def test_nodes_that_are_found_are_spoken_to_as_the_first_is() -> None:
    """With TLS where the first address has it, and with the same patience."""
    client = connect_async(Settings(redis_url="rediss://a:6380?ssl_cert_reqs=none", redis_timeout_s=0.7))
    found = client._pool_of(Address("b", 6381))

    assert redis.asyncio.SSLConnection is found.connection_class
    assert ("b", 6381, 0.7, "none") == tuple(
        found.connection_kwargs[name] for name in ("host", "port", "socket_timeout", "ssl_cert_reqs")
    )


def test_an_appended_answer_says_what_is_pending(redis_cluster: EmbeddedCluster) -> None:
    """As on one server."""
    settings = Settings(redis_url=redis_cluster.url, namespace="pending", shards=SHARDS)

    async def use(store: RedisStore) -> list[Any]:
        await store.shards()
        entry = pack_events([Event(1, "u", "flyer_open", "f", "m")] * 3)
        return list(await store.append([ShardBatch(shard, entry, 3) for shard in range(SHARDS)], window=1))

    answers = run(settings, use)

    assert [(0, 3)] * SHARDS == [(answer.pending_before, answer.pending_after) for answer in answers]
    assert all(isinstance(answer, Appended) for answer in answers)
