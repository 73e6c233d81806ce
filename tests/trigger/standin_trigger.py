"""Trigger as its container serves it, but with a stand-in for the Spark job: ``standin_trigger.py PORT``.

The stand-in folds what is pending, as the job does, without Spark. Files in FLYERTIME_LOCAL_RUNS_DIR/.standin steer it:
``hold`` makes it wait, ``fail`` makes it fail with the file's text;
``jobs`` lists the runs that were started, ``traceparents`` in whose traces.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import uvicorn

from functions.adapters import spark_local
from functions.adapters.redis_shard import ShardStore
from functions.core.environment import parse
from tests.trigger.folding_without_spark import fold_pending

CONTROL = ".standin"


def work(run: str) -> int:
    """Do what the job does."""
    settings = parse(os.environ)
    control = Path(settings.local_runs_dir) / CONTROL
    control.mkdir(exist_ok=True)
    store = ShardStore(settings)
    ledgers = [store.ledger(shard) for shard in range(store.shards())]
    with (control / "jobs").open("a") as jobs:
        jobs.write(f"{run}\n")
    with (control / "traceparents").open("a") as traceparents:
        traceparents.write(f"{os.environ.get('TRACEPARENT')}\n")
    while (control / "hold").exists():
        time.sleep(0.02)
    if (control / "fail").exists():
        sys.stderr.write((control / "fail").read_text())
        return 1
    fold_pending(store, ledgers)
    store.close()
    return 0


def serve(port: int) -> None:
    """Serve trigger."""
    spark_local.JOB = (sys.executable, __file__, "job")  # type: ignore[assignment, misc]  # the one thing that is not real
    uvicorn.run("functions.asgi:app", host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    if sys.argv[1] == "job":
        sys.exit(work(sys.argv[2]))
    serve(int(sys.argv[1]))
