"""The archive in an object store, over HTTP: what is a rename on a folder of this machine is an upload there.

Google Cloud Storage is an emulator, S3 is moto's server, which checks each request's signature and what its key may do;
each is a process of its own (tests/spark/object_stores.py). FLYERTIME_TEST_ARCHIVE_URI names a folder of another
object store to run the same on, such as ``s3a://KEY:SECRET@BUCKET/FOLDER?endpoint_override=…``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.errors import UnavailableError
from functions.core.events import Event
from functions.local.valkey import free_port
from spark.archive import MissingFileError
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import merge_files, needed_archive, sweep
from spark.rebuilding import rebuild
from spark.resharding import reshard
from spark.verifying import verify_shard
from tests.fold_in_process import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from functions.core.settings import Settings
    from tests.spark.object_stores import S3Server

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

SHARDS = 2
EVENTS = [
    Event(number * 977_000_000, f"u{number % 11}", "flyer_open" if number % 2 else "page_view", f"f{number % 3}", "m")
    for number in range(400)
]


@pytest.fixture
def kept(settings: Settings, object_folder: str) -> Settings:
    """Two shards, and an archive there."""
    return dataclasses.replace(settings, shards=SHARDS, archive_uri=object_folder)


@pytest.fixture
def store(kept: Settings) -> Iterator[ErasureStore]:
    """A store that is laid out."""
    store = ErasureStore(kept)
    store.lay_out()
    yield store
    store.close()


def archived_users(settings: Settings) -> list[str]:
    """Return the user of each row that is on record, after checking that nothing else lies there and that all fits."""
    checked = CheckedStore(settings)
    archive = needed_archive(settings, checked)
    users: list[str] = []
    for shard in range(checked.shards()):
        _, files = checked.archive_books(shard)
        assert {file.path for file in files} == set(archive.paths(shard))
        assert all(file.size_bytes == archive.size_bytes(file.path) for file in files)
        users += [user for file in files for table in archive.tables(file) for user in table["user_id"].to_pylist()]
        assert [] == verify_shard(checked, archive, shard).deviations
    checked.close()
    return sorted(users)


def test_it_holds_each_folded_event_once_before_and_after_its_files_are_merged(
    kept: Settings, store: ErasureStore, fill_log: Fill
) -> None:
    """Many small rounds; then one file a shard and day."""
    fill_log(kept, [EVENTS])
    fold(kept, store, 10)
    expected = sorted(event.user_id for event in EVENTS)
    assert expected == archived_users(kept)

    for shard in range(SHARDS):
        merge_files(store, needed_archive(kept, store), shard, everything=True)
    assert expected == archived_users(kept)


def test_an_erased_user_is_in_no_object_and_not_in_a_rebuild(
    kept: Settings, store: ErasureStore, fill_log: Fill, read_report: Read, plain_report: Plain
) -> None:
    """The state comes anew from what is left, also over another number of shards."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    receipt = erase(kept, store, "u1")
    others = [event for event in EVENTS if event.user_id != "u1"]
    assert len(EVENTS) - len(others) == receipt.archived_events
    assert sorted(event.user_id for event in others) == archived_users(kept)

    rebuild(kept, grace_s=0)
    assert plain_report(others) == read_report(kept)

    wider = dataclasses.replace(kept, shards=None)
    resharding = ReshardingStore(wider)
    reshard(wider, resharding, SHARDS + 1)
    resharding.close()
    assert plain_report(others) == read_report(wider)
    assert sorted(event.user_id for event in others) == archived_users(wider)


def test_what_a_fold_that_broke_off_has_left_there_is_removed(
    kept: Settings, store: ErasureStore, fill_log: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its object was written and never put on record; the next fold writes the events again."""

    class BrokenOffError(Exception):
        """In place of a kill."""

    def broken(*_: object, **__: object) -> None:
        raise BrokenOffError

    fill_log(kept, [EVENTS])
    archive = needed_archive(kept, store)
    newest = str(store.ledger(0).newest_id)
    with monkeypatch.context() as patched:
        patched.setattr(ErasureStore, "commit", broken)
        with pytest.raises(BrokenOffError):
            fold_shard(store, 0, newest, 1000, archive=archive)
    assert 1 == len(archive.paths(0))

    fold(kept, store)
    assert 1 == len(sweep(store, archive, 0))
    assert sorted(event.user_id for event in EVENTS) == archived_users(kept)


def test_an_object_that_is_gone_is_named(kept: Settings, store: ErasureStore, fill_log: Fill) -> None:
    """And told apart from a store that does not answer."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    archive = needed_archive(kept, store)
    file, *_ = store.archive_books(0).files
    archive.remove([file.path])
    archive.remove([file.path])  # as when it is removed again after a kill

    with pytest.raises(MissingFileError, match=f"{file.path} is on record"):
        archive.rows_of(file)


def test_google_storage_that_does_not_answer_keeps_the_events_in_the_log(
    settings: Settings, fill_log: Fill, read_report: Read
) -> None:
    """Nothing leaves the log that is not in the archive; the error says what could not be done."""
    uri = f"gs://anonymous@bucket/x?endpoint_override=127.0.0.1:{free_port()}&scheme=http&retry_limit_seconds=1"
    away = dataclasses.replace(settings, shards=1, archive_uri=uri)
    store = ErasureStore(away)
    store.lay_out()
    fill_log(away, [EVENTS])
    with pytest.raises(UnavailableError, match=r"the archive gs://\S*bucket/x\S* cannot be written"):
        fold(away, store)

    assert (0, len(EVENTS)) == (store.ledger(0).folded, store.ledger(0).pending)
    assert {} == read_report(away)
    store.close()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"bucket": "other"}, "AWS Error NO_SUCH_BUCKET"),
        ({"secret": "no-such-secret"}, "AWS Error SIGNATURE_DOES_NOT_MATCH"),
        ({"key": "NOSUCHKEY"}, "AWS Error INVALID_ACCESS_KEY_ID"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_s3_that_refuses_keeps_the_events_in_the_log_and_says_why(
    settings: Settings, fill_log: Fill, read_report: Read, s3: S3Server, given: dict[str, str], reason: str
) -> None:
    """Another bucket, secret or key than there is: the error has its name, and neither key nor secret."""
    refused = dataclasses.replace(settings, shards=1, archive_uri=s3.uri("x", **given))
    store = ErasureStore(refused)
    store.lay_out()
    fill_log(refused, [EVENTS])
    with pytest.raises(UnavailableError, match=rf"the archive s3a://\S+ cannot be written: .*{reason}") as caught:
        fold(refused, store)

    assert (0, len(EVENTS)) == (store.ledger(0).folded, store.ledger(0).pending)
    assert {} == read_report(refused)
    for hidden in (s3.key, s3.secret, "no-such-secret"):
        assert hidden not in caught.value.message
    store.close()
