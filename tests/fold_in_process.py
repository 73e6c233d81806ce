"""Folding without Spark, as each of its tasks does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark.folding import fold_shard
from spark.keeping import archive_of

if TYPE_CHECKING:
    from functions.adapters.redis_archive import ArchiveStore
    from functions.core.settings import Settings


def fold(settings: Settings, store: ArchiveStore, round_events: int = 40) -> None:
    """Fold what is pending."""
    archive = archive_of(settings, store)
    for ledger in (store.ledger(shard) for shard in range(store.shards())):
        if ledger.newest_id is not None:
            fold_shard(
                store, ledger.shard, ledger.newest_id, round_events, archive=archive, lateness_us=settings.lateness_us
            )
