"""The fold: from a running Spark and a full log to the committed report; with ``--then N``, more events once more."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

from bench.workload import Workload
from functions.adapters.redis_store import RedisStore
from functions.core import settings as settings_
from functions.core.report import rows_of
from spark.running import Summary, bounds_of, fold_bounds
from spark.session import start_context


def main() -> None:
    """Run, and print seconds, users, the sum of their averages, and memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--then", type=int, default=0)
    parser.add_argument("--users", type=int, default=0)
    arguments = parser.parse_args()
    settings = settings_.parse(os.environ)
    summary = Summary()
    entered_s = time.monotonic()
    with start_context(settings, "bench") as context:
        started_s = time.monotonic()
        fold_bounds(context, bounds_of(settings), summary)
        took = {"seconds": time.monotonic() - started_s, "spark_start_s": started_s - entered_s}
        if arguments.then:
            Workload(arguments.then, users=arguments.users, seed=5).fill(settings)
            started_s = time.monotonic()
            fold_bounds(context, bounds_of(settings), summary)
            took["again_s"] = time.monotonic() - started_s
        took |= _peaks(os.getpid())
    if summary.errors:
        raise SystemExit(f"{summary.errors}")
    print(json.dumps({**took, **asyncio.run(report_of(RedisStore(settings)))}))


async def report_of(store: RedisStore) -> dict[str, float]:
    """Return how many users are in the report, and the sum of their averages."""
    shards = await store.averages()
    await store.close()
    averages = [row.avg_time_on_flyer_per_user_hours for row in rows_of(shard.averages for shard in shards)]
    return {"users": len(averages), "hours": sum(averages)}


def _peaks(pid: int) -> dict[str, float]:
    """Return the peak memory of the driver, of its JVM, and of the largest Python worker, in MB."""
    peaks = {"driver_mb": 0.0, "jvm_mb": 0.0, "worker_mb": 0.0}
    members = [pid]
    for member in members:
        process = Path(f"/proc/{member}")
        for task in process.glob("task/*/children"):
            members += map(int, task.read_text().split())
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        command = (process / "cmdline").read_bytes()
        kind = "driver_mb" if member == pid else "jvm_mb" if b"java" in command.split(b"\0")[0] else "worker_mb"
        peaks[kind] = max(peaks[kind], int(status.get("VmHWM", "0 kB").split()[0]) / 1024)
    return peaks


if __name__ == "__main__":
    main()
