"""Large replies over the client's pool: whole, or an error in time, and the pool is as good as before."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import redis
import uvloop

from functions.adapters import redis_bulk
from functions.adapters.redis_client import connect_async
from functions.adapters.redis_regular import ArrivingReplies, Regular
from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.adapters.redis_cluster import AsyncClient
    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

COMMANDS = (("HGETALL", "large"), ("HGET", "large", "00000007"))


def asking(url: str, use: Callable[[AsyncClient], Awaitable[Any]], timeout_s: float = 5.0) -> Any:
    """Use a client in a loop of its own."""

    async def run() -> Any:
        client = connect_async(Settings(redis_url=url, redis_timeout_s=timeout_s))
        try:
            return await use(client)
        finally:
            await client.aclose()

    return asyncio.run(run())


def fill(server: EmbeddedValkey) -> dict[bytes, bytes]:
    """Put a hash that is larger than any buffer into a server, and return it."""
    held = {b"%08d" % number: b"v" * 45 for number in range(50_000)}
    with redis.Redis.from_url(server.url) as client:
        client.hset("large", mapping=held)
        client.hset("uneven", mapping={"a": 1, "bc": 2})
    return held


def test_replies_are_whole_and_the_connection_serves_on(make_server: MakeServer) -> None:
    """By our way and by the client's own in turn."""

    async def use(client: AsyncClient) -> Any:
        pool = client.connection_pool
        first = await redis_bulk.ask(pool, COMMANDS, 2)
        plain = await client.hget("large", "00000001")
        uneven = await redis_bulk.ask(pool, [("HGETALL", "uneven")], 2)
        return first, plain, uneven, await redis_bulk.ask(pool, COMMANDS, 2), await client.client_id()

    with make_server() as server:
        held = fill(server)
        (first, value), plain, uneven, (again, _), number = asking(server.url, use)
        with redis.Redis.from_url(server.url) as client:
            assert number + 1 == client.client_id(), "one connection for all of it"

    assert isinstance(first, Regular)
    assert held == dict(zip(*first.columns(), strict=True)) == dict(zip(*again.columns(), strict=True))
    assert (b"v" * 45, b"v" * 45) == (value, plain)
    assert [[b"a", b"1", b"bc", b"2"]] == uneven


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_reply_does_not_outlive_its_use(
    valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, run: Callable[[Awaitable[None]], None]
) -> None:
    """A connection that waits in the pool for its next question holds nothing of the last reply."""
    arriving: list[weakref.ref[ArrivingReplies]] = []

    def watched(elements: int) -> ArrivingReplies:
        replies = ArrivingReplies(elements)
        arriving.append(weakref.ref(replies))
        return replies

    async def use() -> None:
        client = connect_async(Settings(redis_url=valkey.url))
        try:
            assert 50_000 == (await redis_bulk.ask(client.connection_pool, COMMANDS, 2))[0].records
            gc.collect()
            assert [None] == [replies() for replies in arriving]
        finally:
            await client.aclose()

    fill(valkey)
    monkeypatch.setattr(redis_bulk, "ArrivingReplies", watched)
    run(use())


def test_a_server_that_hangs_is_given_up_in_time(make_server: MakeServer) -> None:
    """And asked anew afterwards, on another connection."""

    async def use(client: AsyncClient) -> Any:
        await client.ping()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            failed = await asyncio.gather(redis_bulk.ask(client.connection_pool, COMMANDS, 2), return_exceptions=True)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        return failed, await redis_bulk.ask(client.connection_pool, COMMANDS, 2)

    with make_server() as server:
        fill(server)
        failed, (_, value) = asking(server.url, use, timeout_s=0.5)

    assert [redis.TimeoutError] == [*map(type, failed)]
    assert b"v" * 45 == value


