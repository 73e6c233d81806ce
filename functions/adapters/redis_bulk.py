"""A large reply, taken off a connection of the client's pool as it comes: into one piece of memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import hiredis
import redis.asyncio

from functions.adapters.redis_regular import ArrivingReplies

if TYPE_CHECKING:
    from collections.abc import Sequence


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


async def ask(
    pool: redis.asyncio.ConnectionPool, commands: Sequence[tuple[str | int, ...]], elements: int
) -> list[Any]:
    """Return the replies to some commands as they come, the first one a `Regular` where it is of one kind.

    Args:
        pool: Of the server's connections.
        commands: The first one's reply is large.
        elements: Of a record of that reply.

    Raises:
        RedisError: The server is not there, does not go on in time, or refuses us.
    """
    replies = ArrivingReplies(elements)
    connection: Any = await pool.get_connection()
    try:
        transport = connection._writer.transport  # noqa: SLF001  # ours for the length of these replies
        taking = _Taking(transport, replies, len(commands), connection.socket_timeout)
        try:
            packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # of one, it says
            transport.write(b"".join(packed))
            await taking.done
        finally:
            taking.end()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
    return replies.replies
