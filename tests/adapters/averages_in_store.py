"""Averages in a store of four shards, and what reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.adapters.redis_report import ReportStore
from functions.core.shards import Keys, shard_of
from tests.store_in_a_loop import run_with

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

    from functions.core.settings import Settings

USERS = {f"user{number}".encode(): b"%d" % number for number in range(300)}


def reading(settings: Settings, read: Callable[[ReportStore], Awaitable[Any]]) -> Any:
    """Return what is read."""
    return run_with(ReportStore, settings, read)


def fill(raw_redis: redis.Redis, keys: Keys, users: dict[bytes, bytes], merchant: str | None = None) -> None:
    """Put averages into a generation of the state."""
    for shard in range(4):
        part = {name: value for name, value in users.items() if shard_of(name.decode(), 4) == shard}
        if part:
            raw_redis.hset(keys.averages(shard, merchant), mapping=part)  # type: ignore[arg-type]
        raw_redis.hset(keys.ledger(shard), "version", 100 + shard)
        if merchant is not None:
            raw_redis.hset(keys.versions(shard), merchant, 200 + shard)


def fill_two_generations(settings: Settings, raw_redis: redis.Redis) -> Keys:
    """Put averages into the live generation, whose keys are returned, and others, all "new", into the next one."""
    fill(raw_redis, Keys(settings.namespace), USERS)
    fill(raw_redis, Keys(settings.namespace, 1), dict.fromkeys(USERS, b"new"))
    return Keys(settings.namespace)
