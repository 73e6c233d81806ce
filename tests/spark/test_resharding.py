"""Another number of shards: the same report, dedupe, books and archive, whatever breaks off."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters import redis_lease, redis_shard
from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_lease import Lease
from functions.adapters.redis_resharding import ReshardingStore
from functions.adapters.redis_store import Appended, RedisStore, Seen, ShardBatch
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.shards import shard_of
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import archive_of, merge_files, needed_archive
from spark.rebuilding import rebuild
from spark.resharding import reshard
from spark.verifying import verify_shard
from tests.disturbing import Disturbance, disturbed
from tests.fold_in_process import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import redis

    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

ROOT = Path(__file__).parent.parent.parent
EVENTS = [
    Event(number * 977_000_000, f"u{number % 23}", "flyer_open", f"f{number % 3}", f"m{number % 4 % 3}")
    for number in range(400)
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is gone is not waited for long."""
    monkeypatch.setattr(redis_lease, "LEASE_S", 0.3)


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """A number of shards that the store decides, and an archive."""
    return dataclasses.replace(settings, shards=None, archive_uri=str(tmp_path / "archive"))


@pytest.fixture
def store(kept: Settings) -> Iterator[ReshardingStore]:
    """A store that is laid out with four shards."""
    first = ReshardingStore(dataclasses.replace(kept, shards=4))
    first.lay_out()
    first.close()
    store = ReshardingStore(kept)
    yield store
    store.close()


def deviations(settings: Settings) -> list[str]:
    """Verify all shards."""
    store = CheckedStore(settings)
    archive = archive_of(settings, store)
    found = [verify_shard(store, archive, shard) for shard in range(store.shards())]
    store.close()
    assert all(findings.recomputed for findings in found if archive)
    return [deviation for findings in found for deviation in findings.deviations]


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
        reader = RedisStore(kept)
        fold(kept, store)
        before = {user: value for shard in await reader.averages() for user, value in shard.averages.items()}
        reshard(kept, store, 9)
        after = await reader.averages()
        assert 9 == len(after)
        assert before == {user: value for shard in after for user, value in shard.averages.items()}
        assert (await reader.average_of("u3"))[1] == before[b"u3"]
        await reader.close()

    asyncio.run(story())


