"""The store as erasing uses it: a user out of the log, the state and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_client import load_script, translated_errors
from functions.core import shards as sharding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.core.ledger import ShardLedger

_ERASE_PENDING: Final = load_script("erase_pending")
_ERASE_USER: Final = load_script("erase_user")


class ErasedState(NamedTuple):
    """What was taken out of state and report."""

    spans: bytes
    """As they were packed; empty where there were none."""
    overall: int
    """1 where the user had averages, else 0."""
    merchants: int
    """On whose flyers the user had averages."""
    version: int
    """Of the shard's part of the report: it, and later ones, do not have the user."""


class ErasureStore(ArchiveStore):
    """An archive's store that also takes users out."""

    def rewrite_log(self, ledger: ShardLedger, contents: Mapping[str, bytes], events: int) -> bool:
        """Put other contents into log entries; tell whether nothing else changed the shard since its books were read.

        Args:
            ledger: The shard's books.
            contents: By entry id; an empty one leaves the entry out.
            events: How many fewer the log has afterwards.
        """
        keys = self.keys
        arguments: list[Any] = [ledger.commits, events]
        for entry_id, content in contents.items():
            arguments += (entry_id, content)
        names = [keys.ledger(ledger.shard), keys.events(ledger.shard), keys.erasing(ledger.shard)]
        return bool(self._call(_ERASE_PENDING, names, arguments))

    def erase_state(self, shard: int, user: bytes, generation: int | None = None) -> ErasedState:
        """Take a user out of state and report, overall and every merchant's, by default of the live generation.

        Waits while a rebuild switches to its own.
        """
        while True:
            self.open_ledger(shard)
            keys = self.keys if generation is None else sharding.Keys(self.keys.namespace, generation)
            with translated_errors():
                held: Any = self._redis.smembers(keys.merchants(shard))
            merchants = sorted(held)
            names = [keys.ledger(shard), keys.spans(shard), keys.averages(shard), keys.versions(shard)]
            names += [keys.averages(shard, merchant.decode()) for merchant in merchants]
            if reply := self._call(_ERASE_USER, names, [user, *merchants]):
                return ErasedState(*reply)

    def other_generations(self) -> list[int]:
        """Return all generations but the live one: of rebuilds that go on, that ended, or that broke off."""
        with translated_errors():
            held: Any = self._redis.hmget(self.keys.layout, ["generations", "generation"])
        last, live = (int(value or 0) for value in held)
        return [generation for generation in range(last + 1) if generation != live]
