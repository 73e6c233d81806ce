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
from bench.workload import EVENTS_A_USER, Workload
from functions.core.settings import Settings
from functions.core.shards import Keys
from functions.core.span_packing import HEADER_1, ROW_1, unpack_spans
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS: Final = ("sides", "incremental", "history", "scaling", "hot")
_TRILLION: Final = 10**12
_GROWTH: Final = (0.01, 0.1, 1, 3)
"""Of the events that are asked for, the sizes that show how time grows."""

Took = dict[str, float]


def run(events: int, rounds: int, parts: tuple[str, ...] = PARTS, keep: Path | None = None) -> None:
    """Print what everything takes; ``events`` is the size for the comparison, the others follow from it."""
    with tempfile.TemporaryDirectory(prefix="flyertime-bench-") as name:
        folder = keep or Path(name)
        if "sides" in parts:
            _sides(folder, events, rounds)
        if "incremental" in parts:
            _incremental(folder, events, rounds)
        if "history" in parts:
            _history(folder, events, rounds)
        if "scaling" in parts:
            _scaling(folder, [max(1, round(events * growth)) for growth in _GROWTH])
        if "hot" in parts:
            _hot(folder, max(1, events // 5), rounds)


def _sides(folder: Path, events: int, rounds: int) -> None:
    """Fold, reference, history and single processes on the same events, in turn."""
    files = _files(folder, events, ndjson=True)
    filled = _filled(folder, events)
    parquet = str(files / "parquet")
    took: dict[str, list[Took]] = defaultdict(list)
    for _ in range(rounds):
        with _copy_of(filled) as valkey:
            took["fold"].append(_timed("fold", url=valkey.url))
            held = _state_of(valkey)
        with _copy_of(filled) as valkey:
            took["fold_same_settings"].append(_timed("fold", "--settings", "reference", url=valkey.url))
        took["reference_json"].append(_timed("reference", "json", str(files / "ndjson")))
        took["reference_parquet"].append(_timed("reference", "parquet", parquet))
        took["history"].append(_timed("history", parquet))
        took["duckdb"].append(_timed("single", "duckdb", parquet))
        took["polars"].append(_timed("single", "polars", parquet))
        _check(took)
    about = {"events": events, "rounds": rounds}
    for part, name in (
        ("seconds", "fold_vs_reference"),
        ("process_s", "fold_vs_reference_with_start"),
        ("cpu_s", "fold_vs_reference_cpu"),  # the store's among it; what a crowded machine disturbs least
    ):
        sides = {side: _median(runs, part) for side, runs in took.items() if part in runs[0]}
        for kind in ("json", "parquet"):
            reference_s = sides[f"reference_{kind}"]
            for settings, fold_s in (("", sides["fold"]), ("_same_settings", sides["fold_same_settings"])):
                measured = {"fold_s": fold_s, "reference_s": reference_s}
                print_measured(f"{name}_{kind}{settings}", reference_s / fold_s, "ratio", **measured, **about)
    for side in ("history", "duckdb", "polars"):
        whole_s = {f"{name}_s": _median(took[name], "process_s") for name in ("fold", side)}
        print_measured(f"whole_process_{side}", whole_s[f"{side}_s"], "s", **whole_s, **about)
    cores = len(os.sched_getaffinity(0))
    print_measured("fold_events_per_core_s", events / _median(took["fold"], "seconds") / cores, "events/s", cores=cores)
    print_measured("spark_start_s", _median(took["fold"], "spark_start_s"), "s")
    for name in ("driver_mb", "jvm_mb", "worker_mb"):
        print_measured(f"peak_{name}", _median(took["fold"], name), "MB")
    old = held.pop("format_1_bytes") / held["spans"]
    print_measured("span_bytes", held["bytes"] / held["spans"], "bytes", format_1=old, **held)


def _incremental(folder: Path, events: int, rounds: int) -> None:
    """A hundredth of the events on a state of all of them, and on one of a tenth; against recomputing all."""
    more = max(1, events // 100)
    took: dict[str, list[Took]] = defaultdict(list)
    states = [
        (name, _folded(folder, size), size // EVENTS_A_USER)
        for name, size in (("large", events), ("small", events // 10))
    ]
    files = _files(folder, events + more, ndjson=False)
    for number in range(rounds):
        for name, folded, users in states:
            with _copy_of(folded) as valkey:
                # Other moments of some of the same users, all over the state.
                Workload(more, users=users, seed=10 + number).fill(Settings(redis_url=valkey.url))
                took[name].append(_timed("fold", "--then", str(more), "--users", str(users), url=valkey.url))
        took["full"].append(_timed("reference", "parquet", str(files / "parquet")))
    about = {"events": more, "state_events": events, "rounds": rounds}
    full_s = _median(took["full"], "seconds")
    for part, name in (("seconds", "incremental_vs_full"), ("again_s", "incremental_vs_full_lingering")):
        large_s = _median(took["large"], part)
        print_measured(name, full_s / large_s, "ratio", incremental_s=large_s, full_parquet_s=full_s, **about)
        small_s = _median(took["small"], part)
        growth = {"large_s": large_s, "small_s": small_s, "small_state_events": events // 10}
        print_measured(f"{name}_growth", large_s / small_s, "ratio", **growth, **about)


def _history(folder: Path, events: int, rounds: int) -> None:
    """The same events as Parquet straight into an empty state, with the time from open to close kept and without."""
    files = _files(folder, events, ndjson=False)
    took: dict[str, list[Took]] = defaultdict(list)
    for _ in range(rounds):
        for kept in ("on", "off"):
            with tempfile.TemporaryDirectory(dir=folder) as name, EmbeddedValkey(Path(name)) as valkey:
                took[kept].append(_timed("backfill", str(files / "parquet"), url=valkey.url, open_to_close=kept))
    input_bytes = sum(file.stat().st_size for file in (files / "parquet").iterdir())
    about = {"events": events, "rounds": rounds, "input_bytes_an_event": input_bytes / events}
    for kept, runs in took.items():
        seconds = _median(runs, "seconds")
        cores = len(os.sched_getaffinity(0))
        print_measured(
            "backfill", seconds, "s", open_to_close=kept, events_per_core_s=events / seconds / cores,
            cpu_s=_median(runs, "cpu_s"),
            users=runs[-1]["users"], **about,
        )  # fmt: skip


def _scaling(folder: Path, sizes: list[int]) -> None:
    """Time and memory at growing sizes, the line through them, and what it says of a trillion."""
    runs, store_mb = [], []
    for events in sizes:
        with _copy_of(_filled(folder, events)) as valkey:
            took = _timed("fold", url=valkey.url)
            with redis.Redis.from_url(valkey.url) as client:
                store_mb.append(client.info("memory")["used_memory"] / 2**20)
        runs.append(took)
        about = {name: took[name] for name in ("cpu_s", "driver_mb", "jvm_mb", "worker_mb")}
        print_measured("scaling", took["seconds"], "s", events=events, **about, store_mb=store_mb[-1])
    line = _line(sizes, [took["seconds"] for took in runs])
    cpu_line = _line(sizes, [took["cpu_s"] for took in runs])
    cores = len(os.sched_getaffinity(0))
    print_measured("scaling_line", line["slope"], "s per million events", cores=cores, **line)
    print_measured("scaling_cpu_line", cpu_line["slope"], "core s per million events", **cpu_line)
    core_hours = cpu_line["slope"] * _TRILLION / 1e6 / 3600
    print_measured(
        "trillion_core_hours",
        core_hours,
        "core hours",
        hours_on_1000_cores=core_hours / 1000,
        state_tb=store_mb[-1] * 2**20 / sizes[-1] * _TRILLION / 1e12,
        assumed="processor time goes on along its line, the store's among it; nothing waits for anything; "
        "ten events a user on three flyers, as made up here",
    )


def _hot(folder: Path, events: int, rounds: int) -> None:
    """All events in one shard, which only one task can fold: of users with ten each, and of one user."""
    stores = {users: _filled(folder, events, shards=1, users=users) for users in (max(1, events // EVENTS_A_USER), 1)}
    took: dict[int, list[Took]] = defaultdict(list)
    for _ in range(rounds):
        for users, filled in stores.items():
            with _copy_of(filled) as valkey:
                took[users].append(_timed("fold", url=valkey.url))
    for users, runs in took.items():
        seconds = _median(runs, "seconds")
        about: dict[str, float] = {"users": users, "events": events, "rounds": rounds}
        about |= {name: _median(runs, name) for name in ("cpu_s", "worker_mb")}
        print_measured("hot_shard", events / seconds, "events/s", seconds=seconds, **about)


def _line(sizes: list[int], values: list[float]) -> dict[str, float]:
    """Return the line through values by millions of events, and by what part the worst of them is off it."""
    slope, intercept = np.polyfit(np.array(sizes) / 1e6, values, 1)
    off = [abs(slope * size / 1e6 + intercept - value) / value for size, value in zip(sizes, values, strict=True)]
    return {"slope": float(slope), "intercept": float(intercept), "largest_error": float(max(off))}


def _files(folder: Path, events: int, *, ndjson: bool) -> Path:
    """Return a folder with so many events as Parquet, and as NDJSON where that is wanted."""
    files = folder / f"files-{events}"
    if not (files / ("ndjson" if ndjson else "parquet")).exists():
        shutil.rmtree(files, ignore_errors=True)
        Workload(events).write(files, ndjson=ndjson)
    return files


def _filled(folder: Path, events: int, shards: int | None = None, users: int | None = None) -> Path:
    """Return a folder of a stopped store whose log holds so many events."""
    filled = folder / f"filled-{events}{f'-{shards}' if shards else ''}{f'-{users}' if users else ''}"
    if not filled.exists():
        making = folder / "filled-making"
        shutil.rmtree(making, ignore_errors=True)
        with _served(making) as valkey:
            Workload(events, users=users).fill(Settings(redis_url=valkey.url, shards=shards))
            _rewrite(valkey)
        making.rename(filled)
    return filled


def _folded(folder: Path, events: int) -> Path:
    """Return a folder of a stopped store whose state holds so many events, folded."""
    folded = folder / f"folded-{events}"
    if not folded.exists():
        making = folder / "folded-making"
        shutil.rmtree(making, ignore_errors=True)
        shutil.copytree(_filled(folder, events), making)
        with _served(making) as valkey:
            _timed("fold", url=valkey.url)
            _rewrite(valkey)
        making.rename(folded)
    return folded


def _rewrite(valkey: EmbeddedValkey) -> None:
    """Have the append-only file written anew: else a copy of the store may begin with that while it is measured."""
    with redis.Redis.from_url(valkey.url) as client:
        deadline_s = time.monotonic() + 600
        while client.info("persistence")["aof_rewrite_in_progress"]:  # by itself, before all is in it
            _wait(deadline_s)
        client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            _wait(deadline_s)


def _wait(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise SystemExit("the store's append-only file is not rewritten")
    time.sleep(0.1)


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
    """Return users, spans and bytes of one shard's packed state, and what these spans took in format 1."""
    spans = size = old = 0
    with redis.Redis.from_url(valkey.url) as client:
        values = client.hvals(Keys("ft").spans(0))
    for value in values:
        held = unpack_spans(value)
        spans, size = spans + len(held), size + len(value)
        old += HEADER_1.size + sum(ROW_1.size + len(flyer) + len(merchant) for flyer, merchant in held)
    return {"users": len(values), "spans": spans, "bytes": size, "format_1_bytes": old}


def _check(took: dict[str, list[Took]]) -> None:
    """Stop where two sides do not agree on the report: those on Spark to the hundredth, of all users together.

    Single processes round some halves otherwise.
    """
    users = {runs[-1]["users"] for runs in took.values()}
    reference = took["reference_parquet"][-1]["hours"]
    off = {side: abs(runs[-1]["hours"] - reference) for side, runs in took.items()}
    most = {side: 1e-3 * reference if side in {"duckdb", "polars"} else 0.005 for side in took}
    if len(users) > 1 or any(off[side] > most[side] for side in took):
        raise SystemExit(f"the sides disagree: {dict(took)}")


def _median(runs: list[Took], part: str) -> float:
    return statistics.median(run[part] for run in runs)


def _timed(side: str, *arguments: str, url: str = "", open_to_close: str = "on") -> Took:
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"bench.job_sides.{side}", *arguments],
        env={**os.environ, "FLYERTIME_REDIS_URL": url, "FLYERTIME_OPEN_TO_CLOSE": open_to_close},
        capture_output=True,
        check=False,
        timeout=3600,
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    took: Took = json.loads(done.stdout.splitlines()[-1])
    return {**took, "process_s": time.monotonic() - started_s}
