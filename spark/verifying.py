"""Verifying: ledger, log, state, report and archive of each shard against each other, while everything goes on.

The books are compared with what is there by the shard's commit count: where a commit came in between, it is looked at
again. State and report are read a page of users at a time; a user who seems wrong is read again at one moment, so what
a commit changed meanwhile is no deviation. The spans are recomputed from the archive's files, and who has new events in
files that came meanwhile is compared again with those.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from functions.core import packing
from functions.core.ledger import position_of
from spark.findings import MOST_TRIES, PAUSE_S, Findings
from spark.verifying_archive import check_files
from spark.verifying_spans import check_against_archive
from spark.verifying_state import check_state
from spark.verifying_summaries import check_summaries

if TYPE_CHECKING:
    from functions.adapters.redis_checks import CheckedStore
    from spark.archive import Archive
    from spark.findings import OnProgress


def verify_shard(
    store: CheckedStore,
    archive: Archive | None,
    shard: int,
    *,
    recompute: bool = True,
    on_progress: OnProgress = lambda *_: None,
) -> Findings:
    """Compare all that one shard holds.

    Args:
        store: Where it is.
        archive: Where its events are; None checks the store alone.
        shard: Which.
        recompute: Whether to recompute the spans from the archive, a part of the users at a time in memory.
        on_progress: Told what has been compared.
    """
    found = Findings(shard)
    _check_log(store, found)
    held = check_state(store, found, on_progress, keep=archive is not None and recompute)
    check_summaries(store, found)
    if archive is None:
        ledger = store.ledger(shard)
        if ledger.archived or ledger.history_archived:
            found.notes.append("the archive was not looked at: FLYERTIME_ARCHIVE_URI is not set")
        return found
    if check_files(store, archive, found) and recompute and not found.not_archived:
        check_against_archive(store, archive, found, held, on_progress)
    return found


def _check_log(store: CheckedStore, found: Findings) -> None:
    """Compare the books with the log, entry by entry."""
    for _ in range(MOST_TRIES):
        ledger = store.ledger(found.shard)
        events, early = 0, 0
        for entry_id, entry in store.log(found.shard, "0-0", ledger.newest_id or "0-0"):
            events += packing.count_of(entry)
            early += position_of(entry_id) <= position_of(ledger.folded_to)
        if store.ledger(found.shard).commits == ledger.commits:
            break
        time.sleep(PAUSE_S)
    else:
        found.notes.append("the log was not compared: the shard is being folded all the time")
        return
    found.accepted, found.folded, found.pending, found.erased = (
        ledger.accepted,
        ledger.folded,
        ledger.pending,
        ledger.erased,
    )
    if events != ledger.pending:
        found.add(
            [
                f"ledger: {ledger.pending:,} pending (accepted {ledger.accepted:,}, folded {ledger.folded:,}, erased "  # noqa: ISC004
                f"{ledger.erased:,}), but the log holds {events:,}"
            ]
        )
    if early:
        found.add([f"log: {early:,} entries up to {ledger.folded_to}, which is folded, are still there"])
