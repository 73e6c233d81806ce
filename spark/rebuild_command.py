"""``spark/main.py rebuild``: state and report anew from the archive, and the switch to them."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_archive import ArchiveStore
from functions.core import environment
from spark.commands import failed_in_spark, run_command
from spark.rebuilding import Built, build_shards, rebuild

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from functions.core.settings import Settings

SPARK_FROM_EVENTS: Final = 2_000_000
"""Fewer are counted faster by one process than Spark has started its workers."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="flyertime rebuild",
        description="Make state and report anew from the archive, beside the live ones, and switch to them in one "
        "step; events come in and are folded meanwhile. Broken off, nothing has changed: start it again.",
        epilog="exit status: 0 switched, 1 failed, 2 wrong arguments or settings, or some events are in no archive, "
        "75 store or archive did not answer",
    )
    parser.add_argument(
        "--workers",
        choices=["auto", "spark", "none"],
        default="auto",
        help=f"spark: a task a shard; none: this process; auto: spark from {SPARK_FROM_EVENTS:,} events on",
    )
    return run_command(parser, arguments, _rebuild)


def _rebuild(given: argparse.Namespace, settings: Settings) -> int:
    with_spark = given.workers == "spark"
    if given.workers == "auto":
        store = ArchiveStore(settings)
        try:
            with_spark = sum(store.ledger(shard).archived for shard in range(store.shards())) >= SPARK_FROM_EVENTS
        finally:
            store.close()
    if with_spark:
        from spark import progress  # noqa: PLC0415  # with PySpark, which the other way does without
        from spark.session import start_context  # noqa: PLC0415  # as above

        try:
            with start_context(settings, "flyertime-rebuild") as context:

                def spread(shards: Sequence[int], generation: int) -> Iterable[Built]:
                    tasks = context.parallelize([(shard, generation) for shard in shards], len(shards))
                    with progress.shown(context, "rebuild"):
                        built: list[Built] = tasks.mapPartitions(build_in_task).collect()
                    return built

                result = rebuild(settings, spread)
        except Exception as e:
            if "py4j" not in type(e).__module__:
                raise
            return failed_in_spark("rebuild", e, "nothing was switched; start it again")
    else:
        result = rebuild(settings)
    sys.stdout.write(
        f"generation {result.generation} is live: {result.events:,} events of {result.files:,} files, "
        f"{result.seconds:.1f} s, {result.fenced_s:.2f} s of them without commits\n"
    )
    return 0


def build_in_task(shards: Iterable[tuple[int, int]]) -> Iterator[Built]:
    """Build some shards, in a Python worker of an executor."""
    settings = environment.parse(os.environ)
    for shard, generation in shards:
        yield from build_shards(settings, [shard], generation)
