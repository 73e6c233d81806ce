"""History as the tasks of a backfill get it, without Spark."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pyarrow as pa

from functions.core.events import FLYER_CLOSE, FLYER_EVENTS
from functions.core.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.events import Event


def history_of(events: Sequence[Event], shards: int) -> pa.Table:
    """Return flyer events as the tasks of a backfill get them: by shard and place."""
    rows = [
        {
            "shard": shard_of(event.user_id, shards),
            "place": zlib.crc32(event.user_id.encode()),
            "user_id": event.user_id,
            "flyer_id": event.flyer_id,
            "merchant_id": event.merchant_id or "",
            "first_us": event.timestamp_us,
            "last_us": event.timestamp_us,
            "events": 1,
            "is_close": event.event == FLYER_CLOSE,
        }
        for event in events
        if event.event in FLYER_EVENTS and event.flyer_id is not None
    ]
    types = {name: pa.int64() for name in ("shard", "place", "first_us", "last_us", "events")}
    types |= {name: pa.string() for name in ("user_id", "flyer_id", "merchant_id")} | {"is_close": pa.bool_()}
    return pa.Table.from_pylist(
        sorted(rows, key=lambda row: (row["shard"], row["place"])), pa.schema(list(types.items()))
    )
