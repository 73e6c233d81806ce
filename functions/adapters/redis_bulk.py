"""A large reply, taken off a connection of the client's pool as it comes: into one piece of memory.

It may be asked for ahead: the store makes it then, and holds it, while what came before is worked on here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import hiredis
import redis.asyncio

from functions.adapters.redis_regular import ArrivingReplies

if TYPE_CHECKING:
    from collections.abc import Sequence

    Command: TypeAlias = tuple[str | int, ...]


class _Taking(asyncio.BufferedProtocol):
    """Takes the replies that come on a connection; silence ends it after a time."""

    def __init__(self, transport: asyncio.Transport, replies: ArrivingReplies, wanted: int, timeout_s: float) -> None:
        self._transport = transport
        self._streams = transport.get_protocol()
        self._replies = replies
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._timer = self._loop.call_at(self._heard_s + timeout_s, self._look)
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._hand_to(self)
        if transport.is_closing():
            self._fail(redis.ConnectionError("the connection was given up"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes belong."""
        del sizehint
        return self._replies.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes."""
        self._heard_s = self._loop.time()
        try:
            self._replies.received(nbytes)
        except redis.RedisError:
            self._fail(redis.ConnectionError("the server does not keep to its protocol"))
        else:
            if len(self._replies.replies) >= self._wanted and not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits, and the streams."""
        self._fail(redis.ConnectionError("the server closed the connection"))
        self._streams.connection_lost(exc)

    def end(self) -> None:
        """Give the connection back to the streams, and let go of the replies.

        uvloop's transport holds on to who last gave it memory to read into, for as long as the connection lives.
        """
        self._timer.cancel()
        if not self._transport.is_closing():
            self._hand_to(self._streams)
        del self._replies

    def _hand_to(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.pause_reading()  # a loop chooses its way of reading when that begins
        self._transport.set_protocol(protocol)
        self._transport.resume_reading()

    def _look(self) -> None:
        late_s = self._heard_s + self._timeout_s
        if self._loop.time() < late_s:
            self._timer = self._loop.call_at(late_s, self._look)
        else:
            self._fail(redis.TimeoutError("the server does not answer"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Asked:
    """Commands that were sent; the server holds the replies until they are taken, for a connection's time at most."""

    def __init__(self, pool: redis.asyncio.ConnectionPool, connection: Any, commands: Sequence[Command]) -> None:
        """Send commands over a connection of a pool, which goes back there by `take` or `leave`."""
        self.commands = commands
        self._pool = pool
        self._connection = connection
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001  # ours for these replies
        self._transport.pause_reading()
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # of one, it says
        self._transport.write(b"".join(packed))
        self._is_over = False
        loop = asyncio.get_running_loop()
        self._given_up = loop.call_later(connection.socket_timeout, self._transport.abort)

    @property
    def is_held(self) -> bool:
        """Whether the server still has to do with it."""
        return not (self._is_over or self._transport.is_closing())

    async def take(self, elements: int) -> list[Any]:
        """Return the replies, which can be done once, as `ask` does.

        Raises:
            RedisError: The server is not there any more, or does not go on in time.
        """
        replies = ArrivingReplies(elements)
        taking = _Taking(self._transport, replies, len(self.commands), self._connection.socket_timeout)
        try:
            await taking.done
        except BaseException:
            taking.end()
            await self.leave()
            raise
        taking.end()
        await self._release()
        return replies.replies

    async def leave(self) -> None:
        """Let the replies fall where they were not taken, and with them the connection, on which they still come."""
        if not self._is_over:
            try:
                await self._connection.disconnect(nowait=True)
            finally:
                await self._release()

    async def _release(self) -> None:
        self._is_over = True
        self._given_up.cancel()
        await self._pool.release(self._connection)


async def ask_ahead(pool: redis.asyncio.ConnectionPool, commands: Sequence[Command]) -> Asked:
    """Send some commands, the first of which has a large reply, for `ask`.

    Raises:
        RedisError: The server is not there, or refuses us.
    """
    connection: Any = await pool.get_connection()
    try:
        return Asked(pool, connection, commands)
    except BaseException:
        await pool.release(connection)
        raise


async def ask(
    pool: redis.asyncio.ConnectionPool, commands: Sequence[Command], elements: int, ahead: Asked | None = None
) -> list[Any]:
    """Return the replies to some commands as they come, the first one a `Regular` where it is of one kind.

    Args:
        pool: Of the server's connections.
        commands: The first one's reply is large.
        elements: Of a record of that reply.
        ahead: What may have sent them already; asked again are they where its connection has ended.

    Raises:
        RedisError: The server is not there, does not go on in time, or refuses us.
    """
    if ahead is not None and ahead.commands == commands:
        with suppress(redis.ConnectionError):
            return await ahead.take(elements)
    return await (await ask_ahead(pool, commands)).take(elements)
