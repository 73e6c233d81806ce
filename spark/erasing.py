"""Erasing a user: out of the pending log, the state, the report, the quarantine and the archive.

In this order, since each step makes void what a run has read before it: first the log, so that nothing of the user is
folded any more, then the state, then the archive, whose files cannot get anything of the user any more. Each step finds
what is left of the user, so a broken-off erasure is completed by another one. What a step takes out it counts in the
same step, where there is a store to count in, so the receipt of that other one has it too.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from functions.adapters.redis_quarantine import Quarantine
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.shards import shard_of
from spark.archive import MissingFileError
from spark.erasing_pending import erase_pending
from spark.keeping import archive_of, sweep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.adapters.redis_erasure import ErasureStore
    from functions.core.archive import ArchivedFile
    from functions.core.settings import Settings
    from spark.archive import Archive

T = TypeVar("T")
MOST_TRIES: Final = 100
"""Of a step that others overtake."""


_KINDS: Final = {
    "pending_events": "pending_events",
    "state_spans": "state_spans",
    "state_events": "state_events",
    "report_averages": "report_averages",
    "archived_events": "archived_events",
    "history_archived_events": "archived_history_events",
    "archive_files_rewritten": "archive_files_rewritten",
}
"""What is on record of an erasure in the user's shard, and the receipt's name for it."""


@dataclass(slots=True)
class Receipt:
    """What was taken out, by store. All zero where there was nothing, also where an earlier erasure had been."""

    user_id: str
    shard: int
    pending_events: int = 0
    state_spans: int = 0
    state_events: int = 0
    report_averages: int = 0
    """Overall and of merchants."""
    quarantined_events: int = 0
    archived_events: int = 0
    archived_history_events: int = 0
    archive_files_rewritten: int = 0
    archive_files_swept: int = 0
    """Left over from killed or overtaken runs: they may have held events of the user, and count nowhere."""
    report_version: int = 0
    """Of the user's shard, microseconds since 1970: the first version of its part of the report without the user."""
    resumed: bool = False
    """An erasure of this user had not come to its receipt: the counts have what it took out, too."""
    unfinished_backfills: list[str] = field(default_factory=list)
    """They may still bring the user back, if their files have the user."""


def erase(
    settings: Settings, store: ErasureStore, user_id: str, deliver: Callable[[Receipt], None] = lambda _: None
) -> Receipt:
    """Erase a user, and say what was there.

    Args:
        settings: Of the pipeline.
        store: Its store.
        user_id: Whom.
        deliver: Is given the receipt. Until that has been done, what was taken out stays on record, under a name that
            does not tell the user: whoever is killed before gives the same receipt once started again.

    Raises:
        MisconfiguredError: Some events are in an archive, and FLYERTIME_ARCHIVE_URI is not set.
        UnavailableError: The store or the archive does not answer, or the shards are laid out anew meanwhile; what is
            done is done, start again.
    """
    shards = store.shards()
    if not shards:
        raise MisconfiguredError("empty_store", "the store holds no pipeline of this namespace")
    store.check_settled()
    name = hashlib.sha256(user_id.encode()).hexdigest()[:32]
    receipt = Receipt(user_id, shard_of(user_id, shards))
    archive = archive_of(settings, store)
    ledger = store.ledger(receipt.shard)
    if archive is None and ledger.archived + ledger.history_archived:
        raise MisconfiguredError(
            "no_archive", "events are in an archive: set FLYERTIME_ARCHIVE_URI as the runs have it"
        )
    receipt.resumed = bool(store.erased(receipt.shard, name)) or bool(_in_quarantine(settings, Quarantine.erased, name))
    erase_pending(store, receipt.shard, user_id, name)
    store.erase_state(receipt.shard, user_id.encode(), name)
    if archive is not None:
        _erase_archived(store, archive, receipt, name)
    # Once more, since a rebuild may have made its generation the live one, and have read the archive before. One that
    # has not yet begins this shard again: other files are on record than it has read.
    for generation in store.other_generations():
        store.erase_state(receipt.shard, user_id.encode(), "", generation)
    receipt.report_version = store.erase_state(receipt.shard, user_id.encode(), name)
    _in_quarantine(settings, Quarantine.erase_user, user_id, name)
    store.check_settled()
    if store.shards() != shards:
        raise UnavailableError("resharding", "the store was laid out anew meanwhile: start it again to complete it")
    receipt.unfinished_backfills = sorted(
        backfill for backfill, record in store.backfills().items() if record["state"] != "done"
    )
    receipt.quarantined_events = _in_quarantine(settings, Quarantine.erased, name)
    for kind, count in store.erased(receipt.shard, name).items():
        setattr(receipt, _KINDS[kind], count)
    deliver(receipt)
    store.forget_erased(receipt.shard, name)
    _in_quarantine(settings, Quarantine.forget_erased, name)
    return receipt


def _erase_archived(store: ErasureStore, archive: Archive, receipt: Receipt, name: str) -> None:
    looked_at: set[str] = set()
    for _ in range(MOST_TRIES):
        for file in store.archive_books(receipt.shard).files:
            if file.path not in looked_at:
                if not _taken_out(store, archive, file, receipt, name):
                    break  # somebody has merged files: look at what is there now
                looked_at.add(file.path)
        else:
            receipt.archive_files_swept = len(sweep(store, archive, receipt.shard))
            return
    raise FlyertimeError("superseded", f"shard {receipt.shard}: others kept merging files; try again")


def _taken_out(store: ErasureStore, archive: Archive, file: ArchivedFile, receipt: Receipt, name: str) -> bool:
    """Take the user out of a file; tell whether nobody else has put another one in its place."""
    try:
        return not _rows_of(archive, file, receipt.user_id) or _rewrite(store, archive, file, receipt, name)
    except MissingFileError:
        if file in store.archive_books(receipt.shard).files:
            raise
        return False


def _rows_of(archive: Archive, file: ArchivedFile, user_id: str) -> int:
    users = (table["user_id"] for table in archive.tables(file, ["user_id"]))
    return sum(int(pc.sum(pc.equal(column, user_id)).as_py() or 0) for column in users)


def _rewrite(store: ErasureStore, archive: Archive, file: ArchivedFile, receipt: Receipt, name: str) -> bool:
    """Put a file without the user in the place of one; tell whether nobody else came first."""
    ledger = store.ledger(receipt.shard)

    def without(table: pa.Table) -> pa.Table:
        return table.filter(pc.not_equal(table["user_id"], receipt.user_id))

    left = archive.rewrite([file], ledger.swaps, without)
    come = [left] if left.rows else []
    fewer = file.events - left.events
    of_log, of_history = (0, fewer) if file.backfill else (fewer, 0)
    if not store.swap_files(ledger, [file], come, erased_events=of_log, erased_history=of_history, erasure=name):
        archive.remove([left.path])
        return False
    archive.remove([file.path, *([] if left.rows else [left.path])])
    return True


def _in_quarantine(settings: Settings, act: Callable[..., Awaitable[T]], *arguments: str) -> T:
    async def do() -> T:
        quarantine = Quarantine(settings)
        try:
            return await act(quarantine, *arguments)
        finally:
            await quarantine.close()

    return asyncio.run(do())
