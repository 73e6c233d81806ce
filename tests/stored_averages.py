"""What the store holds of every user, read as the report reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functions.adapters.redis_report import ReportStore


async def averages_in(store: ReportStore) -> list[dict[bytes, bytes]]:
    """Return each shard's packed totals by user id."""
    shards = []
    for shard, held in enumerate((await store.state()).shards):
        averages: dict[bytes, bytes] = {}
        async for ids, values in store.pieces(shard, None, held.users):
            averages |= zip(ids, values, strict=True)
        shards.append(averages)
    return shards
