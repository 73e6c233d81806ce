"""The archive and the operator's commands where the store is a Redis Cluster: each shard on a node of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.events import Event
from functions.core.settings import Settings
from spark.backfill_parts import merge_part, parts_of
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import merge_files, needed_archive, sweep
from spark.rebuilding import rebuild
from spark.resharding import reshard
from spark.verifying import verify_shard
from tests.made_up_history import history_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from functions.adapters.redis_archive import ArchiveStore
    from tests.redis_cluster import EmbeddedCluster

EVENTS = [
    Event(number * 977_000_000, f"u{number % 23}", "flyer_open", f"f{number % 3}", f"m{number % 2}")
    for number in range(400)
]


def fold(settings: Settings, store: ArchiveStore) -> None:
    """Fold what is pending."""
    archive = needed_archive(settings, store)
    for ledger in (store.ledger(shard) for shard in range(store.shards())):
        if ledger.newest_id is not None:
            fold_shard(store, ledger.shard, ledger.newest_id, 40, archive=archive)


def test_all_of_it_is_the_same_on_a_cluster(
    redis_cluster: EmbeddedCluster,
    tmp_path: Path,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Folded, merged, history counted, erased, rebuilt, resharded: the report is right at each step, verify agrees."""
    settings = Settings(redis_url=redis_cluster.url, namespace="history", archive_uri=str(tmp_path))
    store = ReshardingStore(settings)
    store.lay_out()
    archive = needed_archive(settings, store)

    def check(events: list[Event]) -> None:
        assert plain_report(events) == read_report(settings)
        checked = CheckedStore(settings)
        found = [verify_shard(checked, archive, shard) for shard in range(checked.shards())]
        checked.close()
        assert [] == [deviation for findings in found for deviation in findings.deviations]
        assert all(findings.recomputed for findings in found)

    fill_log(settings, [EVENTS[:100], EVENTS[100:300]])
    fold(settings, store)
    for shard in range(store.shards()):
        merge_files(store, archive, shard, everything=True)
        assert [] == sweep(store, archive, shard)
    check(EVENTS[:300])
    store.register_backfill("old", {"state": "started"})
    for shard, part in parts_of(history_of(EVENTS[300:], store.shards()).to_batches(), 1000):
        merge_part(store, "old", shard, part, settings.lateness_us, archive)
    store.update_backfill("old", {"state": "done"})
    check(EVENTS)
    fill_log(settings, [EVENTS[300:]])
    erasing = ErasureStore(settings)
    receipt = erase(settings, erasing, "u5")
    erasing.close()
    others, more = ([event for event in some if event.user_id != "u5"] for some in (EVENTS, EVENTS[300:]))
    assert (13, 5, 5) == (receipt.archived_events, receipt.archived_history_events, receipt.pending_events)
    check(others)
    assert 1 == rebuild(settings, grace_s=0).generation
    assert 5 == reshard(settings, store, 5).after
    check([*others, *more])
    store.close()
