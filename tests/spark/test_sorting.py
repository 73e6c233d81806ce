"""Orders of many numbers, held equal to NumPy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spark.sorting import order_of, sorted_within


@given(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 3) | st.integers(2**16 - 2, 2**16 + 2)))
def test_numbers_come_in_order_and_equal_ones_keep_theirs(values: list[int]) -> None:
    """Whatever their size: one piece of sixteen bits, or four."""
    numbers = np.array(values, np.int64)

    assert np.argsort(numbers, kind="stable").tolist() == order_of(numbers).tolist()


KEYS = st.integers(0, 3) | st.integers(-(2**62), 2**62 - 1)
ROWS = st.integers(0, 3) | st.integers(0, 2**17)


PAIRS = st.lists(st.tuples(ROWS, KEYS))


@given(PAIRS, PAIRS, st.booleans())
def test_keys_come_in_order_within_their_rows(
    first: list[tuple[int, int]], more: list[tuple[int, int]], in_order: bool
) -> None:
    """Whether they came so, or some of them did not; the first in the order of their rows, further ones in any."""
    first = sorted(first) if in_order else sorted(first, key=lambda pair: pair[0])
    columns = [np.array([pair[place] for pair in pairs], np.int64) for pairs in (first, more) for place in (0, 1)]
    row, key = sorted_within(*columns)

    assert sorted([*first, *more]) == list(zip(row.tolist(), key.tolist(), strict=True))
