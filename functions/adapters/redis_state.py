"""How the shards stand, in one trip; and what is asked of their live generation."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import redis
from redis.exceptions import ClusterCrossSlotError, MovedError, NoScriptError

from functions.adapters import metrics, redis_bulk
from functions.adapters.redis_client import load_script, translated_errors
from functions.adapters.redis_layout import ledger_from
from functions.adapters.redis_store import RedisStore
from functions.adapters.redis_wire import Wire
from functions.core import shards as sharding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from functions.adapters.redis_bulk import Command
    from functions.adapters.redis_cluster import AsyncClient
    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings

_STATE: Final = load_script("state")

CommandsOf: TypeAlias = "Callable[[sharding.Keys, int], list[Command]]"

RECENT_S: Final = 1.0
"""For so long the books stay good enough for an answer whose body does not hang on them."""
_MOST_RECENT: Final = 64


@dataclass(frozen=True, slots=True)
class ShardState:
    """How one shard stands."""

    ledger: ShardLedger
    users: int
    """In the averages asked for, those without a session included."""
    version: int
    """When the averages asked for last showed something else; microseconds, 0: never."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """How all shards stand, each at one moment."""

    shards: tuple[ShardState, ...]
    last_run: Mapping[str, str] | None
    pipeline: str
    """The pipeline's random name."""
    generation: int
    """Of the state."""
    merchants: tuple[Mapping[str, int], ...] = ()
    """Where they were asked for: of each shard, its merchants and when their averages last changed."""

    @property
    def ledgers(self) -> list[ShardLedger]:
        """The books."""
        return [shard.ledger for shard in self.shards]

    @property
    def users(self) -> int:
        """Users of all shards, those without a session included."""
        return sum(shard.users for shard in self.shards)


@dataclass(slots=True)
class _Recent:
    """How the shards stood a moment ago."""

    asked_s: float
    read: object
    """What the store said."""
    state: StoreState


