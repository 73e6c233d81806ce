"""The store as the archive's keepers use it: what is on record of its files, and files put in the place of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.adapters.redis_client import load_script, translated_errors
from functions.adapters.redis_history import HistoryStore
from functions.adapters.redis_layout import ledger_from
from functions.core.archive import ArchivedFile, in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.ledger import ShardLedger

REBUILD_S: Final = 86_400
"""Files are not merged for so long after a rebuild has begun, which would have to begin the shard again."""
MOVED_TO: Final = 0
"""The shard to which a resharding brings the records of erasures: they do not tell whose they are."""
_SWAP: Final = load_script("swap_files")
_BOOKS: Final = load_script("archive_books")


class ArchiveBooks(NamedTuple):
    """One shard's books and files, at one moment."""

    ledger: ShardLedger
    files: list[ArchivedFile]
    """In the log's order, history last."""


class ArchiveStore(HistoryStore):
    """A shard store that also keeps the archive's records."""

    def pipeline(self) -> str:
        """Return what tells this pipeline from every other, also from one that this store held before."""
        with translated_errors():
            held: Any = self._redis.hget(self.keys.layout, "pipeline")
        return str(held.decode())

    def archive_books(self, shard: int) -> ArchiveBooks:
        """Return what is on record of a shard's files, with its books."""
        keys = [self.keys.ledger(shard), self.keys.events(shard), self.keys.archive(shard)]
        books, files = self._call(_BOOKS, keys, [])
        pairs = zip(files[::2], files[1::2], strict=True)
        found = [ArchivedFile.of_record(path.decode(), record.decode()) for path, record in pairs]
        return ArchiveBooks(ledger_from(shard, books), in_order(found))

    def swap_files(
        self,
        ledger: ShardLedger,
        gone: Sequence[ArchivedFile],
        come: Sequence[ArchivedFile],
        *,
        erased_events: int = 0,
        erased_history: int = 0,
        erasure: str = "",
    ) -> bool:
        """Put files on record in the place of others; tell whether that was done, or another swap came first.

        Args:
            ledger: The shard's books.
            gone: The files that go.
            come: Those in their place.
            erased_events: Events of the log that those have fewer.
            erased_history: Events of history likewise.
            erasure: The name under which they are counted.
        """
        arguments: list[Any] = [ledger.swaps, erased_events, erased_history, erasure]
        arguments += [len(gone), *(file.path for file in gone)]
        for file in come:
            arguments += (file.path, file.record)
        keys, shard = self.keys, ledger.shard
        reply = self._call(_SWAP, [keys.ledger(shard), keys.archive(shard), keys.erasures(shard)], arguments)
        return bool(reply[0] == 1)

    def erasures(self, shard: int) -> dict[str, int]:
        """Return what erasures that have not given their receipt have taken out, by name and kind."""
        with translated_errors():
            held: Any = self._redis.hgetall(self.keys.erasures(shard))
        return {field.decode(): int(count) for field, count in held.items()}

    def is_being_rebuilt(self) -> bool:
        """Tell whether somebody reads all of the archive's files just now, or did not come to the end of it today."""
        with translated_errors():
            held: Any = self._redis.hmget(self.keys.layout, ["building", "building_since"])
        return held[0] is not None and self.now_ms() // 1000 - int(held[1] or 0) < REBUILD_S

    def nothing_loose(self, shard: int) -> None:
        """Say that there is nothing to merge just now."""
        with translated_errors():
            self._redis.hset(self.keys.ledger(shard), "loose", 0)
