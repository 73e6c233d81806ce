"""Which shard a user belongs to, and the names of all keys in Redis.

All keys of one shard carry the same hash tag, so they live in one slot of a Redis Cluster and one script can change
them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

try:
    from isal.isal_zlib import crc32
except ImportError:  # there is none for this machine: the same numbers, in three times the time
    from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_SHARDS: Final = 16
MAX_SHARDS: Final = 4096


def shard_of(user_id: str, shards: int) -> int:
    """Return the shard of a user: CRC-32 of the id's UTF-8, modulo the number of shards.

    The same number as ``pmod(crc32(user_id), shards)`` in Spark SQL.
    """
    return crc32(user_id.encode()) % shards


def shards_of(user_ids: Iterable[str], shards: int) -> list[int]:
    """Return the shard of each user, as `shard_of` does."""
    return [number % shards for number in map(crc32, map(str.encode, user_ids))]


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of the keys of one pipeline, whose namespace keeps it apart from others in the same Redis.

    State and result have a generation: a rebuild makes the next one beside the live one, which ``{ft}:layout`` names.
    The keys of generation 0 have no number; books, log and dedupe windows have no generation.
    """

    namespace: str
    generation: int = 0

    @property
    def layout(self) -> str:
        """Hash: number of shards and format versions, fixed at first use; the live generation of the state."""
        return f"{{{self.namespace}}}:layout"

    @property
    def runs(self) -> str:
        """Capped stream: what each Spark run did."""
        return f"{{{self.namespace}}}:runs"

    @property
    def flush(self) -> str:
        """String: everything received up to this moment (milliseconds, Redis clock) shall be folded without delay."""
        return f"{{{self.namespace}}}:flush"

    @property
    def flush_pause(self) -> str:
        """String with a TTL: while it is there, no reader makes a flush be asked for."""
        return f"{{{self.namespace}}}:flush:pause"

    @property
    def quarantine(self) -> str:
        """Capped stream: rejected events as received, with the reason; see functions/core/quarantine.py."""
        return f"{{{self.namespace}}}:quarantine"

    @property
    def quarantine_parts(self) -> list[str]:
        """It and what goes with it; functions/adapters/lua/quarantine_add.lua says what each is."""
        parts = ("names", "fixes", "groups", "books", "order")
        return [self.quarantine, *(f"{self.quarantine}:{part}" for part in parts)]

    @property
    def backfills(self) -> str:
        """Hash: backfill id to what it read, and how far it came (JSON)."""
        return f"{{{self.namespace}}}:backfills"

    @property
    def resharder(self) -> str:
        """Hash: which resharding is at work, and until when it need give no sign (functions/adapters/lua/lease.lua)."""
        return f"{{{self.namespace}}}:resharder"

    def events(self, shard: int) -> str:
        """Stream: the pending log."""
        return f"{{{self.namespace}:{shard}}}:events"

    def seen(self, shard: int, window: int) -> str:
        """Set with a TTL: digests of (source, id) accepted in one dedupe window."""
        return f"{{{self.namespace}:{shard}}}:seen:{window}"

    def appended(self, shard: int, window: int) -> tuple[str, ...]:
        """Return the five keys that an append concerns: log, ledger, and the windows around the current one."""
        return _appended(self, shard, window)

    def ledger(self, shard: int) -> str:
        """Hash: the shard's counters; see functions/core/ledger.py."""
        return f"{{{self.namespace}:{shard}}}:ledger"

    def built(self, shard: int) -> str:
        """Hash: the generation's own counters, where it is not live from the store's beginning on."""
        return self._state(shard, "built")

    def spans(self, shard: int) -> str:
        """Hash: user to packed spans; see functions/core/span_packing.py."""
        return self._state(shard, "spans")

    def merchants(self, shard: int) -> str:
        """Set: the merchants that have an averages hash in this shard."""
        return self._state(shard, "merchants")

    def averages(self, shard: int, merchant: str | None = None) -> str:
        """Hash: user to packed totals, overall or of one merchant's flyers."""
        key = self._state(shard, "averages")
        return key if merchant is None else f"{key}:{merchant}"

    def versions(self, shard: int) -> str:
        """Hash: merchant to the moment (microseconds, Redis clock) at which its averages last changed in this shard."""
        return self._state(shard, "versions")

    def summaries(self, shard: int) -> str:
        """Hash: merchant, or '' for all, to what its averages come to; see functions/core/summary_packing.py."""
        return self._state(shard, "summaries")

    def backfilled(self, shard: int) -> str:
        """Hash: backfill id to the last place (CRC-32 of the user id) of the shard's users that is counted."""
        return f"{{{self.namespace}:{shard}}}:backfilled"

    def erasing(self, shard: int) -> list[str]:
        """Streams and a hash: the log as it is made anew without a user; lua/erase_pending.lua says what each is."""
        key = f"{{{self.namespace}:{shard}}}:erasing"
        return [key, f"{key}:counts", f"{key}:step"]

    def erasures(self, shard: int) -> str:
        """Hash: what erasures that have not given their receipt have taken out."""
        return f"{{{self.namespace}:{shard}}}:erasures"

    def aside(self, shard: int) -> str:
        """String: the state is moved aside, to be written; only within one transaction."""
        return f"{{{self.namespace}:{shard}}}:aside"

    def archive(self, shard: int) -> str:
        """Hash: path of each file of the archive to what is on record of it; see functions/core/archive.py."""
        return f"{{{self.namespace}:{shard}}}:archive"

    def _state(self, shard: int, name: str) -> str:
        generation = f"g{self.generation}:" if self.generation else ""
        return f"{{{self.namespace}:{shard}}}:{generation}{name}"


@lru_cache(2 * MAX_SHARDS)
def _appended(keys: Keys, shard: int, window: int) -> tuple[str, ...]:
    windows = (keys.seen(shard, number) for number in (window - 1, window, window + 1))
    return (keys.events(shard), keys.ledger(shard), *windows)
