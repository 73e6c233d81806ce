"""One run of the fold: from a running Spark and a full log to the committed report."""

from __future__ import annotations

import asyncio
import json
import os
import time

from functions.adapters.redis_store import RedisStore
from functions.core import settings as settings_
from spark.planning import groups_of
from spark.running import Summary, bounds_of
from spark.session import start_context
from spark.tasks import fold_groups


def main() -> None:
    """Run, and print the seconds and the number of users in the report."""
    settings = settings_.parse(os.environ)
    summary = Summary()
    with start_context(settings, "bench") as context:
        started_s = time.monotonic()
        groups = groups_of(bounds_of(settings), 2 * context.defaultParallelism)
        for folded in context.parallelize(groups, len(groups)).mapPartitions(fold_groups).collect():
            summary.add(folded)
        seconds = time.monotonic() - started_s
    if summary.errors:
        raise SystemExit(f"{summary.errors}")
    print(json.dumps({"seconds": seconds, "users": asyncio.run(_users(RedisStore(settings)))}))


async def _users(store: RedisStore) -> int:
    try:
        return sum(len(shard.averages) for shard in await store.averages())
    finally:
        await store.close()


main()
