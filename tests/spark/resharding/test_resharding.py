"""Another number of shards: the same report, dedupe, books and archive, whatever breaks off."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters import redis_shard
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_report import ReportStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.adapters.redis_store import Appended, RedisStore, Seen, ShardBatch
from functions.core.errors import UnavailableError
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.shards import shard_of
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import merge_files, needed_archive
from spark.rebuilding import rebuild
from spark.resharding import reshard
from tests.fold_in_process import fold
from tests.spark.resharding.laid_out_anew import EVENTS, ROOT, deviations
from tests.stored_averages import averages_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import redis

    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]


@pytest.mark.parametrize("to", [1, 2, 3, 5, 8, 16])
def test_the_report_the_books_and_the_archive_are_the_same(
    kept: Settings, store: ReshardingStore, fill_log: Fill, read_report: Read, plain_report: Plain, to: int
) -> None:
    """More or fewer, multiples or not; then events come in, are folded, erased, merged and rebuilt as ever."""
    fill_log(kept, [EVENTS[:100], EVENTS[100:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:250]])
    before = [store.ledger(shard) for shard in range(4)]
    done = reshard(kept, store, to)

    assert (4, to, 50, to) == (done.before, done.after, done.folded_events, store.shards())
    assert plain_report(EVENTS[:250]) == read_report(kept)
    assert [] == deviations(kept)
    after = [store.ledger(shard) for shard in range(to)]
    assert sum(ledger.accepted for ledger in before) == sum(ledger.accepted for ledger in after) == 250
    assert all(ledger.accepted == ledger.folded + ledger.erased for ledger in after)
    fill_log(kept, [EVENTS[250:]])
    fold(kept, store)
    assert plain_report(EVENTS) == read_report(kept)
    for shard in range(to):
        merge_files(store, needed_archive(kept, store), shard, everything=True)
    erasing = ErasureStore(kept)
    erase(kept, erasing, "u1")
    erasing.close()
    others = [event for event in EVENTS if event.user_id != "u1"]
    assert plain_report(others) == read_report(kept)
    rebuild(kept, grace_s=0)
    assert plain_report(others) == read_report(kept)
    assert [] == deviations(kept)
    reshard(kept, store, 4)
    assert plain_report(others) == read_report(kept)
    assert [] == deviations(kept)


def test_a_store_without_an_archive_is_laid_out_too(
    kept: Settings, fill_log: Fill, read_report: Read, plain_report: Plain, store: ReshardingStore
) -> None:
    """State and report are copied."""
    bare = dataclasses.replace(kept, archive_uri=None)
    fill_log(bare, [EVENTS])
    reshard(bare, store, 7)

    assert plain_report(EVENTS) == read_report(bare)
    assert [] == deviations(bare)


def batch_of(numbers: Sequence[int], shards: int) -> list[ShardBatch]:
    """Return batches with an event, and its digest, for each number."""
    batches = []
    for shard in range(shards):
        of_shard = [number for number in numbers if shard_of(f"u{number}", shards) == shard]
        if of_shard:
            events = [Event(number, f"u{number}", "flyer_open", "f", "m") for number in of_shard]
            digests = [number.to_bytes(12, "big") for number in of_shard]
            batches.append(ShardBatch(shard, pack_events(events), len(events), digests))
    return batches


@pytest.mark.parametrize("to", [2, 6, 8])
def test_who_counted_the_shards_before_is_told_to_try_again_and_repeats_are_known(
    kept: Settings, store: ReshardingStore, to: int
) -> None:
    """Ingest with the number that was: nothing of it is accepted, and its next request goes by the new one."""
    numbers = range(40)
    window = store.now_ms() // 1000 // kept.dedupe_window_s

    async def story() -> None:
        ingest = RedisStore(kept)
        first = await ingest.append(batch_of(numbers, await ingest.shards()), window)
        assert all(isinstance(answer, Appended) for answer in first)
        reshard(kept, store, to)
        stale = await ingest.append(batch_of(range(40, 50), 4), window)
        assert {"resharding"} == {answer.code for answer in stale if isinstance(answer, UnavailableError)}
        assert not any(isinstance(answer, Appended | Seen) for answer in stale)
        assert to == await ingest.shards()
        again = await ingest.append(batch_of(numbers, to), window)
        seen = sum(len(answer.positions) for answer in again if isinstance(answer, Seen))
        assert 40 == seen
        fresh = await ingest.append(batch_of(range(40, 50), to), window)
        assert all(isinstance(answer, Appended) for answer in fresh)
        ledgers = await ingest.ledgers()
        assert (50, 40, 10) == (
            sum(ledger.accepted for ledger in ledgers),
            sum(ledger.folded for ledger in ledgers),
            sum(ledger.pending for ledger in ledgers),
        )
        await ingest.close()

    asyncio.run(story())


def test_a_reader_follows_the_new_layout(kept: Settings, store: ReshardingStore, fill_log: Fill) -> None:
    """Also one that has counted the shards before."""
    fill_log(kept, [EVENTS])

    async def story() -> None:
        reader = ReportStore(kept)
        fold(kept, store)
        before = {user: value for averages in await averages_in(reader) for user, value in averages.items()}
        reshard(kept, store, 9)
        after = await averages_in(reader)
        assert 9 == len(after)
        assert before == {user: value for averages in after for user, value in averages.items()}
        assert await reader.value_of("u3", None) == before[b"u3"]
        await reader.close()

    asyncio.run(story())


def test_nothing_else_works_on_shards_that_are_being_laid_out_anew(
    kept: Settings, store: ReshardingStore, fill_log: Fill
) -> None:
    """Erasures, rebuilds, verifications and merges say so and change nothing."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    store.set_layout(resharding=8)
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": kept.redis_url,
        "FLYERTIME_NAMESPACE": kept.namespace,
        "FLYERTIME_ARCHIVE_URI": str(kept.archive_uri),
    }
    before = [store.archive_books(shard) for shard in range(4)]
    for command in (["erase", "u1"], ["rebuild"], ["verify"], ["archive", "compact"]):
        done = subprocess.run(
            [sys.executable, "-m", "spark.main", *command],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (75, True) == (done.returncode, "being laid out with 8 shards" in done.stderr), command
    assert before == [store.archive_books(shard) for shard in range(4)]


def test_a_run_that_waits_for_a_resharding_does_not_break_it_off(
    kept: Settings,
    store: ReshardingStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a while it says that it must wait, and leaves what it has for another run."""
    monkeypatch.setattr(redis_shard, "FENCE_S", 0.05)
    fill_log(kept, [EVENTS])
    act = ReshardingStore.switch_to

    def meanwhile(self: ReshardingStore, generation: int, shards: int | None = None) -> bool:
        other = ReshardingStore(kept)
        with pytest.raises(UnavailableError, match="being laid out with 3 shards"):
            fold_shard(other, 0, "9-9", 100)
        other.close()
        return act(self, generation, shards)

    monkeypatch.setattr(ReshardingStore, "switch_to", meanwhile)
    reshard(kept, store, 3)

    assert (3, plain_report(EVENTS)) == (store.shards(), read_report(kept))


def test_an_erasure_that_a_resharding_overtakes_says_so(
    kept: Settings, store: ReshardingStore, fill_log: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looking for the user where the old number has it; started again, it looks at the new place."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    act = ErasureStore.erase_state

    def overtaken(self: ErasureStore, *arguments: Any) -> Any:
        monkeypatch.undo()
        reshard(kept, store, 3)
        return act(self, *arguments)

    monkeypatch.setattr(ErasureStore, "erase_state", overtaken)
    erasing = ErasureStore(kept)
    with pytest.raises(UnavailableError, match="laid out anew meanwhile"):
        erase(kept, erasing, "u1")
    erase(kept, erasing, "u1")
    erasing.close()

    assert [None] == store.spans(shard_of("u1", 3), [b"u1"])
    assert [] == deviations(kept)


def test_an_erasure_broken_off_before_it_is_told_in_the_receipt_after_it(
    kept: Settings, store: ReshardingStore, fill_log: Fill, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the user is by then; nothing of it is left in any shard."""
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])
    mine = [event for event in EVENTS if event.user_id == "u1"]
    pending = sum(event.user_id == "u1" for event in EVENTS[200:])
    erasing = ErasureStore(kept)

    def broken(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ErasureStore, "swap_files", broken)
        with pytest.raises(KeyboardInterrupt):
            erase(kept, erasing, "u1")
    reshard(kept, store, 3)
    receipt = erase(kept, erasing, "u1")
    again = erase(kept, erasing, "u1")
    erasing.close()

    assert (True, pending) == (receipt.resumed, receipt.pending_events)
    assert len(mine) == receipt.pending_events + receipt.archived_events
    assert (False, 0) == (again.resumed, again.pending_events)
    assert [] == [key for key in raw_redis.scan_iter(f"{{{kept.namespace}*") if b"eras" in key]


def test_the_command_says_what_it_did(kept: Settings, store: ReshardingStore, fill_log: Fill) -> None:
    """In a line."""
    fill_log(kept, [EVENTS])
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": kept.redis_url,
        "FLYERTIME_NAMESPACE": kept.namespace,
        "FLYERTIME_ARCHIVE_URI": str(kept.archive_uri),
    }
    command = [sys.executable, "-m", "spark.main", "reshard", "--to", "8"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert 0 == done.returncode, done.stderr
    assert "4 shards became 8: 400 pending events folded, " in done.stdout
    assert 8 == store.shards()
