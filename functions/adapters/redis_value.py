"""One user's value: asked for together with how the shards stand, or, where that is known, ahead of all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from functions.adapters import metrics
from functions.adapters.redis_client import translated_errors
from functions.adapters.redis_state import StateStore
from functions.adapters.redis_wire import leave
from functions.core import shards as sharding

if TYPE_CHECKING:
    import asyncio

    from functions.adapters.redis_bulk import Command
    from functions.adapters.redis_state import StoreState


class AskedValue(NamedTuple):
    """A user's value that is under way."""

    replies: asyncio.Future[list[Any]]
    generation: int
    """In which it was asked for."""
    state: StoreState
    """How the shards stood before."""

    def leave(self) -> None:
        """Let it fall."""
        leave([self.replies])


class ValueStore(StateStore):
    """What asks the store for one user's value."""

    @metrics.timed_trip("report_user")
    async def state_and_value(self, user_id: str, merchant: str | None) -> tuple[StoreState, bytes | None]:
        """Return how the shards stand and then a user's value, if there is one, in one trip."""
        state, (value,) = await self._state_and(
            merchant, lambda keys, shards: [_value_command(keys, shards, user_id, merchant)]
        )
        return state, value

    @metrics.timed_trip("report_user")
    async def value_of(self, user_id: str, merchant: str | None, asked: AskedValue | None = None) -> bytes | None:
        """Return a user's value, which may have been asked for already; None: there is none."""
        if asked is not None:
            with translated_errors():
                value, generation = await asked.replies
            if not isinstance(value, Exception) and _is_live(generation, asked.generation):
                return cast("bytes | None", value)
        (value,) = await self._of_live(
            lambda keys, shards: [_value_command(keys, shards, user_id, merchant)], self._ask
        )
        return cast("bytes | None", value)

    def ask_for_value(self, user_id: str, merchant: str | None) -> AskedValue | None:
        """Ask for a user's value at once, for `value_of`, or to be let fall.

        None where that cannot be, or where it is not known how the shards stood a moment ago.
        """
        state = self._recently(merchant)
        if state is None or self._shards is None or self._redis.is_cluster:
            return None
        keys = self.keys
        commands = [_value_command(keys, self._shards, user_id, merchant), ("HGET", keys.layout, "generation")]
        replies = self._wire.ask_soon(commands)
        return None if replies is None else AskedValue(replies, keys.generation, state)


def _is_live(reply: Any, generation: int) -> bool:
    """Tell it of a generation by what the layout says of the live one."""
    return not isinstance(reply, Exception) and int(reply or 0) == generation


def _value_command(keys: sharding.Keys, shards: int, user_id: str, merchant: str | None) -> Command:
    return "HGET", keys.averages(sharding.shard_of(user_id, shards), merchant), user_id
