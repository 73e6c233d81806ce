"""How large a run is."""

from __future__ import annotations

import pytest

from functions.core.settings import Settings
from functions.core.spark_sizing import CORE_EVENTS, executors_of, memory_overhead_of

GROWING = Settings(executors=2, max_executors=20, executor_cores=2)


@pytest.mark.parametrize(
    ("pending_events", "executors"),
    [
        (1, 2),
        (4 * CORE_EVENTS, 2),
        (4 * CORE_EVENTS + 1, 3),
        (12 * CORE_EVENTS, 6),
        (10**12, 20),
    ],
)
def test_executors_follow_from_the_backlog_between_their_bounds(pending_events: int, executors: int) -> None:
    """A core for each million events."""
    assert executors == executors_of(pending_events, GROWING)


def test_no_core_is_asked_for_that_would_have_no_shard() -> None:
    """Eight shards are eight tasks, whatever is pending."""
    assert 4 == executors_of(10**9, Settings(executors=1, max_executors=20, executor_cores=2, shards=8))


def test_a_fixed_number_stays_what_it_is() -> None:
    """Without a maximum nothing grows."""
    assert 3 == executors_of(10**9, Settings(executors=3))


@pytest.mark.parametrize(
    ("settings", "overhead"),
    [
        (Settings(), "1024m"),
        (Settings(executor_cores=4), "3712m"),
        (Settings(round_events=10), "512m"),
        (Settings(executor_memory_overhead="3g"), "3g"),
    ],
)
def test_memory_follows_from_rounds_and_cores(settings: Settings, overhead: str) -> None:
    """Not from the backlog; and who sets it has the last word."""
    assert overhead == memory_overhead_of(settings)
