"""What senders are told while the store is away, and what is in it afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import redis

from functions.adapters.redis_shard import ShardStore
from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, MakeServer, ServeFunction

QUICK = {"FLYERTIME_REDIS_TIMEOUT_S": "0.5"}


@pytest.fixture
def own_valkey(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A server that the test may kill; every write is on disk before it is answered."""
    with make_server({"appendfsync": "always"}) as server:
        yield server


@pytest.fixture
def own_settings(own_valkey: EmbeddedValkey) -> Settings:
    """Settings for that server."""
    return Settings(redis_url=own_valkey.url, shards=4)


@pytest.fixture
def own_ingest(serve_function: ServeFunction, own_settings: Settings) -> Iterator[FunctionProcess]:
    """Ingest on that server, with short patience."""
    with serve_function("ingest", own_settings, **QUICK) as process:
        yield process


def post(process: FunctionProcess, events: list[dict[str, Any]]) -> httpx2.Response:
    """Post a batch."""
    headers = {"content-type": "application/cloudevents-batch+json"}
    return httpx2.post(process.url, content=json.dumps(events), headers=headers, timeout=20, trust_env=False)


def accepted(settings: Settings) -> int:
    """Return how many events the ledger says are accepted."""
    store = ShardStore(settings)
    try:
        return sum(store.ledger(shard).accepted for shard in range(4))
    finally:
        store.close()


@pytest.fixture
def batch(structured: Any, app_event: Any) -> Callable[[str], list[dict[str, Any]]]:
    """Return what makes a batch of ten events over all shards."""
    return lambda name: [structured(f"{name}-{i}", data=app_event(user_id=f"u{i}")) for i in range(10)]


def test_a_store_that_is_away_is_a_503_and_later_all_is_well(
    own_valkey: EmbeddedValkey, own_settings: Settings, own_ingest: FunctionProcess, batch: Any
) -> None:
    """While Redis is down the sender is asked to retry; then the same batch counts once, with ingest as it was."""
    assert 202 == post(own_ingest, batch("before")).status_code
    own_valkey.kill()

    refused = post(own_ingest, batch("during"))

    assert (503, "1") == (refused.status_code, refused.headers["retry-after"])
    assert {"retry"} == {event["verdict"] for event in refused.json()["events"]}
    own_valkey.start()
    deadline = time.monotonic() + 10
    while (again := post(own_ingest, batch("during"))).status_code != 202 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {"accepted": 10, "duplicate": 0} == {name: again.json()[name] for name in ("accepted", "duplicate")}
    assert {"duplicate"} == {event["verdict"] for event in post(own_ingest, batch("before")).json()["events"]}
    assert 20 == accepted(own_settings)


def test_a_store_that_hangs_is_a_503_and_what_it_wrote_late_counts_once(
    own_valkey: EmbeddedValkey, own_settings: Settings, own_ingest: FunctionProcess, batch: Any
) -> None:
    """The write may arrive after all: the sender's retry is then a duplicate, and the event counts once."""
    assert 202 == post(own_ingest, batch("before")).status_code
    os.kill(own_valkey.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        refused = post(own_ingest, batch("during"))
        waited_s = time.monotonic() - started
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)

    assert 503 == refused.status_code
    assert waited_s < 10
    again = post(own_ingest, batch("during"))
    assert 202 == again.status_code
    assert 20 == accepted(own_settings)


def test_an_accepted_event_survives_the_death_of_the_store_under_load(
    own_valkey: EmbeddedValkey, own_settings: Settings, own_ingest: FunctionProcess, batch: Any
) -> None:
    """Senders that retry until they are told 202 have every event counted once, though Redis is killed in between."""

    def send(number: int) -> None:
        deadline = time.monotonic() + 30
        while post(own_ingest, batch(f"load-{number}")).status_code != 202:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(send, number) for number in range(60)]
        while accepted(own_settings) < 100:
            time.sleep(0.01)
        own_valkey.kill()
        own_valkey.start()
        for future in sent:
            future.result()

    assert 600 == accepted(own_settings)


def test_ingest_killed_under_load_loses_and_doubles_nothing(
    own_settings: Settings, serve_function: ServeFunction, batch: Any
) -> None:
    """SIGKILL in mid-request: what was not answered is sent again to the next instance and counts once."""
    with serve_function("ingest", own_settings, **QUICK) as first, serve_function("ingest", own_settings) as second:

        def send(number: int) -> None:
            try:
                if post(first, batch(f"kill-{number}")).status_code == 202:
                    return
            except httpx2.HTTPError:
                pass  # the connection died with the process: nobody knows whether it was written
            assert 202 == post(second, batch(f"kill-{number}")).status_code

        with ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(send, number) for number in range(100)]
            while accepted(own_settings) < 200:
                time.sleep(0.01)
            first.process.kill()
            first.process.wait()
            for future in sent:
                future.result()

    assert 1000 == accepted(own_settings)


