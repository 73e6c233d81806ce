"""The fold: from a running Spark and a full log to the committed report; with ``--then N``, more events once more."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

import redis

from bench.job_sides.process_tree import cpu_s, peaks_mb
from bench.job_sides.spark_settings import OF_REFERENCE
from bench.workload import Workload
from functions.adapters.redis_report import ReportStore
from functions.core import environment
from functions.core.report_rows import rows_of_users
from spark.running import Summary, bounds_of, fold_bounds
from spark.session import start_context


def main() -> None:
    """Run, and print seconds, users, the sum of their averages, and memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--then", type=int, default=0)
    parser.add_argument("--users", type=int, default=0)
    parser.add_argument("--settings", choices=("own", "reference"), default="own")
    arguments = parser.parse_args()
    settings = environment.parse(os.environ)
    summary = Summary()
    entered_s = time.monotonic()
    given = OF_REFERENCE if arguments.settings == "reference" else None
    with start_context(settings, "bench", given=given) as context:
        store = redis.Redis.from_url(settings.redis_url)
        cpu_before_s = cpu_s() + _store_cpu_s(store)
        started_s = time.monotonic()
        fold_bounds(context, bounds_of(settings), summary)
        took = {"seconds": time.monotonic() - started_s, "spark_start_s": started_s - entered_s}
        took["cpu_s"] = cpu_s() + _store_cpu_s(store) - cpu_before_s
        store.close()
        if arguments.then:
            Workload(arguments.then, users=arguments.users, seed=5).fill(settings)
            started_s = time.monotonic()
            fold_bounds(context, bounds_of(settings), summary)
            took["again_s"] = time.monotonic() - started_s
        took |= peaks_mb()
    if summary.errors:
        raise SystemExit(f"{summary.errors}")
    print(json.dumps({**took, **asyncio.run(report_of(ReportStore(settings)))}))


async def report_of(store: ReportStore) -> dict[str, float]:
    """Return how many users are in the report, and the sum of their averages."""
    hundredths: list[int] = []
    for shard, held in enumerate((await store.state()).shards):
        async for averages in store.pieces(shard, None, held.users):
            hundredths += rows_of_users(*averages).hundredths()
    await store.close()
    return {"users": len(hundredths), "hours": sum(hundredths) / 100}


def _store_cpu_s(store: redis.Redis) -> float:
    used = store.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


if __name__ == "__main__":
    main()
