"""``spark/main.py archive``: looking after the archive by hand; the job does it by itself, a little at a time."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from functions.adapters.redis_archive import ArchiveStore
from spark.commands import run_command, shown
from spark.keeping import merge_files, needed_archive, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.settings import Settings


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="flyertime archive",
        description="Look after the archive in FLYERTIME_ARCHIVE_URI; runs may go on meanwhile.",
        epilog="exit status: 0 done, 1 failed, 2 wrong arguments or settings, 75 store or archive did not answer",
    )
    parser.add_argument(
        "what",
        choices=["compact"],
        help="compact: merge each shard's and day's files up to about two million events, and delete those that are on "
        "no record and never will be",
    )
    return run_command(parser, arguments, _compact)


def _compact(given: argparse.Namespace, settings: Settings) -> int:
    del given  # there is one thing to do
    store = ArchiveStore(settings)
    try:
        store.check_settled()
        archive = needed_archive(settings, store)
        merged = swept = 0
        for shard in shown(range(store.shards()), "shard"):
            merged += merge_files(store, archive, shard, everything=True)
            swept += len(sweep(store, archive, shard))
        files = [file for shard in range(store.shards()) for file in store.archive_books(shard).files]
    finally:
        store.close()
    sys.stdout.write(
        f"{merged:,} files merged, {swept:,} left-over ones deleted; {len(files):,} files, "
        f"{sum(file.events for file in files):,} events, {sum(file.size_bytes for file in files):,} bytes\n"
    )
    return 0
