"""What a run does to the books, without Spark: pending events become folded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.adapters.redis_shard import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.adapters.redis_shard import ShardStore
    from functions.core.ledger import ShardLedger


def fold_pending(store: ShardStore, ledgers: Iterable[ShardLedger]) -> None:
    """Commit all that was pending when the books of some shards were read; nobody's numbers change."""
    for ledger in ledgers:
        if ledger.newest_id is not None:
            store.commit(
                Change(
                    shard=ledger.shard,
                    commits=ledger.commits,
                    folded_to=ledger.newest_id,
                    events=ledger.pending,
                    report_changes=False,
                    spans={},
                    averages={},
                )
            )
