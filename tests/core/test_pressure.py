"""When the store has as much as it should."""

from __future__ import annotations

import pytest

from functions.core.pressure import Ceiling, StoreLoad


@pytest.mark.parametrize(
    ("ceiling", "load", "code"),
    [
        (Ceiling(100, 0.9), StoreLoad(99, 89, 100), None),
        (Ceiling(100, 0.9), StoreLoad(100, 0, 100), "backlog_full"),
        (Ceiling(100, 0.9), StoreLoad(0, 90, 100), "store_nearly_full"),
        (Ceiling(0, 0.9), StoreLoad(10**9, 0, 100), None),
        (Ceiling(100, 0.5), StoreLoad(0, 10**9, 0), None),
        (Ceiling(100, 1.0), StoreLoad(0, 99, 100), None),
    ],
)
def test_events_are_taken_up_to_the_ceiling(ceiling: Ceiling, load: StoreLoad, code: str | None) -> None:
    """Each limit by itself; none where it is off, or where the store has none."""
    refusal = ceiling.refusal(load)

    assert code == (refusal and refusal.code)
