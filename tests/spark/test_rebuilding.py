"""Rebuild: the same state from the archive, in one step, whatever comes in, is erased or breaks off meanwhile."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters import redis_shard
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.errors import FlyertimeError, MisconfiguredError
from functions.core.events import Event
from functions.core.shards import Keys, shard_of
from functions.core.spans import Totals, pack_totals
from spark.archive import MissingFileError
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import merge_files, needed_archive
from spark.rebuilding import rebuild
from spark.resharding import reshard
from tests.fold_in_process import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import redis

    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

ROOT = Path(__file__).parent.parent.parent
SHARDS = 2
NAMES = ("flyer_open", "flyer_close", "page_view")
EVENTS = [
    Event(number * 977_000_000, f"u{number % 11}", NAMES[number % 5 % 3], f"f{number % 3}", f"m{number % 4 % 3}")
    for number in range(400)
]


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """Two shards, and an archive."""
    return dataclasses.replace(settings, shards=SHARDS, archive_uri=str(tmp_path / "archive"), lateness_s=10_000_000)


@pytest.fixture
def store(kept: Settings) -> Iterator[GenerationStore]:
    """A store that is laid out."""
    store = GenerationStore(kept)
    store.lay_out()
    yield store
    store.close()


def state_of(client: redis.Redis, settings: Settings, generation: int) -> dict[tuple[int, str], Any]:
    """Return all that a generation holds, but for the moments of changes."""
    keys = Keys(settings.namespace, generation)
    held: dict[tuple[int, str], Any] = {}
    for shard in range(SHARDS):
        held[shard, "spans"] = client.hgetall(keys.spans(shard))
        held[shard, "merchants"] = client.smembers(keys.merchants(shard))
        for merchant in (None, *sorted(held[shard, "merchants"])):
            name = None if merchant is None else merchant.decode()
            held[shard, f"averages {name}"] = client.hgetall(keys.averages(shard, name))
        held[shard, "versions of"] = set(client.hgetall(keys.versions(shard)))
    return held


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


def test_events_come_in_and_are_folded_meanwhile(
    kept: Settings, store: GenerationStore, fill_log: Fill, read_report: Read, plain_report: Plain
) -> None:
    """Nothing is lost or doubled, however folds and the switch fall together."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    everything = list(EVENTS)
    ended = threading.Event()
    errors: list[BaseException] = []

    def go_on() -> None:
        own = GenerationStore(kept)
        try:
            for number in range(10**6):
                if ended.is_set():
                    return
                some = [event._replace(timestamp_us=number * 10**6) for event in EVENTS[:: number % 7 + 3]]
                fill_log(kept, [some])
                everything.extend(some)
                fold(kept, own)
        except BaseException as e:  # noqa: BLE001  # shown below
            errors.append(e)
        finally:
            own.close()

    running = threading.Thread(target=go_on)
    running.start()
    try:
        done = [rebuild(kept, grace_s=0) for _ in range(5)]
    finally:
        ended.set()
        running.join(60)
    fold(kept, store)

    assert [] == errors
    assert [1, 2, 3, 4, 5] == [one.generation for one in done]
    assert len(everything) > len(EVENTS)
    assert plain_report(everything) == read_report(kept)
    assert len(everything) == sum(store.ledger(shard).folded for shard in range(SHARDS))


KILLED = """
import os, signal, sys
from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.core.settings import parse
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


@pytest.mark.parametrize(
    ("owner", "step"), [(BuildingStore, "commit"), (BuildingStore, "counted"), (GenerationStore, "fence")]
)
def test_a_user_erased_while_the_archive_is_read_stays_erased(
    kept: Settings,
    store: GenerationStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    step: str,
) -> None:
    """The shard is begun again from the files without the user."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    act = getattr(owner, step)
    times = iter(range(10**6))

    def meanwhile(self: Any, *arguments: Any) -> Any:
        if next(times) == (0 if step == "fence" else 1):
            other = ErasureStore(kept)
            erase(kept, other, "u1")
            other.close()
        return act(self, *arguments)

    monkeypatch.setattr(owner, step, meanwhile)
    rebuild(kept, grace_s=0)

    assert next(times) > 2
    assert plain_report(event for event in EVENTS if event.user_id != "u1") == read_report(kept)
    held: Any = store._redis.hgetall(Keys(kept.namespace, 1).spans(shard_of("u1", SHARDS)))
    assert b"u1" not in held