def test_what_is_wrong_with_a_request_is_told_also_before_the_store_was_ever_there(
    make_server: MakeServer, serve_function: ServeFunction, structured: Any, batch: Any, app_event: Any
) -> None:
    """Only what holds an event that could be taken is to be sent again; the rest is kept as soon as there is where."""
    server = make_server()
    bad = [structured("bad", data={}), structured("worse", data=app_event(user_id=7))]
    with serve_function("ingest", Settings(redis_url=server.url, shards=4), **QUICK) as process:
        raw, whole = {"content-type": "application/json"}, {"content-type": "application/cloudevents+json"}
        for status, events in ((400, bad), (202, []), (503, batch("good")), (503, [*bad, *batch("mixed")])):
            answer = post(process, events)
            assert (status, status == 503) == (answer.status_code, "retry-after" in answer.headers), answer.text
        for status, content, headers, path in (
            (400, json.dumps(bad[0]), whole, "/"),
            (400, "{", whole, "/"),
            (415, "x", {"content-type": "text/plain"}, "/"),
            (413, json.dumps([{}] * 10_001), raw, "/api/process"),
            (400, json.dumps([{}]), raw, "/api/process"),
            (503, json.dumps([app_event()]), raw, "/api/process"),
        ):
            answer = httpx2.post(process.url + path, content=content, headers=headers, timeout=20, trust_env=False)
            assert status == answer.status_code, answer.text
        assert (2, 0) == tuple(post(process, bad).json()[name] for name in ("rejected", "quarantined"))

        with server:
            there = post(process, [*bad, *batch("good")])
            repeated = post(process, batch("good"))

    assert (202, 10, 2, 2) == (
        there.status_code, *(there.json()[name] for name in ("accepted", "rejected", "quarantined")),
    )  # fmt: skip
    assert 10 == repeated.json()["duplicate"]


def test_readiness_follows_the_store(own_valkey: EmbeddedValkey, own_ingest: FunctionProcess) -> None:
    """/readyz is 200 while the store answers and 503 while it does not; /healthz does not depend on it."""
    assert 200 == httpx2.get(f"{own_ingest.url}/readyz", trust_env=False).status_code
    own_valkey.kill()

    assert 503 == httpx2.get(f"{own_ingest.url}/readyz", trust_env=False).status_code
    assert 200 == httpx2.get(f"{own_ingest.url}/healthz", trust_env=False).status_code


def test_a_probe_waits_no_longer_than_probes_do(
    own_valkey: EmbeddedValkey, own_settings: Settings, serve_function: ServeFunction
) -> None:
    """However long the store may take for a write: one that hangs is told after two seconds."""
    with serve_function("ingest", own_settings, FLYERTIME_REDIS_TIMEOUT_S="60") as process:
        assert 200 == httpx2.get(f"{process.url}/readyz", trust_env=False).status_code
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            reply = httpx2.get(f"{process.url}/readyz", timeout=20, trust_env=False)
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)

    assert (503, "not_ready", "1") == (reply.status_code, reply.json()["code"], reply.headers["retry-after"])


def test_ingest_refuses_to_work_on_a_store_laid_out_otherwise(
    own_valkey: EmbeddedValkey, own_ingest: FunctionProcess, serve_function: ServeFunction, batch: Any
) -> None:
    """Another number of shards would scatter users: such a process says so and writes nothing."""
    assert 202 == post(own_ingest, batch("four")).status_code
    with serve_function("ingest", Settings(redis_url=own_valkey.url, shards=8)) as other:
        response = post(other, batch("eight"))

        assert (503, "layout_shards") == (response.status_code, response.json()["code"])
        assert "laid out with 4 shards" in other.log.read_text()


def test_one_shard_in_trouble_is_retried_alone_and_nothing_counts_twice(
    settings: Settings, serve_function: ServeFunction, raw_redis: redis.Redis, batch: Any
) -> None:
    """Its events are retry, the others are written; all sent again, each of them counts once."""
    with serve_function("ingest", settings) as process:
        assert {"accepted"} == {event["verdict"] for event in post(process, batch("before")).json()["events"]}
        key = f"{{{settings.namespace}:2}}:events"
        raw_redis.rename(key, f"{key}:aside")
        raw_redis.set(key, "no stream")

        mixed = post(process, batch("during"))
        again = post(process, batch("during"))

        assert (503, "60") == (mixed.status_code, mixed.headers["retry-after"])
        verdicts = [event["verdict"] for event in mixed.json()["events"]]
        assert {"accepted", "retry"} == set(verdicts)
        assert ["duplicate" if verdict == "accepted" else "retry" for verdict in verdicts] == [
            event["verdict"] for event in again.json()["events"]
        ]
        raw_redis.rename(f"{key}:aside", key)
        mended = post(process, batch("during"))
        last = post(process, batch("during"))

    assert ["duplicate" if verdict == "accepted" else "accepted" for verdict in verdicts] == [
        event["verdict"] for event in mended.json()["events"]
    ]
    assert 10 == last.json()["duplicate"]
    assert 20 == accepted(settings)


def test_retry_after_is_as_long_as_the_store_needs(
    own_valkey: EmbeddedValkey, own_settings: Settings, own_ingest: FunctionProcess, batch: Any
) -> None:
    """A replica in a failover needs more than a moment; once it leads, the same events are taken."""
    assert 202 == post(own_ingest, batch("before")).status_code
    with redis.Redis.from_url(own_valkey.url) as client:
        client.replicaof("127.0.0.1", 1)
        refused = post(own_ingest, batch("during"))
        client.replicaof("NO", "ONE")

    assert (503, "2") == (refused.status_code, refused.headers["retry-after"])
    assert 202 == post(own_ingest, batch("during")).status_code
    assert 20 == accepted(own_settings)
