"""Small questions on one connection: each asker gets its own replies, and is told what goes wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from contextlib import asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import redis

from functions.adapters.redis_client import connect_async
from functions.adapters.redis_regular import Regular
from functions.adapters.redis_wire import Wire, leave
from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer


@asynccontextmanager
async def wired(url: str, timeout_s: float = 5.0, password: str | None = None) -> AsyncIterator[Wire]:
    """Open a wire to a server."""
    settings = dataclasses.replace(Settings(), redis_url=url, redis_timeout_s=timeout_s, redis_password=password)
    client = connect_async(settings)
    wire = Wire(client.connection_pool)
    try:
        yield wire
    finally:
        await wire.close()
        await client.aclose()


def connections(server: EmbeddedValkey) -> int:
    """Return how many connections the server has taken since it started."""
    with redis.Redis.from_url(server.url) as client:
        stats: Any = client.info("stats")
    return int(stats["total_connections_received"])


def test_each_of_many_askers_gets_its_own_replies_over_one_connection(valkey: EmbeddedValkey) -> None:
    """Also the first ones, who come while it is made."""
    before = connections(valkey)

    async def ask() -> list[list[object]]:
        async with wired(valkey.url) as wire:
            questions = ([("ECHO", f"a{number}"), ("ECHO", "x" * number)] for number in range(0, 3000, 10))
            return [*await asyncio.gather(*map(wire.ask, questions))]

    answers = asyncio.run(ask())

    assert [[b"a%d" % number, b"x" * number] for number in range(0, 3000, 10)] == answers
    assert 2 == connections(valkey) - before  # the wire's, and the one that looks


def test_hashes_come_as_columns_and_whoever_asks_meanwhile_gets_its_own_replies(valkey: EmbeddedValkey) -> None:
    """Also where all come in one piece, and where who asked for the hashes leaves after the first."""
    held = {number: {b"%032d" % user: b"%05d" % number for user in range(2000)} for number in range(3)}
    hashes = [("HGETALL", f"h{number}") for number in held]

    async def every(wire: Wire) -> list[Any]:
        return [reply for (reply,) in await asyncio.gather(*await wire.ask_each(hashes, 2))]

    async def ask() -> tuple[list[Any], list[Any], list[Any]]:
        async with wired(valkey.url) as wire:
            fields = [("HSET", f"h{number}", *chain.from_iterable(each.items())) for number, each in held.items()]
            await wire.ask(fields)  # type: ignore[arg-type]  # bytes go as well
            echo = wire.ask([("ECHO", "a"), ("HLEN", "h0")])
            columns, echoed, objects = await asyncio.gather(every(wire), echo, every(wire))
            asked = await wire.ask_each(hashes, 2)
            columns += await asked[0]
            leave(asked)
            echoed += await wire.ask([("ECHO", "b")])
            return [*columns, *await every(wire)], objects, echoed

    columns, objects, echoed = asyncio.run(ask())

    assert [b"a", 2000, b"b"] == echoed
    for reply, each in zip(columns, [*held.values(), held[0], *held.values()], strict=True):
        assert isinstance(reply, Regular)
        assert each == dict(zip(*reply.columns(), strict=True))
    assert [*held.values()] == [dict(zip(reply[0::2], reply[1::2], strict=True)) for reply in objects]


def test_an_error_stands_in_its_replys_place(valkey: EmbeddedValkey) -> None:
    """With the client's own class for it."""

    async def ask() -> list[object]:
        async with wired(valkey.url) as wire:
            return await wire.ask([("ECHO", "a"), ("EVALSHA", "0" * 40, 0), ("ECHO", "b")])

    first, error, last = asyncio.run(ask())

    assert (b"a", b"b") == (first, last)
    assert isinstance(error, redis.exceptions.NoScriptError)


def test_an_asker_who_leaves_takes_nobodys_reply(valkey: EmbeddedValkey) -> None:
    """The reply to what was asked comes all the same, and is let fall."""

    async def ask() -> list[object]:
        async with wired(valkey.url) as wire:
            await wire.ask([("PING",)])
            leaving = asyncio.ensure_future(wire.ask([("ECHO", "left")]))
            await asyncio.sleep(0)
            staying = asyncio.ensure_future(wire.ask([("ECHO", "stayed")]))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
            assert leaving.cancelled()
            return await staying

    assert [b"stayed"] == asyncio.run(ask())


def test_a_server_that_hangs_is_given_up_in_time_and_asked_anew_afterwards(make_server: MakeServer) -> None:
    """Everybody who waits is told."""

    async def ask(pid: int, url: str) -> tuple[list[object], list[object]]:
        async with wired(url, timeout_s=0.3) as wire:
            await wire.ask([("PING",)])
            os.kill(pid, signal.SIGSTOP)
            try:
                failed = await asyncio.gather(*(wire.ask([("PING",)]) for _ in range(3)), return_exceptions=True)
            finally:
                os.kill(pid, signal.SIGCONT)
            return [*failed], await wire.ask([("ECHO", "again")])

    with make_server() as server:
        failed, again = asyncio.run(ask(server.pid, server.url))

    assert [redis.TimeoutError] * 3 == [type(error) for error in failed]
    assert [b"again"] == again


def test_a_connection_that_the_server_ends_is_made_anew(make_server: MakeServer) -> None:
    """Who waits then is told; nothing is sent again by itself, since nobody knows whether it was done."""

    async def ask(url: str) -> tuple[list[object], list[object]]:
        async with wired(url) as wire:
            (name,) = await wire.ask([("CLIENT", "ID")])
            waiting = asyncio.ensure_future(wire.ask([("BLPOP", "nothing", 0)]))
            async with wired(url) as other:
                while not (await other.ask([("CLIENT", "KILL", "ID", name)]))[0]:  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(0.01)
            failed = await asyncio.gather(waiting, return_exceptions=True)
            return [*failed], await wire.ask([("ECHO", "again")])

    with make_server() as server:
        failed, again = asyncio.run(ask(server.url))

    assert [redis.ConnectionError] == [type(error) for error in failed]
    assert [b"again"] == again


@pytest.mark.parametrize(("password", "error"), [("right", None), ("wrong", redis.AuthenticationError)])
def test_a_password_is_given_as_the_client_gives_it(
    make_server: MakeServer, password: str, error: type[Exception] | None
) -> None:
    """The client connects, and says what the server says."""

    async def ask(url: str) -> list[object]:
        async with wired(url, password=password) as wire:
            return await wire.ask([("ECHO", "in")])

    with make_server({"requirepass": "right"}) as server:
        if error is None:
            assert [b"in"] == asyncio.run(ask(server.url))
        else:
            with pytest.raises(error):
                asyncio.run(ask(server.url))
