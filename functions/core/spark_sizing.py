"""How large a run is: a pure rule from the backlog to executors and their memory.

- A core is asked for each CORE_EVENTS pending, some seconds of folding: fewer would only wait for their start.
- No more cores than shards, where their number is set: a shard is one task's work at a time.
- Not fewer executors than FLYERTIME_EXECUTORS, not more than FLYERTIME_MAX_EXECUTORS; where that is unset, exactly the
  former. A run that lingers grows and shrinks between the two by Spark's dynamic allocation.
- Memory outside the JVM follows from the events of a round, for each core; the backlog has no part in it, since a task
  folds it round by round. So neither a long log nor a hot shard needs a larger executor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from functions.core.settings import Settings

CORE_EVENTS: Final = 1_000_000
"""Pending events that are worth a core."""
WORKER_MB: Final = 192
"""What a Python worker takes before it has read anything."""
EVENT_KB: Final = 3
"""What an event of a round may take in it, with the stored spans of its user, where two shards are folded at once;
docs/scale.md has what was measured."""
_STEP_MB: Final = 128
_LEAST_MB: Final = 512


def executors_of(pending_events: int, settings: Settings) -> int:
    """Return how many executors a run begins with."""
    fewest, most = settings.executors, settings.max_executors
    if most is None or fewest >= most:
        return fewest
    cores = -(-pending_events // CORE_EVENTS)
    if settings.shards is not None:
        cores = min(cores, settings.shards)
    return max(fewest, min(most, -(-cores // settings.executor_cores)))


def memory_overhead_of(settings: Settings) -> str:
    """Return an executor's memory outside the JVM, as Spark takes it."""
    if settings.executor_memory_overhead is not None:
        return settings.executor_memory_overhead
    needed_mb = settings.executor_cores * (WORKER_MB + settings.round_events * EVENT_KB // 1024)
    return f"{max(_LEAST_MB, -(-needed_mb // _STEP_MB) * _STEP_MB)}m"
