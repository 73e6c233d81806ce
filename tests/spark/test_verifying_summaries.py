"""Verify: summaries that are kept for readers are those of the averages, or are named."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import pytest

from functions.adapters.redis_checks import CheckedStore
from functions.core.events import Event
from functions.core.report_rows import rows_of_users
from functions.core.report_summary import Summary
from functions.core.summary_packing import pack_summary, unpack_summary
from spark.verifying import verify_shard
from tests.fold_in_process import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import redis

    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]

EVENTS = [
    Event(number * 977_000_000, f"u{number % 50}", "flyer_open", f"f{number % 3}", f"m{number % 2}")
    for number in range(600)
]
SHARD = 1


class Keep(Protocol):
    """Keep a summary, as right as it can be, but for this."""

    def __call__(self, merchant: str, **changes: int) -> None:
        """Keep it."""


@pytest.fixture
def two_shards(settings: Settings) -> Settings:
    """Two shards, without an archive."""
    return dataclasses.replace(settings, shards=2)


@pytest.fixture
def store(two_shards: Settings, fill_log: Fill) -> Iterator[CheckedStore]:
    """A store with some events folded."""
    store = CheckedStore(two_shards)
    store.lay_out()
    fill_log(two_shards, [EVENTS[:300]])
    fold(two_shards, store)
    yield store
    store.close()


@pytest.fixture
def keep(store: CheckedStore, raw_redis: redis.Redis) -> Keep:
    """Return what keeps a summary."""

    def keep_one(merchant: str, **changes: int) -> None:
        versions = {b"": store.ledger(SHARD).version, **store.versions(SHARD)}
        values = [value for page in store.average_pages(SHARD, merchant.encode() or None) for value in page.values()]
        summary = Summary()
        summary.add(rows_of_users(values, values))
        for name, more in changes.items():
            setattr(summary, name, getattr(summary, name) + more)
        packed = pack_summary(summary, versions[merchant.encode()])
        raw_redis.hset(store.keys.summaries(SHARD), merchant, packed)

    return keep_one


def deviations(store: CheckedStore) -> list[str]:
    """Return what does not fit in the shard; in the other one all does."""
    assert [] == verify_shard(store, None, 1 - SHARD).deviations
    return verify_shard(store, None, SHARD).deviations


@pytest.mark.parametrize(("merchant", "whose"), [("", "all users"), ("m1", "merchant 'm1'")])
@pytest.mark.parametrize("what", ["users", "sessions", "seconds", "closed_sessions", "unclosed", "not_kept_users"])
def test_a_summary_that_would_be_shown_and_is_wrong_is_named(
    store: CheckedStore, keep: Keep, merchant: str, whose: str, what: str
) -> None:
    """With what it has and what the averages give, of that which differs."""
    keep(merchant)
    assert [] == deviations(store)
    keep(merchant, **{what: 1})
    (said,) = deviations(store)

    assert said.startswith(f"report: the summary of {whose} has ")
    has, _, gives = said.partition(" has ")[2].partition("; if")[0].partition("; the averages give ")
    more, fewer = (text.replace(",", "").split() for text in (has, gives))
    assert (int(more[0]) - 1, more[1:]) == (int(fewer[0]), fewer[1:])


def test_a_summary_with_an_average_in_another_place_is_named(
    store: CheckedStore, keep: Keep, raw_redis: redis.Redis
) -> None:
    """Where all counts are right."""
    keep("")
    held = unpack_summary(store.summaries(SHARD)[b""])
    assert held is not None
    held[0].hundredths.subtract([*held[0].hundredths][:1])
    held[0].hundredths[12345] += 1
    raw_redis.hset(store.keys.summaries(SHARD), "", pack_summary(*held))
    (said,) = deviations(store)

    assert said.startswith("report: the summary of all users has users at other averages than theirs; if nothing else ")


@pytest.mark.parametrize("merchant", ["", "m1"])
def test_summaries_of_before_and_of_other_versions_are_no_deviation(
    store: CheckedStore, keep: Keep, raw_redis: redis.Redis, merchant: str
) -> None:
    """None of these is shown."""
    keep(merchant, users=1)
    raw_redis.hset(store.keys.summaries(SHARD), "m0", b"\x91\x07")
    assert 1 == len(deviations(store))
    held = unpack_summary(store.summaries(SHARD)[merchant.encode()])
    assert held is not None
    raw_redis.hset(store.keys.summaries(SHARD), merchant, pack_summary(held[0], held[1] - 1))
    assert [] == deviations(store)


@pytest.mark.parametrize("merchant", ["", "m1"])
def test_a_wrong_summary_goes_along_until_it_is_deleted_which_is_what_is_said(
    two_shards: Settings, store: CheckedStore, keep: Keep, fill_log: Fill, raw_redis: redis.Redis, merchant: str
) -> None:
    """Commits change it by what they change; nothing else is lost with it."""
    keep(merchant, users=1)
    fill_log(two_shards, [EVENTS[300:]])
    fold(two_shards, store)
    (said,) = deviations(store)
    key = said.partition(" DEL ")[2].split()[0]
    raw_redis.delete(key)

    assert said.endswith(f"; if nothing else is wrong, DEL {key} has it made anew")
    assert [] == deviations(store)
