"""The store as a resharding uses it: shards closed to ingest, their contents copied to others, the books made anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from functions.adapters.redis_archive import MOVED_TO
from functions.adapters.redis_client import load_script, translated_errors
from functions.adapters.redis_generations import BuildingKeys, GenerationStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.core import shards as sharding
    from functions.core.archive import ArchivedFile

_FINISH: Final = load_script("finish_shard")
FIELDS_A_STEP: Final = 2000
LAST_PLACE: Final = 2**32 - 1
"""The largest CRC-32."""


class ReshardingStore(GenerationStore):
    """A generations' store that also lays out shards."""

    def layout(self) -> dict[str, str]:
        """Return the layout's fields."""
        with translated_errors():
            held: Any = self._redis.hgetall(self.keys.layout)
        return {name.decode(): value.decode() for name, value in held.items()}

    def set_layout(self, **fields: object) -> None:
        """Set fields of the layout, and take those out that are None: each in one step."""
        held: Any = {name: str(value) for name, value in fields.items() if value is not None}
        gone = [name for name, value in fields.items() if value is None]
        with translated_errors():
            if held:
                self._redis.hset(self.keys.layout, mapping=held)
            if gone:
                self._redis.hdel(self.keys.layout, *gone)

    def let_in(self, shard: int, shards: int) -> None:
        """Let in events of who counts so many shards; 0 lets nobody in."""
        with translated_errors():
            self._redis.hset(self.keys.ledger(shard), "shards", shards)

    def add_fields(self, key: str, fields: dict[bytes, bytes]) -> None:
        """Add fields to a hash."""
        with translated_errors():
            mapping: Any = fields
            self._redis.hset(key, mapping=mapping)

    def pages(self, key: str) -> Iterator[dict[bytes, bytes]]:
        """Yield a hash in pieces."""
        cursor = 0
        while True:
            with translated_errors():
                reply: Any = self._redis.hscan(key, cursor, count=FIELDS_A_STEP)
            cursor = int(reply[0])
            yield reply[1]
            if cursor == 0:
                return

    def merchants_of(self, keys: sharding.Keys, shard: int) -> list[str]:
        """Return the merchants that have averages in a shard."""
        with translated_errors():
            held: Any = self._redis.smembers(keys.merchants(shard))
        return sorted(merchant.decode() for merchant in held)

    def add_merchant(self, keys: sharding.Keys, shard: int, merchant: str, version: int) -> None:
        """Say that a merchant has averages in a shard, which changed at a moment."""
        with translated_errors():
            self._redis.sadd(keys.merchants(shard), merchant)
            self._redis.hset(keys.versions(shard), merchant, str(version))

    def copy_seen(self, window: int, from_shard: int, to_shard: int) -> None:
        """Let a shard know the digests that another one knows."""
        source, target = self.keys.seen(from_shard, window), self.keys.seen(to_shard, window)
        cursor = 0
        with translated_errors():
            left_s: Any = self._redis.ttl(source)
            if int(left_s) <= 0:
                return
            while True:
                reply: Any = self._redis.sscan(source, cursor, count=FIELDS_A_STEP)
                cursor = int(reply[0])
                if reply[1]:
                    self._redis.sadd(target, *reply[1])
                if cursor == 0:
                    break
            self._redis.expire(target, int(left_s))

    def count_whole(self, shard: int, backfill: str) -> None:
        """Say that a backfill has counted all users of a shard."""
        with translated_errors():
            self._redis.hset(self.keys.backfilled(shard), backfill, LAST_PLACE)

    def put_on_new_record(self, generation: int, shard: int, file: ArchivedFile) -> None:
        """Put a file on the record that a shard shall have."""
        with translated_errors():
            self._redis.hset(self._anew(generation, shard), file.path, file.record)

    def forget_new_record(self, generation: int, shard: int) -> None:
        """Delete the record that a shard should have had."""
        with translated_errors():
            self._redis.unlink(self._anew(generation, shard))

    def finish_shard(self, shard: int, generation: int, fields: Mapping[str, object]) -> bool:
        """Put a shard's new books and records in the place of the old ones; tell whether that was left to be done."""
        arguments: list[Any] = [generation]
        for name, value in fields.items():
            arguments += (name, value)
        keys = [self.keys.ledger(shard), self.keys.archive(shard), self._anew(generation, shard)]
        return bool(self._call(_FINISH, keys, arguments))

    def move_erasures(self, shards: int, erasures: Mapping[str, int]) -> None:
        """Bring the records of erasures that have not given their receipt together, as a plan has them."""
        held: Any = dict(erasures)
        with translated_errors():
            for shard in range(shards):
                self._redis.unlink(self.keys.erasures(shard), *self.keys.erasing(shard))
            if held:
                self._redis.hset(self.keys.erasures(MOVED_TO), mapping=held)

    def end_shard(self, shard: int, shards: int, generation: int) -> None:
        """Delete a shard that is no more, but for what tells ingest so; with its books of the generation made last."""
        with translated_errors():
            self._redis.unlink(BuildingKeys(self.keys.namespace, generation).ledger(shard))
            self._redis.unlink(self.keys.events(shard), self.keys.archive(shard), self.keys.backfilled(shard))
            self._redis.unlink(self.keys.ledger(shard))
            self._redis.hset(self.keys.ledger(shard), "shards", shards)

    def plan(self) -> dict[str, Any] | None:
        """Return what a resharding that has come to the switch has still to do."""
        held = self.layout().get("plan")
        return None if held is None else dict(json.loads(held))

    def _anew(self, generation: int, shard: int) -> str:
        return BuildingKeys(self.keys.namespace, generation).archive(shard) + f":g{generation}"
