"""What a Spark task does, in a Python worker of an executor."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_archive import ArchiveStore
from functions.core import settings as settings_
from functions.core.errors import FlyertimeError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from spark.folding import Folded
    from spark.planning import ShardBound


ROUNDS_A_PASS: Final = 10
"""Of one shard, where the run lingers: it then looks again, and a hot shard does not keep the others waiting."""


def fold_groups(groups: Iterable[Sequence[ShardBound]]) -> Iterator[Folded]:
    """Fold groups of shards, each from its log to its commit; one that fails does not hold up the others."""
    # The driver has no use for Arrow and NumPy.
    from spark.folding import Folded, fold_shard  # noqa: PLC0415
    from spark.keeping import archive_of, merge_files  # noqa: PLC0415

    settings = settings_.parse(os.environ)
    most_rounds = ROUNDS_A_PASS if settings.linger_s else sys.maxsize
    store = ArchiveStore(settings)
    try:
        archive = archive_of(settings, store)
        for bound in (bound for group in groups for bound in group):
            try:
                done = fold_shard(
                    store, bound.shard, bound.upto, settings.round_events, most_rounds, archive, settings.lateness_us
                )
                try:
                    if archive:
                        merge_files(store, archive, bound.shard)
                except FlyertimeError as e:
                    done.error, done.retryable = e.message, isinstance(e, UnavailableError)
                yield done
            except FlyertimeError as e:
                yield Folded(bound.shard, error=e.message, retryable=isinstance(e, UnavailableError))
    finally:
        store.close()
