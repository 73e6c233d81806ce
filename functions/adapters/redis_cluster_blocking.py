"""A blocking client for one server or for a Redis Cluster, as functions/adapters/redis_cluster.py is an asyncio one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis
from redis import exceptions
from redis.client import Pipeline as PlainPipeline

from functions.adapters.redis_cluster import Command, address_of
from functions.adapters.redis_slots import Address, common_slot, slot_map_of, slot_of
from functions.adapters.redis_topology import ATTEMPTS, REDIRECTED, Topology, no_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Client(redis.Redis):
    """A blocking client, used as redis-py's own; commands on keys of a shard go to the shard's node."""

    def __init__(
        self, pools: Sequence[redis.ConnectionPool], pool_of: Callable[[Address], redis.ConnectionPool]
    ) -> None:
        """Prepare; nothing connects before the first command.

        Args:
            pools: Of the addresses that the operator gave: one, or several nodes of a cluster.
            pool_of: Makes the pool of a further node.
        """
        self._clients: dict[Address, redis.Redis] = {}  # first, since the end of a half-made client looks at it
        super().__init__(connection_pool=pools[0])
        self.auto_close_connection_pool = True
        self._pool_of = pool_of
        self.topology = Topology([address_of(pool) for pool in pools], several=len(pools) > 1)
        for pool in pools:
            self._add(pool)

    def close(self) -> None:
        """Close all connections to all nodes."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()
        super().close()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: ARG002  # as redis-py has it
        """Return a pipeline; a transaction is for keys of one shard, any other may go to many."""
        return Pipeline(self, transaction=transaction)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to where its key is."""
        if not self.topology.on:
            try:
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # without types
            except exceptions.MovedError:
                self.topology.switch_on()
        (reply,) = self.trips([(args, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def on_each_node(self, *args: Any) -> list[Any]:
        """Send a command without a key to every node that writes; an exception stands in its reply's place."""
        if self.topology.on:
            self._ask()
        if not self.topology.on or self.topology.slots is None:
            try:
                return [super().execute_command(*args)]  # type: ignore[no-untyped-call]  # without types
            except (redis.RedisError, OSError) as e:
                return [e]
        replies: list[Any] = []
        for address in self.topology.slots.masters:
            try:
                replies.append(self._at(address).execute_command(*args))
            except (redis.RedisError, OSError) as e:
                replies.append(e)
        return replies

    def trips(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, those of a node in one trip; return each one's reply, an exception in its place.

        What was redirected was not done, and is sent again.
        """
        results: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for attempt in range(ATTEMPTS):
            if attempt and any(isinstance(results[place], exceptions.TryAgainError) for place in left):
                time.sleep(0.05)
            self._ask()
            by_node: dict[tuple[Address, bool], list[int]] = {}
            for place in left:
                try:
                    node = self.topology.goal_of(slot_of(commands[place][0]), results[place])
                    by_node.setdefault(node, []).append(place)
                except redis.RedisError as e:
                    results[place] = e
            for (address, asking), places in by_node.items():
                replies = self._trip(address, [commands[place] for place in places], asking=asking)
                for place, reply in zip(places, replies, strict=True):
                    results[place] = reply
            left = [place for place in left if isinstance(results[place], REDIRECTED)]
            if not left:
                break
        return results

    def transaction_trip(self, commands: Sequence[Command]) -> list[Any]:
        """Send a transaction to the node of its one slot; an exception stands in its reply's place."""
        slot = common_slot(args for args, _ in commands)
        for attempt in range(ATTEMPTS):
            self._ask()
            address = self.topology.node_of(slot)
            pipe = self._at(address).pipeline(transaction=True)
            pipe.command_stack = list(commands)
            try:
                return list(pipe.execute(raise_on_error=False))
            except (redis.RedisError, OSError) as e:
                self.topology.note(e, address)
                if not isinstance(e, exceptions.MovedError) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError  # pragma: no cover  # the last attempt returns or raises

    def _trip(self, address: Address, commands: Sequence[Command], *, asking: bool) -> list[Any]:
        pipe = self._at(address).pipeline(transaction=False)
        for command in commands:
            if asking:
                pipe.execute_command("ASKING")
            pipe.command_stack.append(command)
        try:
            replies = list(pipe.execute(raise_on_error=False))
        except (redis.RedisError, OSError) as e:
            self.topology.note(e, address)
            return [e] * len(commands)
        if asking:
            replies = replies[1::2]
        for reply in replies:
            self.topology.note(reply, address)
        return replies

    def _at(self, address: Address) -> redis.Redis:
        client = self._clients.get(address)
        return self._add(self._pool_of(address)) if client is None else client

    def _add(self, pool: redis.ConnectionPool) -> redis.Redis:
        client = self._clients[address_of(pool)] = redis.Redis.from_pool(pool)
        client.response_callbacks = self.response_callbacks
        return client

    def _ask(self) -> None:
        """Ask for the map of slots where it is not known, or may have changed."""
        if not self.topology.must_ask():
            return
        errors: list[BaseException] = []
        for address in self.topology.candidates():
            try:
                reply = self._at(address).execute_command("CLUSTER", "SLOTS")
            except (redis.RedisError, OSError) as e:
                self.topology.note(e, address)
                errors.append(e)
            else:
                if reply:
                    self.topology.learn(slot_map_of(reply, address))
                    return
        raise no_node(errors)


class Pipeline(PlainPipeline):
    """Commands that go together: one trip to each node that they concern."""

    def __init__(self, client: Client, *, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client
        self._of_one_shard = transaction

    def execute(self, raise_on_error: bool = True) -> list[Any]:  # as redis-py has it
        """Send all; return the replies in order.

        Args:
            raise_on_error: Raise the first error; else it stands in its reply's place, also where a node is away.
        """
        client, commands = self._client, list(self.command_stack)
        if client.topology.on:
            self.reset()
            replies = self._trips(commands)
        else:
            try:
                replies = list(super().execute(raise_on_error=False))
            except exceptions.MovedError:  # of a transaction, which was not done then
                client.topology.switch_on()
                replies = self._trips(commands)
            moved = [place for place, reply in enumerate(replies) if isinstance(reply, exceptions.MovedError)]
            if moved:
                client.topology.switch_on()
                for place, reply in zip(moved, client.trips([commands[place] for place in moved]), strict=True):
                    replies[place] = reply
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, redis.RedisError | OSError):
                    raise reply
        return replies

    def _trips(self, commands: list[Command]) -> list[Any]:
        if self._of_one_shard and commands:
            return self._client.transaction_trip(commands)
        return self._client.trips(commands)
