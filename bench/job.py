"""The fold against the reference algorithm: the same events, the same Spark, the same machine, in turn.

One side folds them from the log, as ingest stores them, to the committed report. The other reads them as NDJSON and
runs the reference plan (window, row numbers, self join). Each run is a process of its own; the start is told apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_store import RedisStore, ShardBatch
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.timestamps import format_us, parse_us
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_EVENTS: Final = 500
EVENTS_A_USER: Final = 10
FLYERS: Final = 3
_START_US: Final = parse_us("2026-03-02T08:00:00Z")


def run(events: int, rounds: int) -> None:
    """Print what both sides take, as medians."""
    with tempfile.TemporaryDirectory(prefix="flyertime-bench-") as folder:
        ndjson = Path(folder) / "events.ndjson"
        _write_ndjson(ndjson, events)
        took: dict[str, list[dict[str, float]]] = defaultdict(list)
        for number in range(rounds):
            with EmbeddedValkey(Path(folder) / f"valkey-{number}") as valkey:
                asyncio.run(_fill(Settings(redis_url=valkey.url), events))
                took["fold"].append(_timed("fold", {"FLYERTIME_REDIS_URL": valkey.url}))
            took["reference"].append(_timed("reference", {}, str(ndjson)))
            if took["fold"][-1]["users"] != took["reference"][-1]["users"]:
                raise SystemExit(f"the two sides disagree: {took}")
    for part, name in (("seconds", "fold_vs_reference"), ("with_start_s", "fold_vs_reference_with_start")):
        fold, reference = (statistics.median(run[part] for run in took[side]) for side in ("fold", "reference"))
        _print(name, reference / fold, "ratio", fold_s=fold, reference_s=reference, events=events, rounds=rounds)
    fold_s = statistics.median(run["seconds"] for run in took["fold"])
    cores = len(os.sched_getaffinity(0))
    _print("fold_events_per_core_s", events / fold_s / cores, "events/s", cores=cores)
    start_s = statistics.median(run["with_start_s"] - run["seconds"] for run in took["fold"])
    _print("spark_start_s", start_s, "s")


def made_up(events: int) -> Iterator[Event]:
    """Yield events with ids of 64 characters, several on each of a user's flyers."""
    rng = random.Random(1)
    users = [f"{rng.getrandbits(256):064x}" for _ in range(max(1, events // EVENTS_A_USER))]
    for _ in range(events):
        yield Event(
            _START_US + rng.randrange(86_400_000) * 1000,
            rng.choice(users),
            rng.choice(("flyer_open", "flyer_close")),
            f"flyer-{rng.randrange(FLYERS)}",
            f"merchant-{rng.randrange(100)}",
        )


async def _fill(settings: Settings, events: int) -> None:
    """Write the events as ingest does when it gets them in batches."""
    store = RedisStore(settings)
    shards = await store.shards()
    source = made_up(events)
    for _ in range(0, events, BATCH_EVENTS):
        by_shard: dict[int, list[Event]] = defaultdict(list)
        for _, event in zip(range(BATCH_EVENTS), source, strict=False):
            by_shard[shard_of(event.user_id, shards)].append(event)
        batches = [ShardBatch(shard, pack_events(some), len(some)) for shard, some in by_shard.items()]
        await store.append(batches, window=0)
    await store.close()


def _write_ndjson(path: Path, events: int) -> None:
    with path.open("w") as file:
        for event in made_up(events):
            row = {**event._asdict(), "timestamp": format_us(event.timestamp_us)}
            del row["timestamp_us"]
            file.write(json.dumps(row) + "\n")


def _timed(side: str, environment: dict[str, str], *arguments: str) -> dict[str, float]:
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{side}_side", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=1800,
    )
    took: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**took, "with_start_s": time.monotonic() - started_s}


def _print(name: str, value: float, unit: str, **sides: object) -> None:
    rounded = {key: round(side, 3) if isinstance(side, float) else side for key, side in sides.items()}
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, **rounded}), flush=True)
