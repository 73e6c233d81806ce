"""A rebuild beside erasures, reshardings, folds and other rebuilds: what is live is right, whoever is first."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters import redis_shard
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.errors import FlyertimeError
from functions.core.shards import Keys, shard_of
from spark.erasing import erase
from spark.rebuilding import rebuild
from spark.resharding import reshard
from tests.fold_in_process import fold
from tests.spark.rebuilding.events_and_state import EVENTS, SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

    from functions.core.events import Event
    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]


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
                if ended.wait(0.02):  # what a rebuild has to read would grow as fast as it reads
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
