"""``spark/main.py reshard``: another number of shards, offline."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from functions.adapters.redis_resharding import ReshardingStore
from spark.commands import run_command
from spark.resharding import reshard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.settings import Settings


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="flyertime reshard",
        description="Lay the store out with another number of shards. Ingest answers 503 meanwhile, and nothing else "
        "may work on the store: no run, no backfill, no other command. Broken off, the same command completes it.",
        epilog="exit status: 0 laid out anew, 1 failed and as before, 2 wrong arguments or settings, "
        "75 store or archive did not answer",
    )
    parser.add_argument("--to", type=int, required=True, metavar="S", help="how many shards; 1 to 4096")
    return run_command(parser, arguments, _reshard)


def _reshard(given: argparse.Namespace, settings: Settings) -> int:
    store = ReshardingStore(settings)
    try:
        done = reshard(settings, store, given.to)
    finally:
        store.close()
    sys.stdout.write(
        f"{done.before} shards became {done.after}: {done.folded_events:,} pending events folded, {done.files:,} files "
        f"of the archive written anew, {done.seconds:.1f} s\n"
    )
    return 0
