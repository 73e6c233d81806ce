"""The archive beside a fold, without Spark around it: small files merged, an archive that is away, history's parts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_generations import GenerationStore
from functions.core.archive import FAN, ArchivedFile
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.local.valkey import free_port
from spark.archive import Archive, MissingFileError
from spark.folding import fold_shard
from spark.keeping import archive_of, left_over, merge_files, needed_archive, sweep
from spark.main import main
from spark.running import bounds_of
from spark.tasks import fold_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from functions.core.settings import Settings

EVENTS = [
    Event(number * 977_000_000, f"u{number % 7}", "flyer_open" if number % 2 else "page_view", f"f{number % 3}", None)
    for number in range(300)
]


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """One shard, and an archive."""
    return dataclasses.replace(settings, shards=1, archive_uri=f"file://{tmp_path}/archive")


@pytest.fixture
def store(kept: Settings) -> Iterator[ArchiveStore]:
    """A store that is laid out."""
    store = ArchiveStore(kept)
    store.lay_out()
    yield store
    store.close()


def fold(store: ArchiveStore, archive: Archive, round_events: int) -> None:
    """Fold the one shard."""
    fold_shard(store, 0, str(store.ledger(0).newest_id), round_events, archive=archive)


def users_in(archive: Archive, files: Iterable[ArchivedFile]) -> list[str]:
    """Return the user of each row, in the order of files and rows."""
    return [user for file in files for table in archive.tables(file) for user in table["user_id"].to_pylist()]


def test_small_files_are_merged_and_hold_the_same_in_the_same_order(
    kept: Settings, store: ArchiveStore, fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """As many rounds as are worth merging; then one file is on record, and no other is in the folder."""
    archive = needed_archive(kept, store)
    fill_log(kept, [[event] for event in EVENTS[: FAN - 1]])
    fold(store, archive, 1)
    assert 0 == merge_files(store, archive, 0)
    fill_log(kept, [EVENTS[FAN - 1 :]])
    fold(store, archive, 1000)
    before = store.archive_books(0)
    assert len(before.files) == FAN
    merge_files(store, archive, 0)  # the last file is the largest by far: the day that goes on leaves it
    merge_files(store, archive, 0, everything=True)
    after = store.archive_books(0)

    (file,) = after.files
    assert [event.user_id for event in EVENTS] == users_in(archive, [file])
    assert [file.path] == archive.paths(0)
    assert (300, before.files[0].first, before.files[-1].last) == (file.events, file.first, file.last)
    assert file.size_bytes == archive.size_bytes(file.path) > 0
    assert (300, 300) == (after.ledger.folded, after.ledger.archived)


def test_a_run_merges_what_it_has_written_and_the_command_what_is_left(
    kept: Settings,
    store: ArchiveStore,
    tmp_path: Path,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A task does so behind its last round; `flyertime archive compact` says how much that was, and what there is."""
    archive = needed_archive(kept, store)
    fields = {"REDIS_URL": kept.redis_url, "NAMESPACE": kept.namespace, "ARCHIVE_URI": str(kept.archive_uri)}
    for name, value in {**fields, "ROUND_EVENTS": "1"}.items():
        monkeypatch.setenv(f"FLYERTIME_{name}", value)
    fill_log(kept, [[event] for event in EVENTS[:FAN]])
    assert [(FAN, "")] == [(done.rounds, done.error) for done in fold_groups([bounds_of(kept)])]
    (merged,) = store.archive_books(0).files
    fill_log(kept, [EVENTS[FAN:40]])
    fold(store, archive, 1000)
    (file,) = tmp_path.rglob("*_s0_*.parquet")
    (file.parent / "1-0_2-0_f0_ab.parquet").touch()  # as a killed run leaves it

    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert FAN == merged.events
    assert 0 == main(["archive", "compact"])
    assert "2 files merged, 1 left-over ones deleted; 1 files, 40 events, " in capsys.readouterr().out
    assert [event.user_id for event in EVENTS[:40]] == users_in(archive, store.archive_books(0).files)


