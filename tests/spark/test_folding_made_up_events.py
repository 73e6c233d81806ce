"""Folding made-up events of every awkward kind, without Spark: state, report and versions are as in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from functions.adapters.redis_shard import ShardStore
from functions.core.shards import shard_of
from functions.core.span_packing import pack_spans
from functions.core.spans import Totals, spans_of
from tests.spark.folded_state import EVER_US, SHARDS, fold, state_of, stored_totals, user_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functions.core.events import Event
    from functions.core.settings import Settings


ONLY = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@ONLY
@given(data=st.data())
def test_state_and_report_equal_the_plain_computation(
    data: st.DataObject,
    fresh: Callable[[], Settings],
    events_strategy: Callable[..., st.SearchStrategy[list[Event]]],
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Events in any batches, folded at any moments, in rounds of any size: the same bytes as all at once in Python."""
    settings = fresh()
    everything: list[Event] = []
    for _ in range(data.draw(st.integers(1, 3))):
        batches = data.draw(st.lists(events_strategy(12).filter(bool), max_size=4))
        fill_log(settings, batches)
        everything += [event for batch in batches for event in batch]
        fold(settings, data.draw(st.sampled_from([1, 3, 1000])))

    assert {user: pack_spans(spans) for user, spans in spans_of(everything, EVER_US).items()} == state_of(settings)
    assert plain_report(everything) == read_report(settings)
    assert user_totals(everything) == stored_totals(settings)
    for merchant in ("m", "n"):
        of_merchant = [event for event in everything if event.merchant_id == merchant]
        assert user_totals(of_merchant) == stored_totals(settings, merchant)


@ONLY
@given(data=st.data())
def test_the_version_changes_exactly_when_the_report_does(
    data: st.DataObject,
    fresh: Callable[[], Settings],
    events_strategy: Callable[..., st.SearchStrategy[list[Event]]],
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
) -> None:
    """A commit that changes no total of any user keeps the version, whatever it does to spans and merchants."""
    settings = fresh()
    shown: dict[str, Totals] = {}
    version = 0
    user = data.draw(st.sampled_from(["u", "ü"]))
    shard = shard_of(user, SHARDS)
    everything: list[Event] = []
    for _ in range(data.draw(st.integers(1, 4))):
        batch = [event._replace(user_id=user) for event in data.draw(events_strategy(4).filter(bool))]
        fill_log(settings, [batch])
        fold(settings)
        everything += batch
        now_shown = user_totals(everything)
        store = ShardStore(settings)
        now_version = store.ledger(shard).version
        store.close()
        assert (now_shown != shown) == (now_version != version)
        shown, version = now_shown, now_version


@ONLY
@given(data=st.data())
def test_a_merchants_version_changes_exactly_when_its_averages_do(
    data: st.DataObject,
    fresh: Callable[[], Settings],
    events_strategy: Callable[..., st.SearchStrategy[list[Event]]],
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
) -> None:
    """In each shard by itself; a fold that leaves all its averages as they are keeps the merchant's version."""
    settings = fresh()
    shown: dict[tuple[int, bytes], dict[bytes, bytes]] = {}
    versions: dict[tuple[int, bytes], bytes] = {}
    for _ in range(data.draw(st.integers(1, 4))):
        fill_log(settings, [data.draw(events_strategy(6).filter(bool))])
        fold(settings)
        store = ShardStore(settings)
        for shard in range(SHARDS):
            now_versions: Any = store._redis.hgetall(store.keys.versions(shard))
            for merchant in (b"m", b"n"):
                averages: Any = store._redis.hgetall(store.keys.averages(shard, merchant.decode()))
                key = shard, merchant
                changed = averages != shown.get(key, {})
                assert changed == (now_versions.get(merchant, b"0") != versions.get(key, b"0"))
                shown[key], versions[key] = averages, now_versions.get(merchant, b"0")
        store.close()