KILLED = """
import os, signal, sys
from functions.adapters import redis_lease
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.settings import parse
from spark.resharding import reshard
redis_lease.LEASE_S = 0.3
act, left = getattr(ReshardingStore, sys.argv[1]), int(sys.argv[2])
def killed(*arguments, **named):
    global left
    left -= 1
    if left:
        return act(*arguments, **named)
    if sys.argv[3] == "after":
        act(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(ReshardingStore, sys.argv[1], killed)
settings = parse(os.environ)
reshard(settings, ReshardingStore(settings), 3)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "time"),
    [
        ("let_in", 2),
        ("commit", 2),
        ("fence", 3),
        ("add_fields", 5),
        ("put_on_new_record", 4),
        ("switch_to", 1),
        ("finish_shard", 1),
        ("finish_shard", 3),
        ("end_shard", 1),
        ("drop_generation", 2),
        ("let_in", 5),
        ("let_in", 7),
    ],
)
def test_killed_at_any_step_the_same_command_completes_it(
    kept: Settings,
    store: ReshardingStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    step: str,
    time: int,
    moment: str,
) -> None:
    """The report is right at all times; in the end nothing of the old layout is left."""
    fill_log(kept, [EVENTS[start : start + 50] for start in range(0, 200, 50)])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": kept.redis_url,
        "FLYERTIME_NAMESPACE": kept.namespace,
        "FLYERTIME_ARCHIVE_URI": str(kept.archive_uri),
    }
    command = [sys.executable, "-c", KILLED, step, str(time), moment]
    killed = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert -signal.SIGKILL == killed.returncode, killed.stderr
    shown = read_report(kept)
    assert plain_report(EVENTS[:200]).keys() <= shown.keys() <= plain_report(EVENTS).keys()
    reshard(kept, store, 3)
    assert plain_report(EVENTS) == read_report(kept)
    assert [] == deviations(kept)
    assert {"shards": "3"}.items() <= store.layout().items()
    assert not {"plan", "resharding", "building"} & store.layout().keys()
    fill_log(kept, [EVENTS])
    fold(kept, store)
    assert plain_report([*EVENTS, *EVENTS]) == read_report(kept)


AT = [
    ("set_layout", 1),
    ("begin_generation", 1),
    ("add_fields", 3),
    ("switch_to", 1),
    ("finish_shard", 2),
    ("let_in", 6),
]


@pytest.mark.parametrize(("step", "time"), AT)
def test_one_is_at_work_at_a_time(
    kept: Settings,
    store: ReshardingStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    raw_redis: redis.Redis,
    step: str,
    time: int,
) -> None:
    """Whatever number another one wants, and whatever the first one is at: the other says so and changes nothing."""
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])

    def meanwhile() -> None:
        other = ReshardingStore(kept)
        for to in (3, 4, 6):
            with pytest.raises(UnavailableError, match="another resharding is at work"):
                reshard(kept, other, to)
        other.close()

    with disturbed(Disturbance((ReshardingStore, step), time, "another"), meanwhile) as happened:
        reshard(kept, store, 3)

    assert [f"another {step}"] == happened
    assert (3, plain_report(EVENTS), []) == (store.shards(), read_report(kept), deviations(kept))
    names = [name.decode() for name in raw_redis.scan_iter(f"{{{kept.namespace}*")]
    assert f"{{{kept.namespace}}}:resharder" not in names
    assert [f"{{{kept.namespace}:3}}:ledger"] == [name for name in names if name.startswith(f"{{{kept.namespace}:3}}")]


@pytest.mark.parametrize(("step", "time"), [("commit", 2), *AT[1:4]])
def test_one_that_was_held_up_while_another_one_did_its_work_leaves_that_as_it_is(
    kept: Settings,
    store: ReshardingStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    time: int,
) -> None:
    """It gave no sign for longer than its lease is good for, as one that was stopped and goes on; events come in."""
    monkeypatch.setattr(Lease, "_renew", lambda _: None)
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])

    def meanwhile() -> None:
        other = ReshardingStore(kept)
        reshard(kept, other, 6)
        other.close()

    held_up = disturbed(Disturbance((ReshardingStore, step), time, "another"), meanwhile)
    with held_up, pytest.raises(FlyertimeError, match=r"begun meanwhile|came in between"):
        reshard(kept, store, 3)

    assert (6, plain_report(EVENTS), []) == (store.shards(), read_report(kept), deviations(kept))
    assert not {"plan", "resharding", "building"} & store.layout().keys()
    fill_log(kept, [EVENTS])
    fold(kept, store)
    assert plain_report([*EVENTS, *EVENTS]) == read_report(kept)


def test_what_cannot_be_done_is_undone(
    kept: Settings, store: ReshardingStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """An unfinished backfill, a damaged entry, no archive, the same number: events come in as before."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    with pytest.raises(MisconfiguredError, match="the store has 4 shards"):
        reshard(kept, store, 4)
    with pytest.raises(MisconfiguredError, match="1 to 4096 shards"):
        reshard(kept, store, 0)
    with pytest.raises(MisconfiguredError, match="set FLYERTIME_ARCHIVE_URI"):
        reshard(dataclasses.replace(kept, archive_uri=None), store, 8)
    store.register_backfill("half", {"state": "started"})
    with pytest.raises(MisconfiguredError, match="backfills are not done: half"):
        reshard(kept, store, 8)
    store.update_backfill("half", {"state": "done"})
    entry: Any = raw_redis.xadd(store.keys.events(1), {"e": b"\x09nonsense"})
    raw_redis.hincrby(store.keys.ledger(1), "accepted", 1)
    with pytest.raises(FlyertimeError, match=f"log entry {entry.decode()}"):
        reshard(kept, store, 8)
    fill_log(kept, [EVENTS])

    assert 4 == store.shards()
    assert 401 == sum(store.ledger(shard).pending for shard in range(4))
    assert not any(store.ledger(shard).fence for shard in range(4))


INTERRUPTED = """
import os, signal, sys
from functions.adapters.redis_resharding import ReshardingStore
from spark.main import main
act = ReshardingStore.add_fields
def interrupted(*arguments):
    act(*arguments)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
ReshardingStore.add_fields = interrupted
sys.exit(main(["reshard", "--to", "3"]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_who_interrupts_it_finds_the_store_as_it_was(
    kept: Settings, store: ReshardingStore, fill_log: Fill, read_report: Read, plain_report: Plain, name: str
) -> None:
    """Ctrl-C, or the end of a pod, leaves nothing closed."""
    fill_log(kept, [EVENTS[:200]])
    environment = {**os.environ, "FLYERTIME_REDIS_URL": kept.redis_url, "FLYERTIME_NAMESPACE": kept.namespace}
    command = [sys.executable, "-c", INTERRUPTED, name]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    fill_log(kept, [EVENTS[200:]])
    fold(kept, store)

    assert (1, True) == (done.returncode, "reshard: stopped from outside" in done.stderr), done.stderr
    assert not {"plan", "resharding", "building"} & store.layout().keys()
    assert (4, plain_report(EVENTS)) == (store.shards(), read_report(kept))


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
