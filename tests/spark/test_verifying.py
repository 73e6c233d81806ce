"""Verify: it finds nothing where all is right, also while runs go on, and names whatever is not."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_erasure import ErasureStore
from functions.core import span_packing
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.shards import shard_of
from functions.core.spans import Totals, pack_totals, totals_of
from spark import verifying_spans
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import needed_archive
from spark.verify_command import report_of
from spark.verifying import verify_shard
from tests.fold_in_process import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import redis

    from functions.core.settings import Settings
    from spark.findings import Findings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Damage = Callable[[redis.Redis, CheckedStore, Path], object]

ROOT = Path(__file__).parent.parent.parent
EVENTS = [
    Event(number * 977_000_000, f"u{number % 50}", "flyer_open", f"f{number % 3}", f"m{number % 2}")
    for number in range(600)
]
USER = "u7"
SHARD = shard_of(USER, 2)


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """Two shards, and an archive."""
    return dataclasses.replace(settings, shards=2, archive_uri=str(tmp_path / "archive"))


@pytest.fixture
def store(kept: Settings) -> Iterator[CheckedStore]:
    """A store that is laid out."""
    store = CheckedStore(kept)
    store.lay_out()
    yield store
    store.close()


def verify(settings: Settings, store: CheckedStore) -> list[Findings]:
    """Verify all shards."""
    archive = needed_archive(settings, store)
    return [verify_shard(store, archive, shard) for shard in range(2)]


def deviations(found: Iterable[Findings]) -> list[str]:
    """Return what does not fit anywhere."""
    return [deviation for findings in found for deviation in findings.deviations]


def test_all_fits_after_folds_and_an_erasure(kept: Settings, store: CheckedStore, fill_log: Fill) -> None:
    """With events pending; every count is that of the events, and the spans were recomputed from the archive."""
    fill_log(kept, [EVENTS[:400]])
    fold(kept, store)
    fill_log(kept, [EVENTS[400:500], EVENTS[500:]])
    other = ErasureStore(kept)
    erase(kept, other, "u1")
    other.close()
    found = verify(kept, store)

    assert [] == deviations(found)
    assert [[], []] == [findings.notes for findings in found]
    assert all(findings.recomputed for findings in found)
    sums = {name: sum(getattr(findings, name) for findings in found) for name in ("folded", "pending", "erased")}
    assert {"folded": 400, "pending": 196, "erased": 4} == sums
    assert (49, 392) == (sum(findings.users for findings in found), sum(findings.archived for findings in found))


def on_ledger(name: str, by: int) -> Damage:
    """Return what changes a number of the books."""
    return lambda client, store, _: client.hincrby(store.keys.ledger(SHARD), name, by)


def lose_entry(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Lose an entry of the log."""
    entry_id = next(iter(store.log(SHARD, "0-0", "+")))[0]
    client.xdel(store.keys.events(SHARD), entry_id)


