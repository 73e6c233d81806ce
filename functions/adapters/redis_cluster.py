"""An asyncio client for one server or for a Redis Cluster, whichever is there: the first redirection tells.

Not redis-py's RedisCluster: that sends a command again by itself, also one that may have been done; does not look for
the new master when a pipeline met a dead one; closes the connections of all nodes when one says CLUSTERDOWN; and
shows no caller the connection on which WAITAOF must follow a write. What is left to do is little: the map of slots, a
plain client a node, one trip a node, and one more for what was redirected, which is known not to have been done.
functions/adapters/redis_cluster_blocking.py does the same for the job.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.client import Pipeline as PlainPipeline

from functions.adapters.redis_slots import Address, common_slot, slot_map_of, slot_of
from functions.adapters.redis_topology import ATTEMPTS, REDIRECTED, Topology, no_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Command: TypeAlias = "tuple[tuple[Any, ...], Mapping[str, Any]]"
"""Its words, and the client's options."""

ASKED_AT_ONCE: Final = 3
"""Nodes that are asked for the map together: one that hangs holds nobody up."""


class AsyncClient(redis.asyncio.Redis):
    """An asyncio client, used as redis-py's own; commands on keys of a shard go to the shard's node."""

    def __init__(
        self,
        pools: Sequence[redis.asyncio.ConnectionPool],
        pool_of: Callable[[Address], redis.asyncio.ConnectionPool],
    ) -> None:
        """Prepare; nothing connects before the first command.

        Args:
            pools: Of the addresses that the operator gave: one, or several nodes of a cluster.
            pool_of: Makes the pool of a further node.
        """
        super().__init__(connection_pool=pools[0])
        self.auto_close_connection_pool = True
        self._pool_of = pool_of
        self.topology = Topology([address_of(pool) for pool in pools], several=len(pools) > 1)
        self._clients: dict[Address, redis.asyncio.Redis] = {}
        for pool in pools:
            self._add(pool)
        self._asking = asyncio.Lock()
        self._late: set[asyncio.Future[Any]] = set()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # as redis-py has it
        """Close all connections to all nodes."""
        for late in self._late:
            late.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()
        await super().aclose(close_connection_pool)

    @property
    def is_cluster(self) -> bool:
        """Whether the store is taken for a cluster, where one command reaches the keys of one shard alone."""
        return self.topology.on

    def take_for_cluster(self) -> None:
        """Take it for one from now on: it has said so."""
        self.topology.switch_on()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> AsyncPipeline:  # noqa: ARG002  # as redis-py has it
        """Return a pipeline; a transaction is for keys of one shard, any other may go to many."""
        return AsyncPipeline(self, transaction=transaction)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to where its key is."""
        topology = self.topology
        if not topology.on:
            try:
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # without types
            except exceptions.MovedError:
                topology.switch_on()
        (reply,) = await self.trips([(args, options)], closing=None)
        if isinstance(reply[0], Exception):
            raise reply[0]
        return reply[0]

    async def on_each_node(self, *args: Any) -> list[Any]:
        """Send a command without a key to every node that writes; an exception stands in its reply's place."""
        if self.topology.on:
            await self._ask()
        if not self.topology.on or self.topology.slots is None:
            try:
                return [await super().execute_command(*args)]  # type: ignore[no-untyped-call]  # without types
            except (redis.RedisError, OSError) as e:
                return [e]
        masters = self.topology.slots.masters
        return await asyncio.gather(
            *(self._at(address).execute_command(*args) for address in masters), return_exceptions=True
        )

    async def trips(self, commands: Sequence[Command], closing: tuple[Any, ...] | None) -> list[tuple[Any, Any]]:
        """Send commands, those of a node in one trip; return each one's reply and its node's to the closing command.

        An exception stands in its reply's place. What was redirected was not done, and is sent again.
        """
        results: list[tuple[Any, Any]] = [(None, None)] * len(commands)
        left = list(range(len(commands)))
        for attempt in range(ATTEMPTS):
            if attempt and any(isinstance(results[place][0], exceptions.TryAgainError) for place in left):
                await asyncio.sleep(0.05)
            by_node: dict[tuple[Address, bool], list[int]] = {}
            try:
                await self._ask()
            except (redis.RedisError, OSError) as e:
                for place in left:
                    results[place] = (e, None)
                return results
            for place in left:
                try:
                    node = self.topology.goal_of(slot_of(commands[place][0]), results[place][0])
                    by_node.setdefault(node, []).append(place)
                except redis.RedisError as e:
                    results[place] = (e, None)
            trips = (
                self._trip(address, [commands[place] for place in places], closing, asking=asking)
                for (address, asking), places in by_node.items()
            )
            for places, replies in zip(by_node.values(), await asyncio.gather(*trips), strict=True):
                for place, reply in zip(places, replies, strict=True):
                    results[place] = reply
            left = [place for place in left if isinstance(results[place][0], REDIRECTED)]
            if not left:
                break
        return results

    async def transaction_trip(self, commands: Sequence[Command]) -> list[Any]:
        """Send a transaction to the node of its one slot; an exception stands in its reply's place."""
        slot = common_slot(args for args, _ in commands)
        for attempt in range(ATTEMPTS):
            await self._ask()
            address = self.topology.node_of(slot)
            pipe = self._at(address).pipeline(transaction=True)
            pipe.command_stack = list(commands)
            try:
                return list(await pipe.execute(raise_on_error=False))
            except (redis.RedisError, OSError) as e:
                self.topology.note(e, address)
                if not isinstance(e, exceptions.MovedError) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError  # pragma: no cover  # the last attempt returns or raises

    async def _trip(
        self,
        address: Address,
        commands: Sequence[Command],
        closing: tuple[Any, ...] | None,
        *,
        asking: bool,
    ) -> list[tuple[Any, Any]]:
        client = self._at(address)
        pipe = PackedPipeline(client.connection_pool, self.response_callbacks, False, None)  # as theirs
        for command in commands:
            if asking:
                pipe.execute_command("ASKING")
            pipe.command_stack.append(command)
        if closing is not None:
            pipe.execute_command(*closing)
        try:
            self.topology.enter(address, client.connection_pool.connection_kwargs["socket_timeout"])
            replies = list(await pipe.execute(raise_on_error=False))
        except (redis.RedisError, OSError) as e:
            self.topology.note(e, address)
            return [(e, None)] * len(commands)
        closed = replies.pop() if closing is not None else None
        if asking:
            replies = replies[1::2]
        for reply in replies:
            self.topology.note(reply, address)
        return [(reply, closed) for reply in replies]

    def _at(self, address: Address) -> redis.asyncio.Redis:
        client = self._clients.get(address)
        return self._add(self._pool_of(address)) if client is None else client

    def _add(self, pool: redis.asyncio.ConnectionPool) -> redis.asyncio.Redis:
        client = self._clients[address_of(pool)] = redis.asyncio.Redis.from_pool(pool)
        client.response_callbacks = self.response_callbacks
        return client

    async def _ask(self) -> None:
        """Ask for the map of slots where it is not known, or may have changed."""
        topology = self.topology
        if not topology.must_ask():
            return
        async with self._asking:
            if not topology.must_ask():
                return
            candidates = topology.candidates()
            errors: list[BaseException] = []
            for start in range(0, len(candidates), ASKED_AT_ONCE):
                asked = {
                    asyncio.ensure_future(self._at(address).execute_command("CLUSTER", "SLOTS")): address
                    for address in candidates[start : start + ASKED_AT_ONCE]
                }
                self._late |= asked.keys()
                pending = set(asked)
                while pending:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    self._late -= done
                    for task in done:
                        error = task.exception()
                        if error is None and task.result():
                            topology.learn(slot_map_of(task.result(), asked[task]))
                            for late in pending:  # they end by their own timeout
                                late.add_done_callback(self._let_go)
                            return
                        if error is not None:
                            if not isinstance(error, redis.RedisError | OSError):
                                raise error
                            errors.append(error)
            raise no_node(errors)

    def _let_go(self, late: asyncio.Future[Any]) -> None:
        self._late.discard(late)
        if not late.cancelled():
            late.exception()  # nobody waits for it any more


