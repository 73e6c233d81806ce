"""A user erased: from log, state, report, archive and quarantine, whatever goes on meanwhile or breaks off."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pytest

from functions.adapters import redis_erasure
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_quarantine import Quarantine
from functions.core import quarantine
from functions.core.errors import Fault, MisconfiguredError
from functions.core.events import Event
from functions.core.packing import unpack_events
from functions.core.shards import shard_of
from spark import erasing
from spark.archive import Archive
from spark.backfill_parts import merge_part, parts_of
from spark.erasing import Receipt, erase
from spark.keeping import needed_archive
from spark.rebuilding import rebuild
from tests.fold_in_process import fold
from tests.made_up_history import history_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import redis

    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

ROOT = Path(__file__).parent.parent.parent
EVENTS = [
    Event(number * 977_000_000, f"u{number % 5}", "flyer_open", f"f{number % 3}", f"m{number % 2}")
    for number in range(300)
]
OTHERS = [event for event in EVENTS if event.user_id != "u1"]
BOTH = ("before", "after")


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """Two shards, and an archive."""
    return dataclasses.replace(settings, shards=2, archive_uri=str(tmp_path / "archive"))


@pytest.fixture
def store(kept: Settings) -> Iterator[ErasureStore]:
    """A store that is laid out."""
    store = ErasureStore(kept)
    store.lay_out()
    yield store
    store.close()


def pending_of(store: ErasureStore) -> list[Event]:
    """Return what is in the log, after checking that the books say the same."""
    found: list[Event] = []
    for shard in range(2):
        events = [event for _, entry in store.log(shard, "0-0", "+") for event in unpack_events(entry)]
        ledger = store.ledger(shard)
        assert ledger.accepted == ledger.folded + len(events) + ledger.erased
        found += events
    return found


def archived_users(settings: Settings, store: ErasureStore) -> dict[str, int]:
    """Return the rows of each user in the archive, after checking that the books say as many."""
    archive = needed_archive(settings, store)
    counts: dict[str, int] = {}
    for shard in range(2):
        ledger, files = store.archive_books(shard)
        rows = 0
        for table in (table for file in files for table in archive.tables(file)):
            for row in pc.value_counts(table["user_id"]).to_pylist():
                counts[row["values"]] = counts.get(row["values"], 0) + row["counts"]
                rows += row["counts"]
        assert ledger.archived == rows == sum(file.events for file in files)
        assert ledger.folded == ledger.archived + ledger.archived_erased
        assert {file.path for file in files} == set(archive.paths(shard))
    return counts


def test_a_user_is_in_no_store_afterwards_and_a_second_time_there_is_nothing(
    kept: Settings, store: ErasureStore, fill_log: Fill, read_report: Read, plain_report: Plain, raw_redis: redis.Redis
) -> None:
    """Folded, archived, pending and quarantined; the receipt counts each, and no byte of Redis has the name."""
    name = "someone@example.com"
    events = [event._replace(user_id=name) if event.user_id == "u1" else event for event in EVENTS]
    fill_log(kept, [events[:100], events[100:200]])
    fold(kept, store)
    fill_log(kept, [events[200:250], events[250:]])

    async def reject() -> int:
        held = Quarantine(kept)
        record = quarantine.new_record([Fault("bad_type", "/event", "no text")], {"user_id": name, "event": 7})
        await held.add([(record, quarantine.packed(record))])
        events = (await held.books()).events
        await held.close()
        return events

    assert 1 == asyncio.run(reject())
    before = store.ledger(shard_of(name, 2)).version
    receipt, again = erase(kept, store, name), erase(kept, store, name)

    assert (20, 40, 3) == (receipt.pending_events, receipt.archived_events, receipt.report_averages)
    assert (6, 40, 1) == (receipt.state_spans, receipt.state_events, receipt.quarantined_events)
    assert before < receipt.report_version == store.ledger(receipt.shard).version
    assert Receipt(name, receipt.shard, report_version=receipt.report_version) == again
    assert sorted(event for event in events[200:] if event.user_id != name) == sorted(pending_of(store))
    assert {"u0": 40, "u2": 40, "u3": 40, "u4": 40} == archived_users(kept, store)
    assert plain_report(event for event in events[:200] if event.user_id != name) == read_report(kept)
    for key in raw_redis.scan_iter(f"{{{kept.namespace}*"):
        assert name.encode() not in (raw_redis.dump(key) or b"") + key
    fold(kept, store)
    assert plain_report(event for event in events if event.user_id != name) == read_report(kept)
    assert (0, 20) == (len(pending_of(store)), sum(store.ledger(shard).erased for shard in range(2)))


def test_a_user_of_history_is_erased_from_its_files_too_and_not_in_a_rebuild(
    kept: Settings, store: ErasureStore, fill_log: Fill, read_report: Read, plain_report: Plain
) -> None:
    """The receipt tells history from log; other users' history stays."""
    archive = needed_archive(kept, store)
    for shard, part in parts_of(history_of(EVENTS[:200], 2).to_batches(), 1000):
        merge_part(store, "old", shard, part, None, archive)
    fill_log(kept, [EVENTS[200:]])
    fold(kept, store)
    receipt = erase(kept, store, "u1")
    rebuild(kept, grace_s=0)
    files = [file for shard in range(2) for file in store.archive_books(shard).files if file.backfill]
    users = {user for file in files for table in archive.tables(file) for user in table["user_id"].to_pylist()}

    assert (40, 20) == (receipt.archived_history_events, receipt.archived_events)
    assert {"u0", "u2", "u3", "u4"} == users
    assert (160, 160) == (sum(file.events for file in files), sum(store.ledger(n).history_archived for n in range(2)))
    assert plain_report(OTHERS) == read_report(kept)


