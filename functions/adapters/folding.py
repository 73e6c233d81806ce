"""Waiting until what is pending now is in the report."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from functions.core.ledger import position_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functions.adapters.redis_store import RedisStore

_POLL_S: Final = 0.25


async def folded(
    store: RedisStore,
    flush_requested: Callable[[int], None],
    wait_s: float,
    shards: Iterable[int] | None = None,
    *,
    reading: bool = False,
) -> bool:
    """Ask for a flush and wait until all that these shards hold now is in the report; return False where time is up.

    Args:
        store: Where the wish is written, and the books are read.
        flush_requested: Tells those who are to hear of it; is given the moment, in milliseconds of the store's clock.
        wait_s: Seconds to wait at most.
        shards: Which; None: all.
        reading: Whether a reader waits: then the flush is asked for when none has been for some time.
    """
    request_flush = store.request_flush_for_reader if reading else store.request_flush
    deadline_s = time.monotonic() + wait_s
    ledgers = await store.ledgers()
    newest = ((shard, ledgers[shard].newest_id) for shard in (range(len(ledgers)) if shards is None else shards))
    wanted = {shard: position_of(upto) for shard, upto in newest if upto is not None}
    asked = False
    while wanted:
        if not asked and (moment_ms := await request_flush()) is not None:
            flush_requested(moment_ms)
            asked = True
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(_POLL_S)
        ledgers = await store.ledgers()
        wanted = {shard: upto for shard, upto in wanted.items() if position_of(ledgers[shard].folded_to) < upto}
    return True