class PackedPipeline(PlainPipeline):
    """Commands that go together to one server, packed by hiredis: a fifth of what the client's own packing costs."""

    async def _execute_pipeline(self, connection: Any, commands: Sequence[Command], raise_on_error: bool) -> list[Any]:
        packed = [
            hiredis.pack_command((*args[0].split(), *args[1:])) for args, _ in commands
        ]  # CLIENT LIST is two words
        await _send(connection, b"".join(packed))
        replies: list[Any] = []
        for args, options in commands:
            try:
                replies.append(await self.parse_response(connection, args[0], **options))
            except exceptions.ResponseError as e:  # each stands in its own reply's place
                replies.append(e)
        if raise_on_error:
            self.raise_first_error(list(commands), replies)
        return replies


class AsyncPipeline(PackedPipeline):
    """Commands that go together: one trip to each node that they concern."""

    def __init__(self, client: AsyncClient, *, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # as redis-py has it
        """Send all; return the replies in order.

        Args:
            raise_on_error: Raise the first error; else it stands in its reply's place, also where a node is away.
        """
        if self.is_transaction:
            replies = await self._execute_transaction_of_one_shard()
        else:
            replies = [reply for reply, _ in await self.execute_closed(None)]
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, redis.RedisError | OSError):
                    raise reply
        return replies

    async def execute_closed(self, closing: tuple[Any, ...] | None) -> list[tuple[Any, Any]]:
        """Send all, and behind the commands of each node one that closes them, on the same connection.

        Returns:
            For each command its reply, and its node's reply to the closing one; exceptions stand in their places.
        """
        client, commands = self._client, list(self.command_stack)
        if client.topology.on:
            await self.reset()  # type: ignore[no-untyped-call]  # without types
            return await client.trips(commands, closing)
        if closing is not None:
            self.execute_command(*closing)
        replies = list(await super().execute(raise_on_error=False))
        closed = replies.pop() if closing is not None else None
        results = [(reply, closed) for reply in replies]
        moved = [place for place, reply in enumerate(replies) if isinstance(reply, exceptions.MovedError)]
        if moved:
            client.topology.switch_on()
            again = await client.trips([commands[place] for place in moved], closing)
            for place, result in zip(moved, again, strict=True):
                results[place] = result
        return results

    async def _execute_transaction_of_one_shard(self) -> list[Any]:
        client, commands = self._client, list(self.command_stack)
        if not client.topology.on:
            try:
                return list(await super().execute(raise_on_error=False))
            except exceptions.MovedError:  # nothing of it was done
                client.topology.switch_on()
        await self.reset()  # type: ignore[no-untyped-call]  # without types
        return await client.transaction_trip(commands) if commands else []


async def _send(connection: Any, packed: bytes) -> None:
    """Send packed commands as the client does, only at once.

    With a timeout the client sends from a task of its own (Python 3.11's ``wait_for``), which comes after all that the
    loop has to do already: in ingest, after decoding whole batches, while the store has nothing to do.
    """
    if not connection.is_connected:
        await connection.connect_check_health(check_health=False)
    await connection.check_health()
    try:
        async with asyncio.timeout(connection.socket_timeout):
            await connection._send_packed_command([packed])  # noqa: SLF001  # what the task would run
    except TimeoutError:
        await connection.disconnect(nowait=True)
        raise exceptions.TimeoutError("the store takes nothing more") from None
    except BaseException as e:
        await connection.disconnect(nowait=True)  # part of a command may be out
        if isinstance(e, OSError):
            raise exceptions.ConnectionError("the connection broke while it was written to") from e
        raise


def address_of(pool: redis.ConnectionPool | redis.asyncio.ConnectionPool) -> Address:
    """Return where the connections of a pool lead."""
    return Address(str(pool.connection_kwargs.get("host", "localhost")), int(pool.connection_kwargs.get("port", 6379)))
