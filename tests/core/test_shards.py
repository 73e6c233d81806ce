"""Shards and keys."""

from __future__ import annotations

import zlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from functions.core.shards import Keys, shard_of


def hash_slot(key: str) -> int:
    """Return the slot of a key in a Redis Cluster: CRC-16/XMODEM of the hash tag, modulo 16384 (cluster spec)."""
    tag = key[key.index("{") + 1 : key.index("}")]
    crc = 0
    for byte in tag.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
        crc &= 0xFFFF
    return crc % 16384


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 4096))
def test_a_users_shard_is_its_crc_32(user: str, shards: int) -> None:
    """The same number as Spark's crc32, whatever is in the id."""
    assert zlib.crc32(user.encode()) % shards == shard_of(user, shards)


def test_users_spread_evenly() -> None:
    """No shard of sixteen has much more than its part."""
    counts = Counter(shard_of(f"user-{number}", 16) for number in range(16_000))

    assert 16 == len(counts)
    assert max(counts.values()) < 1200


def test_all_keys_of_a_shard_share_a_slot() -> None:
    """So that one script can change them together, in a cluster too."""
    keys = Keys("ft")
    names = [
        keys.events(3), keys.ledger(3), keys.spans(3), keys.averages(3), keys.averages(3, "m}{x"), keys.merchants(3),
        keys.seen(3, 7),
    ]  # fmt: skip

    assert 1 == len({hash_slot(name) for name in names})
    assert len(names) == len(set(names))


def test_generations_are_apart_and_in_their_shards_slot() -> None:
    """No merchant's name makes a key of one generation one of another."""
    live, next_one = Keys("ft"), Keys("ft", 1)
    names = [
        name
        for keys in (live, next_one)
        for name in (
            keys.spans(3), keys.averages(3), keys.averages(3, "g1"), keys.averages(3, "g1:spans"), keys.merchants(3),
            keys.versions(3), keys.summaries(3),
        )
    ]  # fmt: skip

    assert len(names) == len(set(names))
    assert {hash_slot(live.ledger(3))} == {hash_slot(name) for name in names}
    assert live.ledger(3) == next_one.ledger(3)


def test_shards_and_namespaces_are_apart() -> None:
    """Different shards mostly have different slots, and no two pipelines share a key."""
    assert len({hash_slot(Keys("ft").ledger(shard)) for shard in range(16)}) > 12
    assert Keys("a").ledger(0) != Keys("b").ledger(0)
    assert Keys("ft").layout != Keys("ft").runs != Keys("ft").flush


def test_the_names_are_those_of_the_design() -> None:
    """Other programs may look at them."""
    keys = Keys("ft")

    assert [
        "{ft:3}:events", "{ft:3}:ledger", "{ft:3}:spans", "{ft:3}:averages", "{ft:3}:averages:m", "{ft:3}:seen:7",
        "{ft}:layout", "{ft}:runs", "{ft}:quarantine",
    ] == [
        keys.events(3), keys.ledger(3), keys.spans(3), keys.averages(3), keys.averages(3, "m"), keys.seen(3, 7),
        keys.layout, keys.runs, keys.quarantine,
    ]  # fmt: skip
