"""What a Spark task does, in a Python worker of an executor."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_archive import ArchiveStore
from functions.core import environment
from functions.core.errors import FlyertimeError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from functions.core.settings import Settings
    from spark.folding import Folded
    from spark.planning import ShardBound


ROUNDS_A_PASS: Final = 10
"""Of one shard, where the run lingers: it then looks again, and a hot shard does not keep the others waiting."""


SHARDS_AT_ONCE: Final = 2
"""Of one task, each in a thread: while the store works for one shard, the task works on the other."""


def fold_groups(groups: Iterable[Sequence[ShardBound]]) -> Iterator[Folded]:
    """Fold groups of shards, each from its log to its commit; one that fails does not hold up the others."""
    waiting = deque(bound for group in groups for bound in group)
    settings = environment.parse(os.environ)
    turn = threading.Lock()
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as threads:
        many = min(SHARDS_AT_ONCE, len(waiting))
        folding = [threads.submit(_fold_waiting, settings, waiting, turn) for _ in range(many)]
        for some in folding:
            yield from some.result()


def _fold_waiting(settings: Settings, waiting: deque[ShardBound], turn: threading.Lock) -> list[Folded]:
    """Fold one shard after the other until none waits any more."""
    # The driver has no use for Arrow and NumPy.
    from spark.folding import Folded, fold_shard  # noqa: PLC0415
    from spark.keeping import archive_of, merge_files  # noqa: PLC0415

    most_rounds = ROUNDS_A_PASS if settings.linger_s else sys.maxsize
    folded = []
    store = ArchiveStore(settings)
    try:
        archive = archive_of(settings, store)
        while bound := _next_of(waiting):
            try:
                done = fold_shard(
                    store,
                    bound.shard,
                    bound.upto,
                    settings.round_events,
                    most_rounds,
                    archive,
                    settings.lateness_us,
                    turn,
                )
                try:
                    if archive:
                        merge_files(store, archive, bound.shard)
                except FlyertimeError as e:
                    done.error, done.retryable = e.message, isinstance(e, UnavailableError)
                folded.append(done)
            except FlyertimeError as e:
                folded.append(Folded(bound.shard, error=e.message, retryable=isinstance(e, UnavailableError)))
    except BaseException:
        waiting.clear()  # the task has failed: the other thread need not go on
        raise
    finally:
        store.close()
    return folded


def _next_of(waiting: deque[ShardBound]) -> ShardBound | None:
    try:
        return waiting.popleft()
    except IndexError:  # not asked before: the other thread may have taken the last one
        return None
