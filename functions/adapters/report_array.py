"""The report of all users as the older interface has it, a JSON array in two columns, read while it is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from functions.core.report_columns import DEFAULT_FIELDS, USER_COLUMN
from functions.core.report_rows import rows_of_users
from functions.core.report_texts import JsonArray

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from functions.adapters.redis_report import ReportStore

_SLICE_USERS: Final = 4_000


async def report_array(store: ReportStore) -> AsyncGenerator[bytes]:
    """Yield the array piece by piece, shard after shard and by id within one; holds one shard at a time."""
    state = await store.state()
    encoder = JsonArray([USER_COLUMN[name] for name in DEFAULT_FIELDS])
    yield encoder.begin()
    for shard, held in enumerate(state.shards):
        async for ids, values in store.blocks(shard, None, held.users):
            for start in range(0, len(ids), _SLICE_USERS):
                some = slice(start, start + _SLICE_USERS)
                rows = rows_of_users(ids[some], values[some])
                yield encoder.rows([rows.column(name) for name in DEFAULT_FIELDS])
                await asyncio.sleep(0)
    yield encoder.end()
