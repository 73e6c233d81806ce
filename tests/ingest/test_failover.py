"""Redis is a replica for a while, loads its file, or waits for its disk: senders repeat, ingest goes on as it is."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import redis

from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, MakeServer, ServeFunction

QUICK = {"FLYERTIME_REDIS_TIMEOUT_S": "0.5", "FLYERTIME_DURABILITY_TIMEOUT_S": "0.3"}


def post(process: FunctionProcess, events: list[dict[str, Any]]) -> httpx2.Response:
    """Post a batch."""
    headers = {"content-type": "application/cloudevents-batch+json"}
    return httpx2.post(process.url, content=json.dumps(events), headers=headers, timeout=20, trust_env=False)


def post_until_taken(process: FunctionProcess, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Repeat a batch, as senders do, until no event of it is to be sent again."""
    deadline = time.monotonic() + 15
    while (response := post(process, events)).status_code != 202:
        assert (503, True) == (response.status_code, int(response.headers["retry-after"]) > 0)
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)
    body: dict[str, Any] = response.json()
    return body


def readiness(process: FunctionProcess) -> tuple[int, str]:
    """Return what the probe is told."""
    response = httpx2.get(f"{process.url}/readyz", timeout=10, trust_env=False)
    return response.status_code, response.json().get("code", "")


def accepted(server: EmbeddedValkey) -> int:
    """Return how many events the server's ledgers say are accepted."""
    with redis.Redis.from_url(server.url) as client:
        return sum(int(client.hget(f"{{ft:{shard}}}:ledger", "accepted") or 0) for shard in range(4))


@pytest.fixture
def batch(structured: Any, app_event: Any) -> Callable[[str], list[dict[str, Any]]]:
    """Return what makes a batch of ten events over all shards."""
    return lambda name: [structured(f"{name}-{i}", data=app_event(user_id=f"u{i}")) for i in range(10)]


def test_a_replica_takes_no_events_until_it_is_promoted(
    replicated: tuple[EmbeddedValkey, EmbeddedValkey], serve_function: ServeFunction, batch: Any
) -> None:
    """READONLY is a retry; after REPLICAOF NO ONE the same process writes, and knows what the master had taken."""
    master, replica = replicated
    durable = {"FLYERTIME_DURABILITY": "replicas", **QUICK, "FLYERTIME_DURABILITY_TIMEOUT_S": "10"}
    with serve_function("ingest", Settings(redis_url=master.url, shards=4), **durable) as first:
        assert 10 == post_until_taken(first, batch("before"))["accepted"]
    with serve_function("ingest", Settings(redis_url=replica.url, shards=4), **QUICK) as second:
        assert (503, "store_read_only") == readiness(second)
        refused = post(second, batch("during"))
        master.kill()
        with redis.Redis.from_url(replica.url) as client:
            client.replicaof("NO", "ONE")
        taken = post_until_taken(second, batch("during"))
        repeated = post_until_taken(second, batch("before"))

        assert 503 == refused.status_code
        assert (10, 10) == (taken["accepted"], repeated["duplicate"])
        assert (200, "") == readiness(second)
    assert 20 == accepted(replica)


def test_a_master_that_becomes_a_replica_says_so_to_old_connections(
    replicated: tuple[EmbeddedValkey, EmbeddedValkey], serve_function: ServeFunction, batch: Any
) -> None:
    """Connections stay open in a planned failover: each write is a retry until the roles are back."""
    master, other = replicated
    with serve_function("ingest", Settings(redis_url=master.url, shards=4), **QUICK) as process:
        assert 10 == post_until_taken(process, batch("before"))["accepted"]
        with redis.Redis.from_url(master.url) as client, redis.Redis.from_url(other.url) as there:
            there.replicaof("NO", "ONE")
            client.replicaof("127.0.0.1", other.port)
            refused = post(process, batch("during"))
            client.replicaof("NO", "ONE")

        assert {"retry"} == {event["verdict"] for event in refused.json()["events"]}
        assert 10 == post_until_taken(process, batch("during"))["accepted"]
    assert 20 == accepted(master)


