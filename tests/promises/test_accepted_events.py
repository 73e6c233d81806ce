"""No accepted event is missing or counted twice, whatever is killed, hangs or fills up: under load, event by event."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import redis

from functions.adapters.redis_shard import Change, Committed, ShardStore
from functions.core.packing import unpack_events
from functions.core.settings import Settings
from tests.promises.power_cut import PowerCut, can_trace
from tests.promises.senders import Senders, users_in_log
from tests.redis_cluster import EmbeddedCluster

if TYPE_CHECKING:
    from pathlib import Path

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer, ServeFunction

QUICK = {"FLYERTIME_REDIS_TIMEOUT_S": "0.5", "FLYERTIME_DURABILITY_TIMEOUT_S": "2"}
SOME = 150


def settings_of(server: EmbeddedValkey) -> Settings:
    """Return the settings of a pipeline in a server of its own."""
    return Settings(redis_url=server.url, shards=4)


@pytest.mark.parametrize(
    ("appendfsync", "durability"), [("always", "fsync"), ("always", "memory")], ids=["WAITAOF", "always"]
)
def test_redis_is_killed_twice_and_starts_from_its_file(
    make_server: MakeServer, serve_function: ServeFunction, appendfsync: str, durability: str
) -> None:
    """What was acknowledged is on disk, whether ingest waits for that or the server never answers before."""
    with (
        make_server({"appendfsync": appendfsync}) as server,
        serve_function("ingest", settings_of(server), FLYERTIME_DURABILITY=durability, **QUICK) as ingest,
    ):
        with Senders([ingest.url]) as senders:
            for _ in range(2):
                senders.wait_for(SOME)
                server.kill()
                missed = senders.statuses[503]
                senders.wait_until(lambda missed=missed: senders.statuses[503] > missed)  # type: ignore[misc]  # a bool
                server.start()
            senders.wait_for(SOME)
        senders.check(settings_of(server))


def test_ingest_is_killed_in_the_middle_of_requests(make_server: MakeServer, serve_function: ServeFunction) -> None:
    """Senders whose connection died go to the other instance with the same events."""
    with make_server() as server, serve_function("ingest", settings_of(server), **QUICK) as second:
        with (
            serve_function("ingest", settings_of(server), **QUICK) as first,
            Senders([first.url, second.url]) as senders,
        ):
            senders.wait_for(SOME)
            first.process.kill()
            first.process.wait()
            senders.wait_until(lambda: senders.statuses[0] > 0)
            senders.wait_for(SOME)
        senders.check(settings_of(server))


def test_redis_hangs_for_longer_than_anybody_waits(make_server: MakeServer, serve_function: ServeFunction) -> None:
    """What it had read and writes when it wakes is known when it is sent again."""
    with make_server() as server, serve_function("ingest", settings_of(server), **QUICK) as ingest:
        with Senders([ingest.url]) as senders:
            # Where it takes up a repeat first, what it had read before is not written: then once more.
            for _ in range(10):
                senders.wait_for(SOME)
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    senders.wait_for_refusals(4)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                senders.wait_for(SOME)
                if {"retry", "duplicate"} in list(senders.told.values()):
                    break
        senders.check(settings_of(server))
        assert {"retry", "duplicate"} in senders.told.values()


@pytest.mark.parametrize(
    ("ratio", "code"), [("0.9", "store_nearly_full"), ("1.0", "store_full")], ids=["told beforehand", "told by Redis"]
)
def test_redis_runs_full(make_server: MakeServer, serve_function: ServeFunction, ratio: str, code: str) -> None:
    """Senders wait, and a fold still works; where nobody looks beforehand the store refuses. With room, all is in."""
    limits = {"FLYERTIME_MAX_STORE_MEMORY_RATIO": ratio, **QUICK}
    with (
        make_server({"maxmemory-policy": "noeviction"}) as server,
        serve_function("ingest", settings_of(server), **limits) as ingest,
        redis.Redis.from_url(server.url) as client,
    ):
        with Senders([ingest.url]) as senders:
            senders.wait_for(20 * SOME)
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", int((used + 100_000) / float(ratio)))
            senders.wait_until(lambda: code in ingest.log.read_text())
            folded = fold(settings_of(server))
            assert len(folded) > 0
            client.config_set("maxmemory", 0)
            senders.wait_for(SOME)
        assert not senders.faults, senders.faults
        held = [*folded, *users_in_log(settings_of(server))]
        assert sorted(senders.told) == sorted(held)


def fold(settings: Settings) -> list[str]:
    """Take what is in the log out of it, as a fold does; return the users."""
    users: list[str] = []
    store = ShardStore(settings)
    for shard in range(store.shards()):
        ledger = store.ledger(shard)
        if ledger.newest_id is None:
            continue
        events = [event for _, entry in store.log(shard, "0-0", ledger.newest_id) for event in unpack_events(entry)]
        change = Change(shard, ledger.commits, ledger.newest_id, len(events), True, {}, {})
        if isinstance(store.commit(change), Committed):
            users += [event.user_id for event in events if event.user_id is not None]
    store.close()
    return users


def test_a_node_of_a_cluster_is_cut_off(tmp_path: Path, serve_function: ServeFunction) -> None:
    """Its shards' events are to be sent again while those of the others are taken; it comes back, and all are in."""
    config = {"appendfsync": "always"}
    with EmbeddedCluster(tmp_path, config=config, binary=os.environ.get("FLYERTIME_TEST_SERVER")) as cluster:
        settings = Settings(redis_url=cluster.url, shards=12)
        with serve_function("ingest", settings, **QUICK) as ingest:
            with Senders([ingest.url]) as senders:
                senders.wait_for(SOME)
                lost = next(node for node in (0, 1, 2) if node != cluster.node_of("{ft}:layout"))
                cluster.nodes[lost].kill()
                seen = senders.safe
                senders.wait_until(lambda: senders.statuses[503] >= 8)
                assert senders.safe > seen  # in the same requests, by the other nodes
                cluster.nodes[lost].start()
                senders.wait_for(SOME)
            senders.check(settings)
            assert any("retry" in verdicts for verdicts in senders.told.values())


@pytest.mark.skipif(not can_trace(), reason="strace is not there, or may not trace: no power cut can be made")
@pytest.mark.parametrize(
    ("appendfsync", "durability", "safe"),
    [("always", "fsync", True), ("always", "memory", True), ("everysec", "memory", False)],
)
def test_the_power_is_cut(
    tmp_path: Path, serve_function: ServeFunction, appendfsync: str, durability: str, *, safe: bool
) -> None:
    """What was acknowledged is within what was synced where that was asked for; where it was not, some is lost."""
    cut = PowerCut(tmp_path, {"appendfsync": appendfsync})
    settings = settings_of(cut.server)
    with cut.server as server, serve_function("ingest", settings, FLYERTIME_DURABILITY=durability, **QUICK) as ingest:
        with Senders([ingest.url]) as senders:
            senders.wait_for(SOME)
            lost_bytes = cut.happen()
            told = senders.safe_names()
            server.start()
            senders.wait_for(SOME)
        lost = told - set(users_in_log(settings))
        if safe:
            senders.check(settings)

    assert safe == (lost == set())
    assert safe or lost_bytes > 0
