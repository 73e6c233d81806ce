"""Erasing a user: out of the pending log, the state, the report, the quarantine and the archive.

In this order, since each step makes void what a run has read before it: first the log, so that nothing of the user is
folded any more, then the state, then the archive, whose files cannot get anything of the user any more. Each step finds
what is left of the user, so a broken-off erasure is completed by another one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from functions.adapters.redis_quarantine import Quarantine
from functions.core import packing, span_packing
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.shards import shard_of
from spark.keeping import archive_of, sweep

if TYPE_CHECKING:
    from functions.adapters.redis_erasure import ErasureStore
    from functions.core.archive import ArchivedFile
    from functions.core.settings import Settings
    from spark.archive import Archive

MOST_TRIES: Final = 100
"""Of a step that others overtake."""


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
    unfinished_backfills: list[str] = field(default_factory=list)
    """They may still bring the user back, if their files have the user."""


def erase(settings: Settings, store: ErasureStore, user_id: str) -> Receipt:
    """Erase a user, and say what was there.

    Raises:
        MisconfiguredError: Some events are in an archive, and FLYERTIME_ARCHIVE_URI is not set.
        UnavailableError: The store or the archive does not answer, or the shards are laid out anew meanwhile; what is
            done is done, start again.
    """
    shards = store.shards()
    if not shards:
        raise MisconfiguredError("empty_store", "the store holds no pipeline of this namespace")
    store.check_settled()
    receipt = Receipt(user_id, shard_of(user_id, shards))
    archive = archive_of(settings, store)
    ledger = store.ledger(receipt.shard)
    if archive is None and ledger.archived + ledger.history_archived:
        raise MisconfiguredError(
            "no_archive", "events are in an archive: set FLYERTIME_ARCHIVE_URI as the runs have it"
        )
    _erase_pending(store, receipt)
    _erase_state(store, receipt)
    if archive is not None:
        _erase_archived(store, archive, receipt)
    # Once more, since a rebuild may have made its generation the live one, and have read the archive before. One that
    # has not yet begins this shard again: other files are on record than it has read.
    for generation in store.other_generations():
        store.erase_state(receipt.shard, user_id.encode(), generation)
    _erase_state(store, receipt)
    receipt.quarantined_events = asyncio.run(_erase_quarantined(settings, user_id))
    store.check_settled()
    if store.shards() != shards:
        raise UnavailableError("resharding", "the store was laid out anew meanwhile: start it again to complete it")
    receipt.unfinished_backfills = sorted(
        name for name, record in store.backfills().items() if record["state"] != "done"
    )
    return receipt


def _erase_pending(store: ErasureStore, receipt: Receipt) -> None:
    name = receipt.user_id.encode()
    for _ in range(MOST_TRIES):
        ledger = store.ledger(receipt.shard)
        contents: dict[str, bytes] = {}
        erased = 0
        for entry_id, entry in store.log(receipt.shard, "0-0", "+"):
            if name not in entry:
                continue
            try:
                events = packing.unpack_events(entry)
            except ValueError as e:
                raise FlyertimeError("damaged_log", f"shard {receipt.shard}, log entry {entry_id}: {e}") from e
            others = [event for event in events if event.user_id != receipt.user_id]
            if len(others) < len(events):
                contents[entry_id] = packing.pack_events(others) if others else b""
                erased += len(events) - len(others)
        if not contents or store.rewrite_log(ledger, contents, erased):
            receipt.pending_events += erased
            return
    raise FlyertimeError("superseded", f"shard {receipt.shard}: overtaken by runs {MOST_TRIES} times; try again")


def _erase_state(store: ErasureStore, receipt: Receipt) -> None:
    erased = store.erase_state(receipt.shard, receipt.user_id.encode())
    if erased.spans:
        held = span_packing.unpack_spans(erased.spans)
        receipt.state_spans += len(held)
        receipt.state_events += sum(span.events for span in held.values())
    receipt.report_averages += erased.overall + erased.merchants
    receipt.report_version = erased.version


def _erase_archived(store: ErasureStore, archive: Archive, receipt: Receipt) -> None:
    looked_at: set[str] = set()
    for _ in range(MOST_TRIES):
        for file in store.archive_books(receipt.shard).files:
            if file.path not in looked_at:
                if _rows_of(archive, file, receipt.user_id) and not _rewrite(store, archive, file, receipt):
                    break  # somebody has merged files: look at what is there now
                looked_at.add(file.path)
        else:
            receipt.archive_files_swept = len(sweep(store, archive, receipt.shard))
            return
    raise FlyertimeError("superseded", f"shard {receipt.shard}: others kept merging files; try again")


def _rows_of(archive: Archive, file: ArchivedFile, user_id: str) -> int:
    users = (table["user_id"] for table in archive.tables(file, ["user_id"]))
    return sum(int(pc.sum(pc.equal(column, user_id)).as_py() or 0) for column in users)


def _rewrite(store: ErasureStore, archive: Archive, file: ArchivedFile, receipt: Receipt) -> bool:
    """Put a file without the user in the place of one; tell whether nobody else came first."""
    ledger = store.ledger(receipt.shard)

    def without(table: pa.Table) -> pa.Table:
        return table.filter(pc.not_equal(table["user_id"], receipt.user_id))

    left = archive.rewrite([file], ledger.swaps, without)
    come = [left] if left.rows else []
    fewer = file.events - left.events
    of_log, of_history = (0, fewer) if file.backfill else (fewer, 0)
    if not store.swap_files(ledger, [file], come, erased_events=of_log, erased_history=of_history):
        archive.remove([left.path])
        return False
    archive.remove([file.path, *([] if left.rows else [left.path])])
    receipt.archived_events += of_log
    receipt.archived_history_events += of_history
    receipt.archive_files_rewritten += 1
    return True


async def _erase_quarantined(settings: Settings, user_id: str) -> int:
    quarantine = Quarantine(settings)
    try:
        return await quarantine.erase_user(user_id)
    finally:
        await quarantine.close()
