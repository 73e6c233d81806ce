"""Keeping the archive in order: small files merged into larger ones, and files that nothing counts removed."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

from functions.core import archive as naming
from functions.core.errors import MisconfiguredError
from spark.archive import Archive, MissingFileError

if TYPE_CHECKING:
    from functions.adapters.redis_archive import ArchiveStore
    from functions.core.settings import Settings

logger = logging.getLogger("flyertime.archive")


def archive_of(settings: Settings, store: ArchiveStore) -> Archive | None:
    """Return the pipeline's archive; None where none is set, or nothing has come in yet."""
    if settings.archive_uri is None or not store.shards():
        return None
    return Archive(settings.archive_uri, settings.namespace, store.pipeline())


def needed_archive(settings: Settings, store: ArchiveStore) -> Archive:
    """Return the pipeline's archive.

    Raises:
        MisconfiguredError: None is set.
    """
    archive = archive_of(settings, store)
    if archive is None:
        raise MisconfiguredError("no_archive", "FLYERTIME_ARCHIVE_URI is not set, or the store is empty")
    return archive


def merge_files(store: ArchiveStore, archive: Archive, shard: int, *, everything: bool = False) -> int:
    """Merge a shard's small files, where there are enough of them; return how many went.

    Killed at any moment it leaves a file that is not on record, or some that are no more: `sweep` finds them.
    """
    if not everything and (store.ledger(shard).loose < naming.FAN or store.is_being_rebuilt()):
        return 0
    went = 0
    ledger, files = store.archive_books(shard)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for group in naming.merges_of(files, today, everything=everything):
        try:
            merged = archive.rewrite(group, ledger.swaps)
        except MissingFileError:
            if {file.path for file in group} <= {file.path for file in store.archive_books(shard).files}:
                raise
            return went  # somebody else keeps it in order
        if not store.swap_files(ledger, group, [merged]):
            archive.remove([merged.path])
            return went  # somebody else keeps it in order
        archive.remove([file.path for file in group])
        went += len(group)
        ledger = store.ledger(shard)
    store.nothing_loose(shard)
    return went


def sweep(store: ArchiveStore, archive: Archive, shard: int) -> list[str]:
    """Delete the files that are not on record and never will be; return their paths."""
    paths = archive.paths(shard)
    left = left_over(store, shard, paths)
    archive.remove(left)
    if left:
        logger.info("shard %d: %d files that no commit counts are deleted", shard, len(left))
    return left


def left_over(store: ArchiveStore, shard: int, paths: list[str]) -> list[str]:
    """Return which of some files are not on record and never will be."""
    ledger, files = store.archive_books(shard)
    held = {file.path for file in files}
    return [path for path in paths if path not in held and naming.is_left_over(path, ledger)]
