"""Which task folds which shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark.planning import LONG_TASK_EVENTS, TASK_EVENTS, ShardBound, groups_of, tasks_for

BACKLOGS = st.lists(st.integers(1, 1000), max_size=40)


@given(BACKLOGS, st.integers(1, 20))
def test_every_shard_is_in_exactly_one_group(backlogs: list[int], most: int) -> None:
    """No shard is forgotten, none folded twice, no group is empty."""
    bounds = [ShardBound(shard, "1-0", events) for shard, events in enumerate(backlogs)]
    groups = groups_of(bounds, most)

    assert sorted(bounds) == sorted(bound for group in groups for bound in group)
    assert len(groups) == min(most, len(bounds))
    assert all(groups)


@given(BACKLOGS.filter(bool), st.integers(1, 20))
def test_no_group_is_much_larger_than_it_must_be(backlogs: list[int], most: int) -> None:
    """The largest is at most twice what no plan could stay below (Graham's bound for lists)."""
    bounds = [ShardBound(shard, "1-0", events) for shard, events in enumerate(backlogs)]
    loads = [sum(bound.pending_events for bound in group) for group in groups_of(bounds, most)]
    best = max(*backlogs, sum(backlogs) / most)

    assert max(loads) <= 2 * best


@pytest.mark.parametrize(
    ("pending_events", "tasks"),
    [
        (1, 1),
        (TASK_EVENTS, 1),
        (TASK_EVENTS + 1, 2),
        (10 * TASK_EVENTS, 4),
        (4 * LONG_TASK_EVENTS, 4),
        (4 * LONG_TASK_EVENTS + 1, 8),
    ],
)
def test_a_backlog_gets_as_many_tasks_as_it_is_worth(pending_events: int, tasks: int) -> None:
    """On four cores: few events are one task's work, many are spread over all cores, very many are cut smaller."""
    assert tasks == tasks_for(pending_events, 4)


def test_a_hot_shard_shares_its_task_with_no_other() -> None:
    """The others are folded meanwhile, by the other tasks."""
    bounds = [ShardBound(0, "1-0", 10_000_000), *(ShardBound(shard, "1-0", 1000) for shard in range(1, 16))]
    groups = groups_of(bounds, tasks_for(sum(bound.pending_events for bound in bounds), 4))

    assert [bounds[0]] in groups
