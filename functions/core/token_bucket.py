"""How often somebody may ask or send: a bucket that fills at a steady rate, from which each takes its part. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

BURST_S: Final = 10.0
"""A full bucket holds what comes in so many seconds, and one at least."""
_MOST_KEPT: Final = 10_000


class TokenBuckets:
    """The buckets of those who ask, by name; who has not asked for long has a full one, and is not kept."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, rate_per_s: float, now_s: float, *, count: int = 1, burst: float | None = None) -> int:
        """Take from somebody's bucket; return 0, or in how many seconds there will be enough.

        What is more than a full bucket holds is given from a full one, which then has to fill for so much longer.

        Args:
            name: Whose.
            rate_per_s: How fast it fills.
            now_s: The time, by a clock that never goes back.
            count: How much is taken.
            burst: What a full one holds; None: what comes in within `BURST_S`.
        """
        capacity = max(1.0, rate_per_s * BURST_S if burst is None else burst)
        held, since_s = self._buckets.pop(name, (capacity, now_s))
        held = min(capacity, held + (now_s - since_s) * rate_per_s)
        wanted = min(count, capacity)
        enough = held >= wanted
        self._buckets[name] = (held - count if enough else held, now_s)
        if len(self._buckets) > _MOST_KEPT:
            self._buckets.popitem(last=False)
        return 0 if enough else max(1, math.ceil((wanted - held) / rate_per_s))