def test_a_store_that_loads_its_file_is_waited_for(
    make_server: MakeServer, serve_function: ServeFunction, batch: Any
) -> None:
    """LOADING is a retry, with its own code; then the same process writes on."""
    slow = {"key-load-delay": "500"}  # microseconds a command; every 1024th it looks at who has asked: 20 s in all
    with (
        make_server({"appendfsync": "always", **slow}) as server,
        serve_function("ingest", Settings(redis_url=server.url, shards=4), **QUICK) as process,
        ThreadPoolExecutor(1) as aside,
    ):
        post_until_taken(process, batch("before"))
        with redis.Redis.from_url(server.url) as client, client.pipeline(transaction=False) as pipe:
            for _ in range(40_000):
                pipe.incr("padding")
            pipe.execute()
        server.kill()
        started = aside.submit(server.start)
        deadline = time.monotonic() + 20
        while readiness(process) != (503, "store_loading"):
            assert time.monotonic() < deadline
        refused = post(process, batch("during"))
        with redis.Redis.from_url(server.url) as client:
            client.config_set("key-load-delay", "0")  # only now, so that it surely loaded while it was asked
        started.result()

        assert {"retry"} == {event["verdict"] for event in refused.json()["events"]}
        assert 10 == post_until_taken(process, batch("during"))["accepted"]
        assert 10 == post_until_taken(process, batch("before"))["duplicate"]
        assert 20 == accepted(server)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"appendonly": "no"}, "durability_off"),
        ({"rename-command": "WAITAOF GONE", "appendfsync": "always"}, "durability_unknown"),
    ],
)
def test_a_store_that_cannot_give_what_was_asked_for_is_told_to_the_probe(
    make_server: MakeServer, serve_function: ServeFunction, batch: Any, config: dict[str, str], code: str
) -> None:
    """And to the log; senders are only asked to come again."""
    with (
        make_server(config) as server,
        serve_function("ingest", Settings(redis_url=server.url, shards=4), FLYERTIME_DURABILITY="fsync") as process,
    ):
        assert (503, code) == readiness(process)
        refused = post(process, batch("x"))

        assert (503, 10) == (refused.status_code, refused.json()["retry"])
        assert code in process.log.read_text()


def test_nobody_is_told_of_an_event_before_it_is_on_disk(
    make_server: MakeServer, serve_function: ServeFunction, batch: Any
) -> None:
    """An event and its repeats are a retry while the disk waits; then each is a duplicate, and counted once."""
    settings = {"FLYERTIME_DURABILITY": "fsync", **QUICK}
    with (
        make_server({"appendfsync": "no"}) as server,
        serve_function("ingest", Settings(redis_url=server.url, shards=4), **settings) as process,
        redis.Redis.from_url(server.url) as client,
    ):
        early = [post(process, batch("x")) for _ in range(2)]
        client.config_set("appendfsync", "always")
        late = post_until_taken(process, batch("x"))

        assert [(503, 10)] * 2 == [(response.status_code, response.json()["retry"]) for response in early]
        assert (10, 0) == (late["duplicate"], late["accepted"])
        assert 10 == accepted(server)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_store_that_would_drop_events_when_it_is_full_is_told_to_the_probe(
    make_server: MakeServer, serve_function: ServeFunction, policy: str
) -> None:
    """Only where it has a limit: without one it never drops anything."""
    with (
        make_server({"maxmemory-policy": policy}) as server,
        serve_function("ingest", Settings(redis_url=server.url, shards=4)) as process,
        redis.Redis.from_url(server.url) as client,
    ):
        unlimited = readiness(process)
        client.config_set("maxmemory", "100mb")
        limited = readiness(process)

        assert [(200, ""), (503, "store_evicts")] == [unlimited, limited]


def test_a_store_whose_info_is_kept_from_us_is_used_all_the_same(
    make_server: MakeServer, serve_function: ServeFunction, batch: Any
) -> None:
    """Managed ones do so; what INFO would have told is then told by the writes."""
    with (
        make_server({"user": "default on nopass ~* +@all -info"}) as server,
        serve_function("ingest", Settings(redis_url=server.url, shards=4)) as process,
    ):
        assert (200, "") == readiness(process)
        assert 10 == post_until_taken(process, batch("x"))["accepted"]
