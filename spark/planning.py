"""Which task folds which shards: pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ShardBound(NamedTuple):
    """A shard with a backlog, and the last entry that this run folds: later ones are the next run's."""

    shard: int
    upto: str
    pending_events: int


TASK_EVENTS: Final = 50_000
"""A task with fewer is not worth its start, a third of a second (measured): folding so many takes a tenth."""
LONG_TASK_EVENTS: Final = 2_000_000
"""Where tasks get larger than this there are twice as many: one that must be done again is then less to do."""


def tasks_for(pending_events: int, cores: int) -> int:
    """Return how many tasks a backlog is worth: one for each core, fewer for little work, twice as many for much.

    One for each core, since every further wave of tasks costs its start once more, whatever there is to do.
    """
    if pending_events > cores * LONG_TASK_EVENTS:
        return 2 * cores
    return max(1, min(cores, -(-pending_events // TASK_EVENTS)))


def groups_of(bounds: Sequence[ShardBound], most: int) -> list[list[ShardBound]]:
    """Return at most ``most`` groups with about equal backlogs: the largest shard left goes to the smallest group."""
    groups: list[list[ShardBound]] = [[] for _ in range(min(most, len(bounds)))]
    loads = [(0, number) for number in range(len(groups))]
    for bound in sorted(bounds, key=lambda bound: (-bound.pending_events, bound.shard)):
        load, number = heapq.heappop(loads)
        groups[number].append(bound)
        heapq.heappush(loads, (load + bound.pending_events, number))
    return groups