def test_a_user_erased_while_the_switch_is_made_stays_erased(
    kept: Settings,
    store: GenerationStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The erasure waits for it, and takes the user out of what is live then."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    switch = GenerationStore.switch_to
    erasing = threading.Thread(target=lambda: erase(kept, other, "u1"))
    other = ErasureStore(kept)

    def meanwhile(self: GenerationStore, generation: int) -> bool:
        erasing.start()
        erasing.join(0.3)
        assert erasing.is_alive()
        return switch(self, generation)

    monkeypatch.setattr(GenerationStore, "switch_to", meanwhile)
    rebuild(kept, grace_s=0)
    erasing.join(30)
    other.close()

    assert not erasing.is_alive()
    assert plain_report(event for event in EVENTS if event.user_id != "u1") == read_report(kept)


def reshard_to_three(settings: Settings) -> None:
    """Lay the store out anew."""
    resharding = ReshardingStore(dataclasses.replace(settings, shards=None))
    reshard(dataclasses.replace(settings, shards=None), resharding, 3)
    resharding.close()


def rebuild_another(settings: Settings) -> None:
    """Rebuild it."""
    rebuild(settings, grace_s=0)


@pytest.mark.parametrize("other", [reshard_to_three, rebuild_another])
@pytest.mark.parametrize(
    ("owner", "step", "nth"),
    [
        *((BuildingStore, "begin_shard", nth) for nth in (1, 2)),
        *((BuildingStore, "commit", nth) for nth in (1, 2, 3, 4)),
        *((GenerationStore, "fence", nth) for nth in (1, 2)),
        (GenerationStore, "switch_to", 1),
    ],
)
def test_a_rebuild_whose_generation_is_gone_says_so_and_leaves_nothing(
    kept: Settings,
    store: GenerationStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    raw_redis: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    step: str,
    nth: int,
    other: Callable[[Settings], None],
) -> None:
    """Whatever it was about to do when a resharding or another rebuild dropped what it had built."""
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store, 100)
    fill_log(kept, [EVENTS[200:]])
    fold(kept, store, 100)
    act = getattr(owner, step)
    left = nth

    def overtaken(self: Any, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            monkeypatch.setattr(owner, step, act)
            other(kept)
        return act(self, *arguments)

    monkeypatch.setattr(owner, step, overtaken)
    with pytest.raises(FlyertimeError, match=r"came in between|another rebuild was begun"):
        rebuild(kept, grace_s=0)

    assert left == 0
    assert b"2" == raw_redis.hget(store.keys.layout, "generation")
    names = {name.partition(b"}:")[2] for name in raw_redis.scan_iter(f"{{{kept.namespace}:*")}
    assert not any(name.startswith((b"g1:", b"spans", b"averages", b"built", b"counted")) for name in names), names
    assert plain_report(EVENTS) == read_report(dataclasses.replace(kept, shards=None))


def test_no_commit_passes_a_fence(kept: Settings, store: GenerationStore, fill_log: Fill) -> None:
    """Nor a fence a commit, by the live books and by the generation's; who waits for it goes on when it is lifted."""
    fill_log(kept, [EVENTS])
    live = store.ledger(0)
    generation = store.begin_generation()
    building = BuildingStore(kept, generation)
    built = building.ledger(0)
    other_books = [dataclasses.replace(live, commits=7), dataclasses.replace(live, swaps=7)]
    assert [False, False] == [store.fence(books, built, generation) for books in other_books]
    assert not store.fence(live, dataclasses.replace(built, commits=7), generation)
    assert store.fence(live, built, generation)
    change = redis_shard.Change(0, store.ledger(0).commits, str(live.newest_id), live.pending, True, {}, {})

    assert redis_shard.Superseded("fenced") == store.commit(change)
    assert redis_shard.Superseded("changed") == building.commit(dataclasses.replace(change, commits=0, folded_to=""))
    assert not building.begin_shard(0, building.ledger(0).commits, 0)

    def lift() -> None:
        store.give_up_switch(generation)
        store.lift_fence(0, generation)

    lifting = threading.Timer(0.2, lift)
    lifting.start()
    waiting = GenerationStore(kept)
    assert 0 == waiting.open_ledger(0).fence
    lifting.join()
    assert not store.switch_to(generation)
    for one in (waiting, building):
        one.close()


def test_of_two_rebuilds_the_later_one_wins(
    kept: Settings,
    store: GenerationStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other one says so and changes nothing."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    fence = GenerationStore.fence
    inner: list[int] = []

    def meanwhile(self: GenerationStore, *arguments: Any) -> bool:
        if not inner:
            inner.append(0)
            inner.append(rebuild(kept, grace_s=0).generation)
        return fence(self, *arguments)

    monkeypatch.setattr(GenerationStore, "fence", meanwhile)
    with pytest.raises(FlyertimeError, match="another rebuild or a resharding came in between"):
        rebuild(kept, grace_s=0)

    assert [0, 2] == inner
    assert plain_report(EVENTS) == read_report(kept)


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
