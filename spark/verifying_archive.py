"""Verifying the archive: its records against the books and the folder."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from functions.core.ledger import position_of
from spark.archive import MissingFileError
from spark.findings import PAUSE_S
from spark.keeping import left_over

if TYPE_CHECKING:
    from functions.adapters.redis_archive import ArchiveBooks
    from functions.adapters.redis_checks import CheckedStore
    from spark.archive import Archive
    from spark.findings import Findings


def check_files(store: CheckedStore, archive: Archive, found: Findings) -> bool:
    """Compare the records with the books and with the folder; tell whether all files can be read."""
    paths = archive.paths(found.shard)
    books = store.archive_books(found.shard)
    ledger = books.ledger
    found.archived, found.files = ledger.archived + ledger.history_archived, len(books.files)
    found.add(_deviations_of_books(books))
    gaps = {
        "folded": ledger.folded - ledger.archived - ledger.archived_erased,
        "backfilled": ledger.backfilled - ledger.history_archived - ledger.history_archived_erased,
    }
    for name, gap in gaps.items():
        if gap > 0:
            found.not_archived += gap
            found.notes.append(f"{gap:,} events were {name} without an archive: a rebuild is not possible")
        elif gap < 0:
            found.add([f"archive: {-gap:,} events more than were {name}"])
    missing = []
    for file in books.files:
        try:
            rows = archive.rows_of(file)
        except MissingFileError as e:
            if file in store.archive_books(found.shard).files:  # nobody has put another one in its place
                missing.append(f"archive: {e.message}")
            continue
        if rows != file.rows:
            missing.append(f"archive: {file.path} has {rows:,} rows, on record are {file.rows:,}")
    found.add(missing)
    left = left_over(store, found.shard, paths)
    if left:
        time.sleep(PAUSE_S)  # whoever has just put others in their place deletes them now
        left = sorted(set(left) & set(archive.paths(found.shard)))
    found.add(
        f"archive: {path} is left over from a run that was killed: `flyertime archive compact` deletes it"
        for path in left
    )
    return not missing


def _deviations_of_books(books: ArchiveBooks) -> list[str]:
    ledger, files = books
    log = [file for file in files if file.first]
    own = [file for file in log if not file.laid]  # the ids of others are of the shards that were
    deviations = []
    for name, of_kind, booked in (
        ("log", log, ledger.archived),
        ("history", [file for file in files if not file.first], ledger.history_archived),
    ):
        events = sum(file.events for file in of_kind)
        if events != booked:
            deviations.append(f"archive: {booked:,} events of {name} by the ledger, {events:,} by the files' records")
    deviations += [
        f"archive: {file.path} goes beyond {ledger.folded_to}, up to which is folded"
        for file in own
        if position_of(file.last) > position_of(ledger.folded_to)
    ]
    deviations += [
        f"archive: {one.path} and {other.path} overlap"
        for one, other in itertools.pairwise(own)
        if position_of(one.last) >= position_of(other.first)
    ]
    return deviations
