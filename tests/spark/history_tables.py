"""History as the tasks of a backfill get it from Spark."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pyarrow as pa

from functions.core.events import FLYER_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.core.events import Event


def table_of(events: Iterable[Event], shards: int) -> pa.Table:
    """Return the flyer events as the tasks get them: by shard and place."""
    rows = [
        {
            "shard": zlib.crc32(user.encode()) % shards,
            "place": zlib.crc32(user.encode()),
            "user_id": user,
            "flyer_id": flyer,
            "merchant_id": merchant or "",
            "first_us": moment_us,
            "last_us": moment_us,
            "events": 1,
            "is_close": name == "flyer_close",
        }
        for moment_us, user, name, flyer, merchant in events
        if name in FLYER_EVENTS and flyer is not None
    ]
    texts = [(name, pa.string()) for name in ("user_id", "flyer_id", "merchant_id")]
    numbers = [(name, pa.int64()) for name in ("first_us", "last_us", "events")]
    schema = pa.schema([("shard", pa.int64()), ("place", pa.int64()), *texts, *numbers, ("is_close", pa.bool_())])
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["shard"], row["place"])), schema)
