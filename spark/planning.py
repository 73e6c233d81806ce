"""Which task folds which shards: pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ShardBound(NamedTuple):
    """A shard with a backlog, and the last entry that this run folds: later ones are the next run's."""

    shard: int
    upto: str
    pending_events: int


def groups_of(bounds: Sequence[ShardBound], most: int) -> list[list[ShardBound]]:
    """Return at most ``most`` groups with about equal backlogs: the largest shard left goes to the smallest group.

    Fewer tasks than shards, since each starts a Python worker that imports for a tenth of a second (measured).
    """
    groups: list[list[ShardBound]] = [[] for _ in range(min(most, len(bounds)))]
    loads = [(0, number) for number in range(len(groups))]
    for bound in sorted(bounds, key=lambda bound: (-bound.pending_events, bound.shard)):
        load, number = heapq.heappop(loads)
        groups[number].append(bound)
        heapq.heappush(loads, (load + bound.pending_events, number))
    return groups
