"""Which task folds which shards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spark.planning import ShardBound, groups_of

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
