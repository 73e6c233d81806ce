"""Rebuild: the same state from the archive, in one step, whatever comes in, is erased or breaks off meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from functions.adapters import redis_shard
from functions.core.errors import MisconfiguredError
from functions.core.spans import Totals, pack_totals
from spark.archive import MissingFileError
from spark.folding import fold_shard
from spark.keeping import merge_files, needed_archive
from spark.rebuilding import rebuild
from tests.fold_in_process import fold
from tests.spark.rebuilding.events_and_state import EVENTS, ROOT, SHARDS, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import redis

    from functions.adapters.redis_generations import GenerationStore
    from functions.core.events import Event
    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]


def test_the_result_equals_the_live_state_byte_by_byte(
    kept: Settings, store: GenerationStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """From merged files and small ones; what is pending stays so; the old generation is gone, twice."""
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store, 10)
    for shard in range(SHARDS):
        merge_files(store, needed_archive(kept, store), shard, everything=True)
    fill_log(kept, [EVENTS[200:300]])
    fold(kept, store)
    fill_log(kept, [EVENTS[300:]])
    before = state_of(raw_redis, kept, 0)
    versions = [store.ledger(shard).version for shard in range(SHARDS)]
    done = rebuild(kept, grace_s=0)

    assert (1, 300, [0]) == (done.generation, done.events, done.dropped)
    assert before == state_of(raw_redis, kept, 1)
    assert all(store.ledger(shard).version > version for shard, version in enumerate(versions))
    assert 100 == sum(store.ledger(shard).pending for shard in range(SHARDS))
    fold(kept, store)
    after = state_of(raw_redis, kept, 1)
    assert 2 == rebuild(kept, grace_s=0).generation
    assert after == state_of(raw_redis, kept, 2)
    names = {name.partition(b"}")[2] for name in raw_redis.scan_iter(f"{{{kept.namespace}:*")}
    assert not any(name.startswith((b":spans", b":averages", b":g1:", b":g2:counted")) for name in names)


def test_a_damaged_state_is_whole_again(
    kept: Settings,
    store: GenerationStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    raw_redis: redis.Redis,
) -> None:
    """Numbers that were wrong, users that were lost, strangers that were shown."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    raw_redis.hset(store.keys.averages(0), "stranger", pack_totals(Totals(1, 1, 0, 1)))
    raw_redis.delete(store.keys.spans(1))
    rebuild(kept, grace_s=0)

    assert plain_report(EVENTS) == read_report(kept)


KILLED = """
import os, signal, sys
from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.core.environment import parse
from spark.rebuilding import rebuild
from spark.resharding import reshard
owner = {"commit": BuildingStore, "begin_generation": GenerationStore, "fence": GenerationStore,
         "switch_to": GenerationStore, "lift_fence": GenerationStore, "drop_generation": GenerationStore}[sys.argv[1]]
act, left = getattr(owner, sys.argv[1]), int(sys.argv[2])
def killed(*arguments):
    global left
    left -= 1
    if left:
        return act(*arguments)
    if sys.argv[3] == "after":
        act(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, sys.argv[1], killed)
rebuild(parse(os.environ), grace_s=0)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "time"),
    [
        ("begin_generation", 1),
        ("commit", 1),
        ("commit", 4),
        ("fence", 1),
        ("fence", 2),
        ("switch_to", 1),
        ("lift_fence", 1),
        ("lift_fence", 2),
        ("drop_generation", 1),
    ],
)
def test_killed_at_any_step_the_live_state_is_right_and_another_rebuild_completes(
    kept: Settings,
    store: GenerationStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    raw_redis: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    time: int,
    moment: str,
) -> None:
    """Runs wait for a fence whose owner is gone, then lift it; nothing of the dead generation stays."""
    monkeypatch.setattr(redis_shard, "FENCE_S", 0.2)
    fill_log(kept, [EVENTS[start : start + 20] for start in range(0, 200, 20)])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:300]])
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": kept.redis_url,
        "FLYERTIME_NAMESPACE": kept.namespace,
        "FLYERTIME_ARCHIVE_URI": str(kept.archive_uri),
        "FLYERTIME_LATENESS_S": str(kept.lateness_s),
    }
    command = [sys.executable, "-c", KILLED, step, str(time), moment]
    killed = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert -signal.SIGKILL == killed.returncode, killed.stderr
    assert plain_report(EVENTS[:200]) == read_report(kept)
    fold(kept, store)
    assert plain_report(EVENTS[:300]) == read_report(kept)
    live = store.keys.generation
    before = state_of(raw_redis, kept, live)
    fill_log(kept, [EVENTS[300:]])
    done = rebuild(kept, grace_s=0)
    assert before == state_of(raw_redis, kept, done.generation)
    fold(kept, store)
    assert plain_report(EVENTS) == read_report(kept)
    other = {
        name
        for name in raw_redis.scan_iter(f"{{{kept.namespace}:*")
        if b":spans" in name and not name.endswith(f":g{done.generation}:spans".encode())
    }
    assert set() == other
    assert not any(store.ledger(shard).fence for shard in range(SHARDS))


def test_an_archive_that_lacks_events_is_refused(
    kept: Settings, store: GenerationStore, tmp_path: Path, fill_log: Fill, read_report: Read, plain_report: Plain
) -> None:
    """Whether they were never archived or their file is gone; the live state stays."""
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    next((tmp_path / "archive").rglob("*.parquet")).unlink()
    with pytest.raises(MissingFileError, match="is on record, but not in"):
        rebuild(kept, grace_s=0)
    fill_log(kept, [EVENTS[200:]])
    for ledger in (store.ledger(shard) for shard in range(SHARDS)):
        fold_shard(store, ledger.shard, str(ledger.newest_id), 1000)
    with pytest.raises(MisconfiguredError, match="events were folded and 0 backfilled without an archive"):
        rebuild(kept, grace_s=0)

    assert plain_report(EVENTS) == read_report(kept)


@pytest.mark.parametrize("workers", ["none", "spark"])
def test_the_command_rebuilds(
    kept: Settings, store: GenerationStore, fill_log: Fill, read_report: Read, plain_report: Plain, workers: str
) -> None:
    """In its own process, and as Spark's tasks."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": kept.redis_url,
        "FLYERTIME_NAMESPACE": kept.namespace,
        "FLYERTIME_ARCHIVE_URI": str(kept.archive_uri),
    }
    command = [sys.executable, "-m", "spark.main", "rebuild", "--workers", workers]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert 0 == done.returncode, done.stderr
    assert "generation 1 is live: 400 events of" in done.stdout
    assert plain_report(EVENTS) == read_report(kept)
