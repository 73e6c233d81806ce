"""Small questions to one server on one connection, those of a moment under way together.

redis-py connects, with all that an address may ask for (TLS, passwords, a number of a database); from then on the
connection is ours. A question costs a fifth of what it does through the client's pool, streams and a timer for each
reply, which was half of what one user's row cost. Replies come in the order of the commands, so nothing larger goes
this way than some thousand users. As with the client nothing is asked twice: who asks is told what went wrong.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import hiredis
import redis.asyncio

from functions.adapters.redis_regular import NOT_YET, ArrivingReplies, new_reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class _Asked:
    """Commands that went together, and the replies that are there."""

    __slots__ = ("answered", "asked_s", "count", "replies")

    def __init__(self, count: int, asked_s: float, answered: asyncio.Future[list[Any]]) -> None:
        self.count = count
        self.asked_s = asked_s
        self.answered = answered
        self.replies: list[Any] = []


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = new_reader()
        self._arriving: ArrivingReplies | None = None
        """What takes replies before the reader does."""
        self._asked: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001  # see above: it is ours now
        self._streams = self._transport.get_protocol()  # it learns of the end
        self._transport.set_protocol(self)
        self.is_open = not self._transport.is_closing()

    def ask(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        """Send so many commands; return what will have their replies, errors of the server among them."""
        asked = self._awaited(count)
        self._transport.write(packed)
        return asked

    def ask_each(self, packed: bytes, arrays: int, elements: int) -> list[asyncio.Future[list[Any]]]:
        """Send so many commands; return what will have each one's reply, as a `Regular` where that can be.

        Replies behind those of another question come as objects.
        """
        if not self._asked:
            self._arriving = ArrivingReplies(elements, arrays, self._reader)
        asked = [self._awaited(1) for _ in range(arrays)]
        self._transport.write(packed)
        return asked

    def _awaited(self, count: int) -> asyncio.Future[list[Any]]:
        now_s = self._loop.time()
        asked = _Asked(count, now_s, self._loop.create_future())
        self._asked.append(asked)
        if self._timer is None:
            self._timer = self._loop.call_at(now_s + self._timeout_s, self._look)
        return asked.answered

    def data_received(self, data: bytes) -> None:
        """Take replies, or parts of them."""
        try:
            for reply in self._taken(data):
                self._hand_on(reply)
        except (redis.RedisError, IndexError):  # no reply at all, or one that nobody asked for
            self._end(redis.ConnectionError("the server does not keep to its protocol"))

    def _taken(self, data: bytes) -> Iterator[Any]:
        arriving = self._arriving
        if arriving is not None:
            arriving.take(data)
            if arriving.by_objects:
                self._arriving = None
            replies, arriving.replies = arriving.replies, []
            yield from replies
            return
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not NOT_YET:
            yield reply

    def _hand_on(self, reply: Any) -> None:
        first = self._asked[0]
        first.replies.append(reply)
        if len(first.replies) == first.count:
            self._asked.popleft()
            if not first.answered.done():  # whoever asked may have left
                first.answered.set_result(first.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait."""
        self._end(redis.ConnectionError("the server closed the connection"))
        self._streams.connection_lost(exc)

    async def close(self) -> None:
        """Close the connection."""
        self._end(redis.ConnectionError("the connection is closed"))
        await self._connection.disconnect(nowait=True)

    def _look(self) -> None:
        """Give the connection up where the oldest question waits too long."""
        self._timer = None
        if self._asked:
            late_s = self._asked[0].asked_s + self._timeout_s
            if self._loop.time() < late_s:
                self._timer = self._loop.call_at(late_s, self._look)
            else:
                self._end(redis.TimeoutError("the server does not answer"))

    def _end(self, error: Exception) -> None:
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._asked = self._asked, deque()
        for asked in waiting:
            if not asked.answered.done():
                asked.answered.set_exception(error)
        self._transport.abort()


class Wire:
    """Asks one server; it connects at the first question, in the loop that runs then, and again after a break."""

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        """Take a pool, whose way to connect is used."""
        self._pool = pool
        self._line: _Line | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Return the replies to some commands as they come, an error of the server in its reply's place.

        Raises:
            RedisError: The server is not there, does not answer in time, or refuses us.
        """
        line = await self._open_line()
        return await line.ask(_packed(commands), len(commands))

    def ask_soon(self, commands: Sequence[tuple[str | int, ...]]) -> asyncio.Future[list[Any]] | None:
        """Send commands at once, and return what will have the replies as `ask` does; None where not connected.

        `leave` it where it is not waited for.
        """
        line = self._line
        return line.ask(_packed(commands), len(commands)) if line is not None and line.is_open else None

    async def ask_each(
        self, commands: Sequence[tuple[str | int, ...]], elements: int
    ) -> list[asyncio.Future[list[Any]]]:
        """Ask commands, and return what will have each one's reply alone, or a RedisError as with `ask`.

        They may be large together, so nobody should dawdle who takes them; `leave` those that are not waited for.

        Args:
            commands: Whose replies are arrays: each is a `Regular` where its records are alike, those before it were
                and nobody asked at the same time.
            elements: Of a record.

        Raises:
            RedisError: The server is not there, or refuses us.
        """
        if not commands:
            return []
        line = await self._open_line()
        return line.ask_each(_packed(commands), len(commands), elements)

    async def close(self) -> None:
        """Close the connection."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def _open_line(self) -> _Line:
        line = self._line
        return line if line is not None and line.is_open else await self._connected()

    async def _connected(self) -> _Line:
        async with self._connecting:
            if self._line is not None and self._line.is_open:  # another one has connected meanwhile
                return self._line
            await self.close()
            connection: Any = self._pool.make_connection()
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._line = _Line(connection, connection.socket_timeout)
            return self._line


def _packed(commands: Sequence[tuple[str | int, ...]]) -> bytes:
    return b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # of one, says its type


def leave(asked: Iterable[asyncio.Future[list[Any]]]) -> None:
    """Let fall what was asked: no reply is missed, no error is one that nobody has seen."""
    for each in asked:
        if not each.cancel() and not each.cancelled():
            each.exception()
