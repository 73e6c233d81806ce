"""Orders of many numbers, held equal to NumPy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spark.sorting import order_of


@given(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 3) | st.integers(2**16 - 2, 2**16 + 2)))
def test_numbers_come_in_order_and_equal_ones_keep_theirs(values: list[int]) -> None:
    """Whatever their size: one piece of sixteen bits, or four."""
    numbers = np.array(values, np.int64)

    assert np.argsort(numbers, kind="stable").tolist() == order_of(numbers).tolist()