class StateStore(RedisStore):
    """What asks the store how its shards stand, and, of the generation that is live, for more."""

    def __init__(self, settings: Settings, client: AsyncClient | None = None) -> None:
        super().__init__(settings, client)
        self._redis.set_response_callback("HGETALL", _hash_of)
        self._wire = Wire(self._redis.connection_pool)
        self._recent: dict[str | None, _Recent] = {}

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()
        await super().close()

    def _recently(self, merchant: str | None) -> StoreState | None:
        """Return how the shards stood `RECENT_S` ago or later; None where that is not known."""
        known = self._recent.get(merchant)
        return None if known is None or time.monotonic() - known.asked_s > RECENT_S else known.state

    @metrics.timed_trip("report_state")
    async def state(self, merchant: str | None = None, *, merchants: bool = False) -> StoreState:
        """Return how the shards stand, in one trip: the same object as before where nothing has changed.

        Args:
            merchant: Whose averages are asked for; None: those of all merchants together.
            merchants: Whether the list of merchants is wanted too.
        """
        return (await self._state_and(merchant, merchants=merchants))[0]

    async def _state_and(
        self,
        merchant: str | None,
        commands_of: CommandsOf = lambda *_: [],
        *,
        merchants: bool = False,
    ) -> tuple[StoreState, list[Any]]:
        """Return how the shards stand, and the replies to what is asked after that in the same trip."""
        asked_s = time.monotonic()
        shards = await self.shards()
        while True:
            keys = self.keys
            versions: list[Command] = [("HGETALL", keys.versions(shard)) for shard in range(shards * merchants)]
            further = commands_of(keys, shards)
            with translated_errors():
                try:
                    held, replies = await self._state_trip(keys, shards, merchant, [*versions, *further])
                except NoScriptError:  # the store was restarted, or is new
                    await self._redis.on_each_node("SCRIPT LOAD", _STATE.text)
                    continue
                last_run, *rest, live = replies
                if self._redis.topology.on:  # the nodes of a cluster answer in no order
                    live = await self._redis.hget(keys.layout, "generation")
            if (generation := int(live or 0)) == keys.generation:
                break
            self.keys = sharding.Keys(self._settings.namespace, generation)
            shards = await self.shards_now()
        told, rest = rest[: len(versions)], rest[len(versions) :]
        read = (held, last_run, told, generation, await self.pipeline())
        known = self._recent.get(merchant)
        if known is not None and known.read == read:
            known.asked_s = asked_s
            return known.state, rest
        state = StoreState(
            shards=tuple(_shard_state(shard, reply, merchant) for shard, reply in enumerate(held)),
            last_run=_texts(last_run[0][1]) if last_run else None,
            pipeline=await self.pipeline(),
            generation=generation,
            merchants=tuple({name: int(version) for name, version in _texts(some).items()} for some in told),
        )
        if len(self._recent) >= _MOST_RECENT:
            self._recent.clear()
        self._recent[merchant] = _Recent(asked_s, read, state)
        return state, rest

    async def _state_trip(
        self, keys: sharding.Keys, shards: int, merchant: str | None, further: Sequence[Command]
    ) -> tuple[list[Any], list[Any]]:
        """Return how each shard stands, and further replies: of the last run, what else is asked, what is live."""
        names = _names(keys, shards, merchant)
        beside: list[Command] = [("XREVRANGE", keys.runs, "+", "-", "COUNT", 1), *further]
        beside.append(("HGET", keys.layout, "generation"))  # last: it is deleted only after another one is live
        ask = self._ask if len(further) <= 1 else self._ask_for_much
        if not self._redis.is_cluster:
            with suppress(ClusterCrossSlotError):
                together: Command = ("EVALSHA", _STATE.sha, 4 * shards, *chain.from_iterable(names), merchant or "")
                held, *replies = await ask([together, *beside])
                return held, replies
            self._redis.take_for_cluster()
        each: list[Command] = [("EVALSHA", _STATE.sha, 4, *four, merchant or "") for four in names]
        replies = await ask([*each, *beside])
        return [reply for (reply,) in replies[:shards]], replies[shards:]

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to commands, which together are not large, in one trip to each node."""
        if not self._redis.is_cluster:
            replies = await self._wire.ask(commands)
            for reply in replies:
                if isinstance(reply, MovedError):
                    break
                if isinstance(reply, redis.RedisError):
                    raise reply
            else:
                return replies
            self._redis.take_for_cluster()
        return await self._ask_for_much(commands)

    async def _with_generation(self, commands_of: CommandsOf, keys: sharding.Keys) -> list[Command]:
        """Return commands, made from keys and number of shards, and last the generation.

        It is deleted only after another one is live.
        """
        return [*commands_of(keys, await self.shards()), ("HGET", keys.layout, "generation")]

    async def _of_live(
        self, commands_of: CommandsOf, ask: Callable[[Sequence[Command]], Awaitable[list[Any]]]
    ) -> list[Any]:
        """Return the replies to commands of the live generation of the state."""
        while True:
            keys = self.keys
            with translated_errors():
                *replies, generation = await ask(await self._with_generation(commands_of, keys))
                if self._redis.topology.on:  # the nodes of a cluster answer in no order
                    generation = await self._redis.hget(keys.layout, "generation")
            if int(generation or 0) == keys.generation:
                return replies
            self.keys = sharding.Keys(self._settings.namespace, int(generation or 0))
            await self.shards_now()

    async def _ask_for_pairs(self, commands: Sequence[Command], ahead: redis_bulk.Asked | None) -> list[Any]:
        return await self._ask_for_records(commands, 2, ahead)

    async def _ask_for_column(self, commands: Sequence[Command]) -> list[Any]:
        return await self._ask_for_records(commands, 1)

    async def _ask_for_records(
        self, commands: Sequence[Command], elements: int, ahead: redis_bulk.Asked | None = None
    ) -> list[Any]:
        """Return the replies to commands, the first one a `Regular` where its records of so many elements are alike."""
        if self._redis.is_cluster:
            return await self._ask_for_much(commands)
        replies = await redis_bulk.ask(self._redis.connection_pool, commands, elements, ahead)
        for reply in replies:
            if isinstance(reply, MovedError):
                self._redis.take_for_cluster()
                return await self._ask_for_much(commands)
            if isinstance(reply, redis.RedisError):
                raise reply
        return replies

    async def _ask_for_much(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to commands as `_ask` does, on a connection that nobody else waits for."""
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **_AS_IT_CAME)
        return list(await pipe.execute())


def _hash_of(response: Any, **options: Any) -> Any:
    return response if options.get("as_it_came") else dict(zip(response[0::2], response[1::2], strict=True))


_AS_IT_CAME: Final = {"as_it_came": True}
"""Leave a hash as the list that it comes as: a dictionary of many users takes as long as reading them."""


@lru_cache(_MOST_RECENT)
def _names(keys: sharding.Keys, shards: int, merchant: str | None) -> list[tuple[str, ...]]:
    """Return the keys that the state script looks at, of each shard."""
    return [
        (keys.ledger(shard), keys.events(shard), keys.versions(shard), keys.averages(shard, merchant))
        for shard in range(shards)
    ]


def _texts(fields: Any) -> dict[str, str]:
    """Return the fields of a hash or of an entry of a log, which the client may have made a dictionary of."""
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[0::2], fields[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


def _shard_state(shard: int, reply: Any, merchant: str | None) -> ShardState:
    users, version, *books = reply
    ledger = ledger_from(shard, books)
    return ShardState(ledger, int(users), int(version or 0) if merchant is not None else ledger.version)
