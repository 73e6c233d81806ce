"""Senders are asked to wait before the store is full, and taken again when there is room."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.adapters.redis_shard import Change, ShardStore
from functions.core.errors import UnavailableError
from functions.core.pressure import Ceiling, StoreLoad
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.ingest.pressure import LOOK_EVERY_S, Pressure

if TYPE_CHECKING:
    from tests.conftest import FunctionProcess, MakeServer, ServeFunction


def post(process: FunctionProcess, events: list[Any]) -> httpx2.Response:
    """Post a raw array."""
    headers = {"content-type": "application/json"}
    url = f"{process.url}/api/process"
    return httpx2.post(url, content=json.dumps(events), headers=headers, timeout=20, trust_env=False)


def post_until(process: FunctionProcess, events: list[Any], status: int) -> httpx2.Response:
    """Post until the answer has a status."""
    deadline = time.monotonic() + 15
    while (response := post(process, events)).status_code != status:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.1)
    return response


def test_a_full_backlog_is_a_503_until_it_is_folded(
    serve_function: ServeFunction, settings: Settings, app_event: Any
) -> None:
    """Beyond the limit nothing is taken and the sender is told when to come again; a fold makes room."""
    with serve_function("ingest", settings, FLYERTIME_MAX_PENDING_EVENTS="20") as process:
        refused = post_until(process, [app_event(user_id="u")] * 10, 503)
        assert ("backlog_full", "10") == (refused.json()["code"], refused.headers["retry-after"])
        store = ShardStore(settings)
        ledger = store.ledger(shard_of("u", 4))
        assert 503 == post(process, [app_event(user_id="u")]).status_code
        assert ledger.accepted == store.ledger(ledger.shard).accepted
        store.commit(Change(ledger.shard, ledger.commits, str(ledger.newest_id), ledger.pending, True, {}, {}))
        store.close()
        post_until(process, [app_event(user_id="u")], 200)


def test_a_store_that_is_nearly_full_is_a_503_before_it_refuses_writes(
    make_server: MakeServer, serve_function: ServeFunction, app_event: Any
) -> None:
    """The fold still has memory to work with."""
    with make_server({"maxmemory": "8mb"}) as server:
        settings = Settings(redis_url=server.url, shards=4)
        with serve_function("ingest", settings, FLYERTIME_MAX_STORE_MEMORY_RATIO="0.6") as process:
            events = [app_event(user_id=f"{number:01000}") for number in range(200)]
            refused = post_until(process, events, 503)
        assert "store_nearly_full" == refused.json()["code"]
        store = ShardStore(settings)
        store.commit(Change(0, store.ledger(0).commits, "", 0, True, {b"u": b"x" * 100_000}, {}))
        store.close()


def test_a_process_holds_so_many_events_while_the_store_is_slow_and_no_more(
    make_server: MakeServer, serve_function: ServeFunction, app_event: Any
) -> None:
    """The others are refused at once, and told when to come again."""
    settings = {"FLYERTIME_MAX_WAITING_EVENTS": "5", "FLYERTIME_REDIS_TIMEOUT_S": "1"}
    with (
        make_server() as server,
        serve_function("ingest", Settings(redis_url=server.url, shards=4), **settings) as process,
    ):
        assert 200 == post(process, [app_event()]).status_code
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(10) as pool:
                replies = list(pool.map(lambda _: post(process, [app_event()] * 4), range(10)))
        finally:
            os.kill(server.pid, signal.SIGCONT)
    told = {(reply.status_code, reply.headers["retry-after"], reply.json().get("code")) for reply in replies}

    assert {(503, "1", "busy"), (503, "1", None)} == told


def test_asking_costs_no_trip_and_looking_happens_once_a_second() -> None:
    """The reading is made beside the requests; one that fails stands for nothing."""

    async def scenario() -> None:
        now_s, looks = 0.0, 0
        load: StoreLoad | None = StoreLoad(5, 0, 0)

        async def look() -> StoreLoad:
            nonlocal looks
            looks += 1
            if load is None:
                raise UnavailableError("away", "the store is away")
            return load

        pressure = Pressure(look, Ceiling(5, 1.0), clock=lambda: now_s)
        pressure.check()  # nothing is known yet
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(UnavailableError, match="5 events wait"):
                pressure.check()
        assert 1 == looks
        now_s, load = now_s + LOOK_EVERY_S, None
        with pytest.raises(UnavailableError):
            pressure.check()
        await asyncio.sleep(0)
        pressure.check()
        assert 2 == looks
        await pressure.close()

    asyncio.run(scenario())
