"""The job measured: against the reference algorithm, in small steps on a large state, at growing sizes, beside others.

The same events, the same machine, each run a process of its own, the sides in turn, medians. One side folds the events
from the log, as ingest stores them, to the committed report. The reference (window, row numbers, self join) reads them
as NDJSON, as apps send them, or as Parquet. Start of Python and the JVM is told apart.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import redis

from bench.printing import print_measured
from bench.workload import Workload
from functions.core.settings import Settings
from functions.core.shards import Keys
from functions.core.span_packing import count_of
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS: Final = ("sides", "incremental", "scaling")
_TRILLION: Final = 10**12

Took = dict[str, float]


def run(events: int, rounds: int, parts: tuple[str, ...] = PARTS) -> None:
    """Print what everything takes; ``events`` is the size for the comparison, the others follow from it."""
    with tempfile.TemporaryDirectory(prefix="flyertime-bench-") as name:
        if "sides" in parts:
            _sides(Path(name), events, rounds)
        if "incremental" in parts:
            _incremental(Path(name), events, rounds)
        if "scaling" in parts:
            _scaling(Path(name), (events // 100, events // 10, events, 3 * events))


def _sides(folder: Path, events: int, rounds: int) -> None:
    """Fold, reference, history and single processes on the same events, in turn."""
    workload = Workload(events)
    workload.write(folder, ndjson=True)
    filled = _filled(folder / "filled", workload)
    parquet = str(folder / "parquet")
    took: dict[str, list[Took]] = defaultdict(list)
    for _ in range(rounds):
        with _copy_of(filled) as valkey:
            took["fold"].append(_timed("fold", url=valkey.url))
            held = _state_of(valkey)
        took["reference_json"].append(_timed("reference", "json", str(folder / "ndjson")))
        took["reference_parquet"].append(_timed("reference", "parquet", parquet))
        took["history"].append(_timed("history", parquet))
        took["duckdb"].append(_timed("single", "duckdb", parquet))
        took["polars"].append(_timed("single", "polars", parquet))
        _check(took)
    shutil.rmtree(filled)
    shutil.rmtree(folder / "ndjson")
    about = {"events": events, "rounds": rounds}
    for part, name in (("seconds", "fold_vs_reference"), ("process_s", "fold_vs_reference_with_start")):
        sides = {side: _median(took[side], part) for side in took}
        for kind in ("json", "parquet"):
            reference_s = sides[f"reference_{kind}"]
            ratio = reference_s / sides["fold"]
            print_measured(f"{name}_{kind}", ratio, "ratio", fold_s=sides["fold"], reference_s=reference_s, **about)
    for side in ("history", "duckdb", "polars"):
        whole_s = {f"{name}_s": _median(took[name], "process_s") for name in ("fold", side)}
        print_measured(f"whole_process_{side}", whole_s[f"{side}_s"], "s", **whole_s, **about)
    cores = len(os.sched_getaffinity(0))
    print_measured("fold_events_per_core_s", events / _median(took["fold"], "seconds") / cores, "events/s", cores=cores)
    print_measured("spark_start_s", _median(took["fold"], "spark_start_s"), "s")
    for name in ("driver_mb", "jvm_mb", "worker_mb"):
        print_measured(f"peak_{name}", _median(took["fold"], name), "MB")
    print_measured("span_bytes", held["bytes"] / held["spans"], "bytes", **held)


def _incremental(folder: Path, events: int, rounds: int) -> None:
    """A hundredth of the events on a state of all of them, and on one of a tenth; against recomputing all."""
    more = max(1, events // 100)
    took: dict[str, list[Took]] = defaultdict(list)
    for name, size in (("large", events), ("small", events // 10)):
        workload = Workload(size)
        filled = _filled(folder / name, workload)
        with _served(filled) as valkey:
            _timed("fold", url=valkey.url)
        for number in range(rounds):
            with _copy_of(filled) as valkey:
                # Other moments of some of the same users, all over the state.
                Workload(more, users=workload.users, seed=10 + number).fill(Settings(redis_url=valkey.url))
                took[name].append(_timed("fold", "--then", str(more), "--users", str(workload.users), url=valkey.url))
        shutil.rmtree(filled)
    Workload(events + more).write(folder, ndjson=False)
    for _ in range(rounds):
        took["full"].append(_timed("reference", "parquet", str(folder / "parquet")))
    about = {"events": more, "state_events": events, "rounds": rounds}
    full_s = _median(took["full"], "seconds")
    for part, name in (("seconds", "incremental_vs_full"), ("again_s", "incremental_vs_full_lingering")):
        large_s = _median(took["large"], part)
        print_measured(name, full_s / large_s, "ratio", incremental_s=large_s, full_parquet_s=full_s, **about)
        small_s = _median(took["small"], part)
        growth = {"large_s": large_s, "small_s": small_s, "small_state_events": events // 10}
        print_measured(f"{name}_growth", large_s / small_s, "ratio", **growth, **about)


def _scaling(folder: Path, sizes: tuple[int, ...]) -> None:
    """Time and memory at growing sizes, the line through them, and what it says of a trillion."""
    seconds = []
    for events in sizes:
        filled = _filled(folder / "scaling", Workload(events))
        with _served(filled) as valkey:
            took = _timed("fold", url=valkey.url)
            with redis.Redis.from_url(valkey.url) as client:
                memory = client.info("memory")
        shutil.rmtree(filled)
        seconds.append(took["seconds"])
        about = {name: took[name] for name in ("driver_mb", "jvm_mb", "worker_mb")}
        print_measured("scaling", took["seconds"], "s", events=events, **about, store_mb=memory["used_memory"] / 2**20)
    slope, intercept = np.polyfit(np.array(sizes) / 1e6, seconds, 1)
    cores = len(os.sched_getaffinity(0))
    print_measured("scaling_line", float(slope), "s per million events", start_s=float(intercept), cores=cores)
    core_hours = slope * cores * _TRILLION / 1e6 / 3600
    print_measured("trillion_core_hours", float(core_hours), "core hours", hours_on_1000_cores=float(core_hours / 1000))


def _filled(folder: Path, workload: Workload) -> Path:
    """Return a folder of a stopped store whose log holds the events."""
    with _served(folder) as valkey:
        workload.fill(Settings(redis_url=valkey.url))
    return folder


@contextmanager
def _served(folder: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(folder) as valkey:
        yield valkey


@contextmanager
def _copy_of(folder: Path) -> Iterator[EmbeddedValkey]:
    """Serve a copy of a store, and remove it."""
    copy = folder.with_name(folder.name + "-copy")
    shutil.copytree(folder, copy)
    try:
        with EmbeddedValkey(copy) as valkey:
            yield valkey
    finally:
        shutil.rmtree(copy)


def _state_of(valkey: EmbeddedValkey) -> dict[str, int]:
    """Return users, spans and bytes of the packed state."""
    users = spans = size = 0
    with redis.Redis.from_url(valkey.url) as client:
        for shard in range(int(client.hget(Keys("ft").layout, "shards") or 0)):
            for value in client.hgetall(Keys("ft").spans(shard)).values():
                users, spans, size = users + 1, spans + count_of(value), size + len(value)
    return {"users": users, "spans": spans, "bytes": size}


def _check(took: dict[str, list[Took]]) -> None:
    """Stop where two sides do not agree on the report, but for halves, which not all of them round up."""
    users = {runs[-1]["users"] for runs in took.values()}
    hours = [runs[-1]["hours"] for runs in took.values()]
    if len(users) > 1 or max(hours) - min(hours) > 1e-3 * max(hours):
        raise SystemExit(f"the sides disagree: {dict(took)}")


def _median(runs: list[Took], part: str) -> float:
    return statistics.median(run[part] for run in runs)


def _timed(side: str, *arguments: str, url: str = "") -> Took:
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"bench.job_sides.{side}", *arguments],
        env={**os.environ, "FLYERTIME_REDIS_URL": url},
        capture_output=True,
        check=False,
        timeout=3600,
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    took: Took = json.loads(done.stdout.splitlines()[-1])
    return {**took, "process_s": time.monotonic() - started_s}
