"""The store as history's commands use it: what a shard store can, and the books of backfills."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from functions.adapters.redis_client import translated_errors
from functions.adapters.redis_layout import LAYOUT_FORMAT
from functions.adapters.redis_shard import ShardStore
from functions.core import shards as sharding

if TYPE_CHECKING:
    from collections.abc import Mapping


class HistoryStore(ShardStore):
    """A shard store that also keeps which history was read, and how far."""

    def lay_out(self) -> int:
        """Return the number of shards, fixing it where the store is new: history may come before the first event.

        Raises:
            MisconfiguredError: The settings or this version of flyertime do not fit what the store holds.
            UnavailableError: It is being laid out anew.
        """
        wanted = self._settings.shards or sharding.DEFAULT_SHARDS
        with translated_errors():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hsetnx(self.keys.layout, "shards", str(wanted))
            pipe.hsetnx(self.keys.layout, "format", str(LAYOUT_FORMAT))
            pipe.hsetnx(self.keys.layout, "pipeline", secrets.token_hex(8))
            pipe.execute()
        self.check_settled()
        return self.shards()

    def now_ms(self) -> int:
        """Return the store's time in milliseconds since 1970; of a cluster some node's."""
        with translated_errors():
            seconds, microseconds = self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def register_backfill(self, backfill: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Put a backfill on record, unless it is; return what is on record."""
        with translated_errors():
            self._redis.hsetnx(self.keys.backfills, backfill, json.dumps(dict(fields)))
            held: Any = self._redis.hget(self.keys.backfills, backfill)
        record: dict[str, Any] = json.loads(held)
        return record

    def update_backfill(self, backfill: str, fields: Mapping[str, Any]) -> None:
        """Replace what is on record of a backfill."""
        with translated_errors():
            self._redis.hset(self.keys.backfills, backfill, json.dumps(dict(fields)))

    def backfills(self) -> dict[str, dict[str, Any]]:
        """Return what is on record of every backfill."""
        with translated_errors():
            held: Any = self._redis.hgetall(self.keys.backfills)
        return {name.decode(): json.loads(record) for name, record in held.items()}

    def backfilled_upto(self, shard: int, backfill: str) -> int:
        """Return the last place of the shard's users that a backfill has counted; -1 where it has counted none."""
        with translated_errors():
            held: Any = self._redis.hget(self.keys.backfilled(shard), backfill)
        return -1 if held is None else int(held)