def test_a_connection_that_ends_is_an_error_at_once(make_server: MakeServer) -> None:
    """Not only after the time for an answer."""

    async def use(client: AsyncClient) -> Any:
        waiting = asyncio.ensure_future(redis_bulk.ask(client.connection_pool, [("BLPOP", "nothing", 0)], 2))
        while not await client.client_kill_filter(_type="normal", skipme=True):  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)
        return await asyncio.gather(waiting, return_exceptions=True)

    with make_server() as server:
        failed = asking(server.url, use)

    assert [redis.ConnectionError] == [*map(type, failed)]


def test_who_leaves_leaves_no_reply_for_the_next(valkey: EmbeddedValkey) -> None:
    """The connection goes with it, since its reply still comes."""

    async def use(client: AsyncClient) -> Any:
        for _ in range(40):  # more than the pool has connections
            leaving = asyncio.ensure_future(redis_bulk.ask(client.connection_pool, [("ECHO", "left")], 1))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
        return await redis_bulk.ask(client.connection_pool, [("ECHO", "stayed")], 1)

    assert [b"stayed"] == asking(valkey.url, use)


LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@LOOPS
def test_what_was_asked_ahead_waits_at_the_server(
    make_server: MakeServer, run: Callable[[Awaitable[None]], None]
) -> None:
    """Made there and not here; it is whole once it is taken, and the connection serves on."""

    async def use() -> None:
        client = connect_async(Settings(redis_url=server.url, redis_timeout_s=30.0))
        pool: Any = client.connection_pool
        asked = await redis_bulk.ask_ahead(pool, COMMANDS)
        async with asyncio.timeout(20):
            while not (await client.info("commandstats")).get("cmdstat_hgetall"):  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.01)
        assert asked.is_held
        regular, value = await redis_bulk.ask(pool, COMMANDS, 2, asked)
        assert not asked.is_held
        assert held == dict(zip(*regular.columns(), strict=True))
        assert b"v" * 45 == value
        assert 1 == (await client.info("commandstats"))["cmdstat_hgetall"]["calls"]
        assert not pool._in_use_connections
        assert asked._given_up.cancelled(), "else the connection would end while it serves others"
        await client.aclose()

    with make_server() as server:
        held = fill(server)
        run(use())


@LOOPS
@pytest.mark.parametrize("end", ["time", "server"])
def test_what_was_asked_ahead_is_asked_again_where_its_connection_has_ended(
    make_server: MakeServer, run: Callable[[Awaitable[None]], None], end: str
) -> None:
    """As it does where nobody takes the replies in a connection's time, so that the server need not hold them."""

    async def use() -> None:
        client = connect_async(Settings(redis_url=server.url, redis_timeout_s=0.5 if end == "time" else 30.0))
        pool: Any = client.connection_pool
        asked = await redis_bulk.ask_ahead(pool, COMMANDS)
        async with asyncio.timeout(20):
            while end == "server" and not await client.client_kill_filter(_type="normal", skipme=True):  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.01)
            while end == "time" and asked.is_held:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.01)
        regular, value = await redis_bulk.ask(pool, COMMANDS, 2, asked)
        assert held == dict(zip(*regular.columns(), strict=True))
        assert b"v" * 45 == value
        assert not pool._in_use_connections
        await client.aclose()

    with make_server() as server:
        held = fill(server)
        run(use())


def test_something_else_than_what_was_asked_ahead_is_asked_for_itself(valkey: EmbeddedValkey) -> None:
    """And what was asked ahead can be left then, more than once."""

    async def use(client: AsyncClient) -> Any:
        pool: Any = client.connection_pool
        asked = await redis_bulk.ask_ahead(pool, [("ECHO", "ahead")])
        replies = [await redis_bulk.ask(pool, [("ECHO", "other")], 1, asked)]
        for _ in range(2):
            await asked.leave()
        assert not asked.is_held
        assert not pool._in_use_connections
        return [*replies, await redis_bulk.ask(pool, [("ECHO", "next")], 1)]

    assert [[b"other"], [b"next"]] == asking(valkey.url, use)
