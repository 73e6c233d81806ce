"""The bucket that a key's events come out of."""

from __future__ import annotations

from functions.core.token_bucket import TokenBuckets


def test_many_may_be_taken_at_once() -> None:
    """As long as the bucket has them; more than it ever holds only from a full one, which then fills for so long."""
    buckets = TokenBuckets()

    assert 0 == buckets.take("a", 10, 0.0, count=20, burst=30)
    assert 1 == buckets.take("a", 10, 0.0, count=20, burst=30)
    assert 0 == buckets.take("a", 10, 1.0, count=20, burst=30)
    assert 3 == buckets.take("a", 10, 1.0, count=500, burst=30)
    assert 0 == buckets.take("a", 10, 4.0, count=500, burst=30)
    assert 48 == buckets.take("a", 10, 4.0, count=1, burst=30)