def test_runs_merge_no_files_while_a_rebuild_reads_them(
    kept: Settings, store: ArchiveStore, fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """It would begin that shard again; one that was given up holds up nobody."""
    archive = needed_archive(kept, store)
    fill_log(kept, [[event] for event in EVENTS[:FAN]])
    fold(store, archive, 1)
    rebuilding = GenerationStore(kept)
    generation = rebuilding.begin_generation()
    meanwhile = merge_files(store, archive, 0)
    rebuilding.give_up_switch(generation)
    rebuilding.close()

    assert [0, FAN] == [meanwhile, merge_files(store, archive, 0)]


def test_a_file_says_when_its_events_were_received(
    kept: Settings, store: ArchiveStore, fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """By the store's clock, as the log has it; an event's own time and nulls are kept as they are."""
    archive = needed_archive(kept, store)
    fill_log(kept, [EVENTS[:3], EVENTS[3:5]])
    ids = [entry_id for entry_id, _ in store.log(0, "0-0", "+")]
    fold(store, archive, 1000)
    (file,) = store.archive_books(0).files
    rows = [row for table in archive.tables(file) for row in table.to_pylist()]

    received_ms = [round(row["received_at"].timestamp() * 1000) for row in rows]
    assert [int(ids[n // 3].partition("-")[0]) for n in range(5)] == received_ms
    assert f"/day={rows[0]['received_at']:%Y-%m-%d}/" in file.path
    assert dt.datetime(1970, 1, 1, 0, 16, 17, tzinfo=dt.UTC) == rows[1]["timestamp"]
    assert [None] * 5 == [row["merchant_id"] for row in rows]


def test_merging_that_breaks_off_leaves_what_was_and_a_file_to_sweep(
    kept: Settings,
    store: ArchiveStore,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the new file and its record, and between the record and the old files' end."""
    archive = needed_archive(kept, store)
    fill_log(kept, [[event] for event in EVENTS[:10]])
    fold(store, archive, 1)

    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveStore, "swap_files", killed)
        with pytest.raises(KilledError):
            merge_files(store, archive, 0, everything=True)
    before = store.archive_books(0).files
    assert (10, 11, []) == (len(before), len(archive.paths(0)), left_over(store, 0, archive.paths(0)))
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "remove", killed)
        with pytest.raises(KilledError):
            merge_files(store, archive, 0, everything=True)
    (file,) = store.archive_books(0).files
    assert [event.user_id for event in EVENTS[:10]] == users_in(archive, [file])
    assert 11 == len(sweep(store, archive, 0))
    assert [file.path] == archive.paths(0)


@pytest.mark.parametrize("rows", [1, 4, 5, 7])
def test_files_of_any_number_of_row_groups_are_merged(
    kept: Settings,
    store: ArchiveStore,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    """Full ones, a last one that is not, and a last one that is."""
    monkeypatch.setattr("spark.archive.ROWS_A_GROUP", rows)
    archive = needed_archive(kept, store)
    fill_log(kept, [EVENTS[:10], EVENTS[10:20]])
    fold(store, archive, 10)
    merge_files(store, archive, 0, everything=True)
    (file,) = store.archive_books(0).files

    assert [event.user_id for event in EVENTS[:20]] == users_in(archive, [file])
    kept_rows = archive.rewrite([file], 9, lambda table: table.slice(0, 0))
    assert (0, 0) == (kept_rows.rows, kept_rows.events)


def test_nothing_is_folded_while_the_archive_is_away(
    kept: Settings, store: ArchiveStore, tmp_path: Path, fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """The log keeps what the archive does not take; it says which archive, and that later may be better."""
    (tmp_path / "archive").write_text("a file where the folder should be")
    fill_log(kept, [EVENTS])
    with pytest.raises(UnavailableError, match=r"the archive file://.*/archive cannot be written"):
        fold(store, needed_archive(kept, store), 1000)
    assert (0, 300) == (store.ledger(0).folded, store.ledger(0).pending)
    (tmp_path / "archive").unlink()
    fold(store, needed_archive(kept, store), 1000)

    assert (300, 0) == (store.ledger(0).archived, store.ledger(0).pending)


def test_a_file_on_record_that_is_gone_is_named(
    kept: Settings, store: ArchiveStore, fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """By its path, and where it should be."""
    archive = needed_archive(kept, store)
    fill_log(kept, [EVENTS])
    fold(store, archive, 1000)
    (file,) = store.archive_books(0).files
    archive.remove([file.path])

    with pytest.raises(MissingFileError, match=f"{file.path} is on record"):
        archive.rows_of(file)


def test_without_the_setting_there_is_no_archive(settings: Settings, store: ArchiveStore) -> None:
    """Commands that need one say so; an address that cannot be opened is named without its password."""
    assert archive_of(settings, store) is None
    with pytest.raises(MisconfiguredError, match="FLYERTIME_ARCHIVE_URI is not set"):
        needed_archive(settings, store)
    with pytest.raises(MisconfiguredError, match=r"nosuch://host/x") as caught:
        Archive("nosuch://me:secret@host/x", "ft", "p")
    assert "secret" not in caught.value.message


def test_an_object_store_that_does_not_answer_is_told_with_what_its_client_says() -> None:
    """Which operation, and why; not the key."""
    address = f"127.0.0.1:{free_port()}"
    uri = f"s3a://me:secret@bucket/folder?endpoint_override={address}&scheme=http&region=us-east-1"
    with pytest.raises(
        UnavailableError, match=r"s3a://bucket/folder.* cannot be listed: .*NETWORK_CONNECTION"
    ) as caught:
        Archive(uri, "ft", "p").paths(0)
    assert "secret" not in caught.value.message
