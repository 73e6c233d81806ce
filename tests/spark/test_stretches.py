"""Stretches of rows, held equal to what groups of them are one by one."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spark.stretches import starts_of, sums_from, sums_of

VALUES = st.integers(-(2**40), 2**40)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), VALUES)))
def test_a_stretch_begins_where_any_key_changes_and_is_summed_up_to_the_next(rows: list[tuple[int, int, int]]) -> None:
    """Also where equal keys come again later, and where there are no rows."""
    keys = [np.array([row[place] for row in rows], np.int64) for place in (0, 1)]
    values = np.array([row[2] for row in rows], np.int64)
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[:2])]
    starts = starts_of(*keys)

    assert list(itertools.accumulate(map(len, groups), initial=0))[:-1] == starts.tolist()
    assert [sum(row[2] for row in group) for group in groups] == sums_from(starts, values).tolist()


@given(st.lists(st.lists(VALUES, max_size=3)))
def test_of_each_next_so_many_values_the_sum_is_told(groups: list[list[int]]) -> None:
    """Of none it is 0."""
    counts = np.array([len(group) for group in groups], np.int64)
    values = np.array(list(itertools.chain(*groups)), np.int64)

    assert [sum(group) for group in groups] == sums_of(counts, values).tolist()


def test_truths_and_small_numbers_are_summed_as_large_ones() -> None:
    """Sums of bytes do not end at 255."""
    assert sums_from(np.array([0, 2]), np.array([True, True, True])).tolist() == [2, 1]
    assert sums_of(np.array([3]), np.array([200, 200, 200], np.uint8)).tolist() == [600]
