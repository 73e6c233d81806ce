"""Shards folded without Spark, and the state that comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.adapters.redis_shard import ShardStore
from functions.core.spans import Totals, spans_of, totals_of, unpack_totals
from spark.folding import fold_shard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.core.events import Event
    from functions.core.settings import Settings
    from spark.folding import Folded

SHARDS = 2


EVER_US = 10**16


def fold(settings: Settings, round_events: int = 1000, lateness_us: int | None = EVER_US) -> list[Folded]:
    """Fold all shards; nothing is too late unless a test says so."""
    store = ShardStore(settings)
    try:
        ledgers = [store.ledger(shard) for shard in range(SHARDS)]
        done = [
            fold_shard(store, ledger.shard, ledger.newest_id, round_events, lateness_us=lateness_us)
            for ledger in ledgers
            if ledger.newest_id is not None
        ]
        for ledger in (store.ledger(shard) for shard in range(SHARDS)):
            assert ledger.accepted == ledger.folded + ledger.pending
        return done
    finally:
        store.close()


def state_of(settings: Settings) -> dict[str, bytes]:
    """Return every user's packed spans."""
    store = ShardStore(settings)
    state: dict[str, bytes] = {}
    for shard in range(SHARDS):
        held: Any = store._redis.hgetall(store.keys.spans(shard))
        state.update({user.decode(): value for user, value in held.items()})
    store.close()
    return state


def user_totals(events: Iterable[Event]) -> dict[str, Totals]:
    """Return every user's totals, in plain Python."""
    return {user: totals_of(spans) for user, spans in spans_of(events, EVER_US).items()}


def stored_totals(settings: Settings, merchant: str | None = None) -> dict[str, Totals]:
    """Return every user's totals, overall or on one merchant's flyers, from the store."""
    store = ShardStore(settings)
    found: dict[str, Totals] = {}
    for shard in range(SHARDS):
        held: Any = store._redis.hgetall(store.keys.averages(shard, merchant))
        found.update({user.decode(): unpack_totals(value) for user, value in held.items()})
    store.close()
    return found