def test_log_entries_keep_their_ids_and_order(
    kept: Settings, store: ErasureStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """Entries without the user are as they were, one of the user alone is gone, and what comes later comes after."""
    shard = shard_of("u1", 2)
    others = [event for event in OTHERS if shard_of(event.user_id, 2) == shard]
    mine = [event for event in EVENTS if event.user_id == "u1"]
    fill_log(kept, [others[:3], [*others[3:5], mine[0]], mine[1:4]])
    before = list(store.log(shard, "0-0", "+"))
    last: Any = raw_redis.xinfo_stream(store.keys.events(shard))
    erase(kept, store, "u1")
    after = list(store.log(shard, "0-0", "+"))

    assert before[0] == after[0]
    assert [before[0][0], before[1][0]] == [entry_id for entry_id, _ in after]
    assert others[3:5] == unpack_events(after[1][1])
    now: Any = raw_redis.xinfo_stream(store.keys.events(shard))
    assert last["last-generated-id"] == now["last-generated-id"]


def test_a_log_with_nothing_left_stays_where_it_was(
    kept: Settings, store: ErasureStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """Later entries come after those that were, whatever the clock does."""
    shard = shard_of("u1", 2)
    raw_redis.xadd(store.keys.events(shard), {"e": b"x"}, id="99999999999999-7")
    raw_redis.xtrim(store.keys.events(shard), maxlen=0)
    fill_log(kept, [[event for event in EVENTS if event.user_id == "u1"]])
    erase(kept, store, "u1")
    assert [] == list(store.log(shard, "0-0", "+"))
    fill_log(kept, [[EVENTS[1]]])

    assert ["99999999999999-9"] == [entry_id for entry_id, _ in store.log(shard, "0-0", "+")]


def test_a_fold_that_had_read_the_user_commits_nothing_of_it(
    kept: Settings,
    store: ErasureStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Erased between a run's reading and its commit: the run reads again, and its file with the user goes."""
    fill_log(kept, [EVENTS])
    commit = ErasureStore.commit
    receipts: list[Receipt] = []

    def late(self: ErasureStore, change: Any) -> Any:
        if not receipts and change.shard == shard_of("u1", 2):
            other = ErasureStore(kept)
            receipts.append(erase(kept, other, "u1"))
            other.close()
        return commit(self, change)

    monkeypatch.setattr(ErasureStore, "commit", late)
    fold(kept, store, 1000)

    assert [60] == [receipt.pending_events for receipt in receipts]
    assert plain_report(OTHERS) == read_report(kept)
    assert {"u0": 60, "u2": 60, "u3": 60, "u4": 60} == archived_users(kept, store)


ERASURE_STEPS = ("begin_log", "copy_log", "finish_log", "erase_state", "swap_files", "forget_erased")


class BrokenOffError(Exception):
    """In place of a kill: what is outside is as a kill leaves it."""


@pytest.mark.parametrize(
    ("owner", "step", "when"),
    [
        *((ErasureStore, step, when) for step in ERASURE_STEPS for when in BOTH),
        *((Archive, step, when) for step in ("rewrite", "remove") for when in BOTH),
        (Quarantine, "erase_user", "before"),
    ],
)
def test_an_erasure_that_breaks_off_is_completed_by_another(
    kept: Settings,
    store: ErasureStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    step: str,
    when: str,
) -> None:
    """Before or after each of its steps; the second one's receipt has what the first one took out."""
    monkeypatch.setattr(redis_erasure, "LEASE_S", 0.01)
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])
    act = getattr(owner, step)

    def broken(*arguments: Any, **named: Any) -> Any:
        if when == "after":
            act(*arguments, **named)
        raise BrokenOffError

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, broken)
        with pytest.raises(BrokenOffError):
            erase(kept, store, "u1")
    receipt = erase(kept, store, "u1")

    forgotten = (step, when) == ("forget_erased", "after")  # since its receipt had been given
    nothing = step in {"begin_log", "copy_log"} or (step, when) == ("finish_log", "before")
    told = (receipt.pending_events, receipt.state_events, receipt.archived_events)
    assert ((0, 0, 0) if forgotten else (20, 40, 40)) == told
    assert receipt.resumed == (not forgotten and not nothing)
    assert "u1" not in {event.user_id for event in pending_of(store)}
    assert {"u0": 40, "u2": 40, "u3": 40, "u4": 40} == archived_users(kept, store)
    fold(kept, store)
    assert plain_report(OTHERS) == read_report(kept)


def test_the_command_prints_a_receipt(kept: Settings, store: ErasureStore, fill_log: Fill) -> None:
    """As JSON; without the archive's address it changes nothing and says so."""
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])
    environment = {**os.environ, "FLYERTIME_REDIS_URL": kept.redis_url, "FLYERTIME_NAMESPACE": kept.namespace}
    command = [sys.executable, "-m", "spark.main", "erase", "u1"]

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**environment, **more}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    refused = run()
    assert (2, "") == (refused.returncode, refused.stdout)
    assert "set FLYERTIME_ARCHIVE_URI as the runs have it" in refused.stderr
    assert 100 == len(pending_of(store))
    done = run(FLYERTIME_ARCHIVE_URI=str(kept.archive_uri))
    receipt = json.loads(done.stdout)

    assert 0 == done.returncode, done.stderr
    assert ("u1", 20, 40, 40) == tuple(
        receipt[name] for name in ("user_id", "pending_events", "state_events", "archived_events")
    )
    assert "u1" not in done.stderr


def test_an_empty_store_has_nobody(settings: Settings) -> None:
    """A wrong namespace is told, rather than a receipt of zeros."""
    store = ErasureStore(settings)
    with pytest.raises(MisconfiguredError, match="no pipeline"):
        erasing.erase(settings, store, "u1")
    store.close()