def change_average(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Show another number."""
    client.hset(store.keys.averages(SHARD), USER, pack_totals(Totals(1, 1, 0, 1)))


def change_ready_average(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Show another number than the seconds and sessions beside it give."""
    value = pack_totals(Totals(3600, 1, 0, 1))
    client.hset(store.keys.averages(SHARD), USER, value[:1] + (7).to_bytes(4, "little") + value[5:])


def lose_average(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Show nothing."""
    client.hdel(store.keys.averages(SHARD), USER)


def change_merchant(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Show nothing of a merchant."""
    client.hdel(store.keys.averages(SHARD, "m1"), USER)


def show_stranger(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Show a user who has no spans."""
    client.hset(store.keys.averages(SHARD, "m0"), "stranger", pack_totals(Totals(1, 1, 0, 1)))


def lose_spans(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Lose a user everywhere in the store."""
    client.hdel(store.keys.spans(SHARD), USER)
    for merchant in (None, "m0", "m1"):
        client.hdel(store.keys.averages(SHARD, merchant), USER)


def damage_spans(client: redis.Redis, store: CheckedStore, _: Path) -> None:
    """Make a user's spans unreadable."""
    client.hset(store.keys.spans(SHARD), USER, b"\x09nonsense")


def files(folder: Path) -> list[Path]:
    """Return the shard's files."""
    return sorted(folder.glob(f"*/log/shard={SHARD:04d}/*/*.parquet"))


def lose_file(_: redis.Redis, __: CheckedStore, folder: Path) -> None:
    """Lose a file."""
    files(folder)[0].unlink()


def damage_file(_: redis.Redis, __: CheckedStore, folder: Path) -> None:
    """Write something else over a file."""
    files(folder)[0].write_bytes(b"no Parquet at all")


def exchange_files(_: redis.Redis, __: CheckedStore, folder: Path) -> None:
    """Write one file over another."""
    held = files(folder)
    held[1].write_bytes(held[0].read_bytes())


def add_file(_: redis.Redis, __: CheckedStore, folder: Path) -> None:
    """Leave a file, as a killed run does."""
    file = files(folder)[0]
    (file.parent / "1-0_2-0_f0_abcdef01.parquet").write_bytes(b"half")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (on_ledger("accepted", 3), "ledger: 111 pending (accepted 351, folded 240, erased 0), but the log holds 108"),
        (on_ledger("archived", -5), "events of log by the ledger"),
        (on_ledger("folded", -5), "archive: 5 events more than were folded"),
        (lose_entry, "but the log holds"),
        (change_average, f"report: user '{USER}' has 1 s in 1 sessions, from 0 to 1 µs; the spans give"),
        (change_ready_average, f"report: user '{USER}' has 0.07 h made ready of "),
        (lose_average, f"report: user '{USER}' has no averages; the spans give"),
        (change_merchant, f"report: user '{USER}' of merchant 'm1' has no averages; the spans give"),
        (show_stranger, "report: user 'stranger' of merchant 'm0' has 1 s in 1 sessions, from 0 to 1 µs"),
        (lose_spans, f"state: user '{USER}' has no spans; the archive gives 3 spans of 10 events"),
        (damage_spans, f"state: user '{USER}': spans of format 9"),
        (lose_file, "is on record, but not in"),
        (damage_file, "cannot be read as Parquet"),
        (exchange_files, "the archive gives"),
        (add_file, "is left over from a run that was killed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_does_not_fit_is_named(
    kept: Settings,
    store: CheckedStore,
    tmp_path: Path,
    fill_log: Fill,
    raw_redis: redis.Redis,
    damage: Damage,
    said: str,
) -> None:
    """By shard, by kind, by user or file; the other shard is said to be right."""
    fill_log(kept, [EVENTS[start : start + 50] for start in range(0, 500, 50)])
    fold(kept, store)
    fill_log(kept, [EVENTS[500:], [event for event in EVENTS if shard_of(event.user_id, 2) == SHARD][:60]])
    assert [] == deviations(verify(kept, store))
    damage(raw_redis, store, tmp_path / "archive")
    found = verify(kept, store)

    assert any(said in deviation for deviation in found[SHARD].deviations), found[SHARD].deviations
    assert [] == found[1 - SHARD].deviations


def close_instead(client: redis.Redis, store: CheckedStore) -> None:
    """Make the last of a user's opens on each flyer a close, in state and report."""
    value = store.spans(SHARD, [USER.encode()])[0]
    assert value is not None
    own = span_packing.unpack_spans(value)
    for key, span in own.items():
        assert span.openings is not None
        *others, last = span.openings.tail
        own[key] = span._replace(openings=span.openings._replace(tail=(*others, last._replace(is_close=True))))
    client.hset(store.keys.spans(SHARD), USER, span_packing.pack_spans(own))
    for merchant in (None, "m1"):
        client.hset(store.keys.averages(SHARD, merchant), USER, pack_totals(totals_of(own)))


def test_a_time_from_open_to_close_that_the_archive_does_not_give_is_named(
    kept: Settings, store: CheckedStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """Where state and report agree on it."""
    kept = dataclasses.replace(kept, lateness_s=10_000_000)
    fill_log(kept, [EVENTS])
    fold(kept, store)
    close_instead(raw_redis, store)
    found = verify(kept, store)

    summary, deviation = deviations(found)
    assert "the summary of all users has " in summary
    assert f"user '{USER}' has 3 spans of 12 events; 439,650 s in 3 sessions from open to close, 6 opens" in deviation
    assert "the archive gives 3 spans of 12 events; 0 s in 0 sessions from open to close, 12 opens" in deviation


def test_a_difference_that_late_events_explain_is_counted_and_no_deviation(
    kept: Settings, store: CheckedStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """More than they explain is one."""
    kept = dataclasses.replace(kept, lateness_s=1)
    pairs = [(0, "flyer_open"), (100, "flyer_close"), (500, "flyer_open"), (50, "flyer_open"), (60, "flyer_open")]
    for at_s, name in pairs:
        fill_log(kept, [[Event(at_s * 10**6, USER, name, "f", "m1")]])
        fold(kept, store)
    found = verify(kept, store)[SHARD]
    assert ([], 0, 1, 2) == (found.deviations, found.openings_exact, found.openings_within, found.late_events)
    assert "in 1 within what their 2 late events explain" in report_of([found])

    value = store.spans(SHARD, [USER.encode()])[0]
    assert value is not None
    ((key, span),) = span_packing.unpack_spans(value).items()
    assert span.openings is not None
    assert span.openings.settled is not None
    for damaged in (
        span.openings._replace(late=1),
        span.openings._replace(settled=span.openings.settled._replace(closed_sessions=2)),
    ):
        own = {key: span._replace(openings=damaged)}
        raw_redis.hset(store.keys.spans(SHARD), USER, span_packing.pack_spans(own))
        assert any("sessions from open to close" in line for line in verify(kept, store)[SHARD].deviations)


def test_a_shard_with_more_events_than_memory_is_compared_in_parts(
    kept: Settings, store: CheckedStore, fill_log: Fill, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its users; with the same findings."""
    fill_log(kept, [EVENTS[:400], EVENTS[400:]])
    fold(kept, store)
    lose_spans(raw_redis, store, Path())
    monkeypatch.setattr(verifying_spans, "EVENTS_A_PART", 50)
    progress: list[tuple[str, int]] = []
    archive = needed_archive(kept, store)
    found = verify_shard(store, archive, SHARD, on_progress=lambda *done: progress.append(done))

    summary, missing = (line.partition(" has ")[2].partition(";")[0] for line in found.deviations)
    assert summary.startswith("24 users, ")
    assert missing == "no spans"
    assert found.recomputed
    rows = sum(number for what, number in progress if what == "archived rows")
    assert rows == found.archived * -(-found.archived // 50)
    assert found.users == sum(number for what, number in progress if what == "users")


def test_nothing_seems_wrong_while_events_come_in_and_are_folded(
    kept: Settings, store: CheckedStore, fill_log: Fill
) -> None:
    """However the reading falls between commits; in the end state and archive were compared."""
    fill_log(kept, [EVENTS])
    ended = threading.Event()
    errors: list[BaseException] = []

    def go_on() -> None:
        own = CheckedStore(kept)
        try:
            for number in range(10**6):
                if ended.is_set():
                    return
                fill_log(kept, [[event._replace(timestamp_us=number * 10**6) for event in EVENTS[:: number % 7 + 3]]])
                fold(kept, own)
        except BaseException as e:  # noqa: BLE001  # shown below
            errors.append(e)
        finally:
            own.close()

    running = threading.Thread(target=go_on)
    running.start()
    try:
        rounds = [verify(kept, store) for _ in range(15)]
    finally:
        ended.set()
        running.join(60)

    assert [] == errors
    assert [] == [deviation for found in rounds for deviation in deviations(found)]
    assert all(findings.recomputed for findings in verify(kept, store))


def test_events_folded_without_an_archive_are_counted_but_no_deviation(
    kept: Settings, store: CheckedStore, fill_log: Fill
) -> None:
    """The archive was set later: it cannot have them."""
    fill_log(kept, [EVENTS[:100]])
    for ledger in (store.ledger(shard) for shard in range(2)):
        fold_shard(store, ledger.shard, str(ledger.newest_id), 1000)
    fill_log(kept, [EVENTS[100:]])
    fold(kept, store)
    found = verify(kept, store)

    assert [] == deviations(found)
    assert 100 == sum(findings.not_archived for findings in found)
    assert all("without an archive: a rebuild is not possible" in findings.notes[0] for findings in found)


def test_the_command_prints_a_table_and_says_by_its_status_whether_all_fits(
    kept: Settings, store: CheckedStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """0 and 1; a shard that is not there is 2."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": kept.redis_url,
        "FLYERTIME_NAMESPACE": kept.namespace,
        "FLYERTIME_ARCHIVE_URI": str(kept.archive_uri),
    }

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "spark.main", "verify", *more]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    right = run()
    change_average(raw_redis, store, Path())
    wrong, quick, other, nowhere = run(), run("--quick"), run("--shard", str(1 - SHARD)), run("--shard", "2")

    statuses = [done.returncode for done in (right, wrong, quick, other, nowhere)]
    assert [0, 1, 1, 0, 2] == statuses, right.stdout + right.stderr
    assert "all fits; of 2 of 2 shards the spans were recomputed" in right.stdout
    assert f"shard {SHARD}: DEVIATION: report: user '{USER}'" in wrong.stdout
    assert f"shard {SHARD}: DEVIATION: report: the summary of all users has " in wrong.stdout
    assert "2 deviations" in wrong.stdout
    assert "the store has the shards 0 to 1" in nowhere.stderr


def test_only_a_few_of_many_deviations_of_a_kind_are_named(
    kept: Settings, store: CheckedStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """The others are counted."""
    fill_log(kept, [[event._replace(user_id=f"x{number}") for number, event in enumerate(EVENTS)]])
    fold(kept, store)
    raw_redis.delete(store.keys.averages(0, "m0"), store.keys.averages(0))
    values: Any = raw_redis.hgetall(store.keys.averages(0, "m1"))
    for user in values:
        raw_redis.hset(store.keys.averages(0), user, pack_totals(Totals(1, 1, 0, 1)))
    found = verify(kept, store)[0]

    assert 20 + 1 == len(found.deviations), "and the summary, another kind"
    assert len(values) == 20 + found.further


def test_packed_events_of_no_user_are_fine(kept: Settings, store: CheckedStore, raw_redis: redis.Redis) -> None:
    """An entry of no event at all, which an older version may have left."""
    raw_redis.xadd(store.keys.events(SHARD), {"e": pack_events([])})
    fold(kept, store)

    assert [] == deviations(verify(kept, store))
