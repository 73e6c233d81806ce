"""Events, and all that a generation of the state holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.core.events import Event
from functions.core.shards import Keys

if TYPE_CHECKING:
    import redis

    from functions.core.settings import Settings


ROOT = Path(__file__).parents[3]
SHARDS = 2
NAMES = ("flyer_open", "flyer_close", "page_view")
EVENTS = [
    Event(number * 977_000_000, f"u{number % 11}", NAMES[number % 5 % 3], f"f{number % 3}", f"m{number % 4 % 3}")
    for number in range(400)
]


def state_of(client: redis.Redis, settings: Settings, generation: int) -> dict[tuple[int, str], Any]:
    """Return all that a generation holds, but for the moments of changes."""
    keys = Keys(settings.namespace, generation)
    held: dict[tuple[int, str], Any] = {}
    for shard in range(SHARDS):
        held[shard, "spans"] = client.hgetall(keys.spans(shard))
        held[shard, "merchants"] = client.smembers(keys.merchants(shard))
        for merchant in (None, *sorted(held[shard, "merchants"])):
            name = None if merchant is None else merchant.decode()
            held[shard, f"averages {name}"] = client.hgetall(keys.averages(shard, name))
        held[shard, "versions of"] = set(client.hgetall(keys.versions(shard)))
    return held
