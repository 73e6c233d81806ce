"""Summaries that are kept go along with each commit, and are what the averages come to."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.adapters.redis_summaries import SummaryStore
from functions.core.events import Event
from functions.core.report_summary import Summary
from functions.core.shards import Keys, shard_of
from functions.core.spans import NOT_KEPT
from functions.core.summary_packing import pack_summary, unpack_summary
from functions.report import summaries
from functions.report.kernels import Kernels
from functions.report.summaries import Summaries
from functions.report.views import View
from spark import columns
from spark.columns import TotalsColumns
from spark.erasing import erase
from spark.rebuilding import build_shards, rebuild
from spark.resharding import reshard
from spark.summing import summary_of, summary_of_pages
from tests.fold_in_process import fold
from tests.kept_summaries import current_summaries, plain_summary
from tests.redis_cluster import plain_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import redis

    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]

EVENTS = [
    Event(number * 977_000_000, f"u{number % 50}", "flyer_open", f"f{number % 3}", f"m{number % 2}")
    for number in range(600)
]
OF_ALL = {(0, ""), (1, "")}


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every shard for large enough, and so have it read by itself, which is counted."""
    monkeypatch.setattr(summaries, "WORTH_KEEPING_USERS", 1)
    monkeypatch.setattr(summaries, "FEW_USERS", 0)


@pytest.fixture
def store(settings: Settings, fill_log: Fill) -> Iterator[ArchiveStore]:
    """A store of two shards with some events folded."""
    store = ArchiveStore(settings)
    store.lay_out()
    fill_log(settings, [EVENTS[:300]])
    fold(settings, store)
    yield store
    store.close()


@pytest.fixture(params=["server", "cluster"])
def settings(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Settings:
    """Two shards and an archive, in either kind of store."""
    if request.param == "cluster":
        settings = dataclasses.replace(settings, redis_url=request.getfixturevalue("redis_cluster").url)
    return dataclasses.replace(settings, shards=2, archive_uri=str(tmp_path / "archive"))


@pytest.fixture
def raw_redis(settings: Settings) -> Iterator[redis.Redis]:
    """A client of the library's own."""
    client = plain_client(settings.redis_url)
    yield client
    client.close()


def asked(settings: Settings, merchant: str | None = None) -> tuple[Summary, int]:
    """Return what a report that has just come up answers, and how many users' averages it read."""

    async def run() -> tuple[Summary, int]:
        store = SummaryStore(settings)
        read: list[int] = []
        store.when_read = read.append
        summaries_of_one = Summaries(store, Kernels())
        try:
            return await summaries_of_one.of(await store.state(merchant), View(merchant)), sum(read)
        finally:
            await store.close()

    return asyncio.run(run())


def kept_in(client: redis.Redis, settings: Settings, generation: int = 0, shards: int = 2) -> set[tuple[int, str]]:
    """Return of which shards and merchants something is kept."""
    keys = Keys(settings.namespace, generation)
    found: set[tuple[int, str]] = set()
    for shard in range(shards):
        held: Any = client.hkeys(keys.summaries(shard))
        found |= {(shard, name.decode()) for name in held}
    return found


def test_what_all_users_come_to_is_there_from_the_first_commit_on(
    settings: Settings, store: ArchiveStore, fill_log: Fill
) -> None:
    """After every one of many rounds, and nobody need have asked for it; who does reads no averages."""
    assert OF_ALL == current_summaries(settings)
    for start in range(300, 600, 50):
        fill_log(settings, [EVENTS[start : start + 50]])
        fold(settings, store, round_events=10)
        assert OF_ALL == current_summaries(settings)
    found, read = asked(settings)

    assert (50, 0) == (found.users, read)


@pytest.mark.parametrize("merchant", ["m0", "m1"])
def test_what_a_merchants_users_come_to_goes_along_once_somebody_has_asked(
    settings: Settings, store: ArchiveStore, fill_log: Fill, merchant: str
) -> None:
    """Of that merchant and of no other, known or new; also where a commit is none of that merchant's."""
    asked(settings, merchant)
    both = {*OF_ALL, (0, merchant), (1, merchant)}
    assert both == current_summaries(settings)
    others = [event for event in EVENTS[400:] if event.merchant_id != merchant]
    known_and_new = [event._replace(merchant_id=name, user_id="new") for event in EVENTS[:9] for name in ("m0", "m2")]
    for events in (EVENTS[300:400], others, known_and_new):
        fill_log(settings, [events])
        fold(settings, store, round_events=10)
        assert both == current_summaries(settings)
    assert asked(settings, merchant)[1] == 0


def test_a_commit_that_changes_no_average_leaves_all_summaries_as_they_are(
    settings: Settings, store: ArchiveStore, fill_log: Fill
) -> None:
    """As one does whose events are none of a flyer."""
    asked(settings, "m1")
    before = current_summaries(settings)
    fill_log(settings, [[event._replace(event="app_open") for event in EVENTS[300:]]])
    fold(settings, store)

    assert [0, 0] == [store.ledger(shard).pending for shard in range(2)]
    assert {*OF_ALL, (0, "m1"), (1, "m1")} == before == current_summaries(settings)


def test_a_user_whose_openings_are_not_kept_is_counted_as_such(
    settings: Settings, store: ArchiveStore, fill_log: Fill
) -> None:
    """And no longer once they are, for another flyer: neither way does anybody have to read all averages."""
    without = dataclasses.replace(settings, open_to_close="off")
    events = [event._replace(user_id=f"old{place % 9}") for place, event in enumerate(EVENTS[:90])]
    fill_log(settings, [events])
    fold(without, store, round_events=20)
    assert OF_ALL == current_summaries(settings)
    assert (9, (None, None)) == (asked(settings)[0].not_kept_users, asked(settings)[0].opens)
    fill_log(settings, [[event._replace(flyer_id="another") for event in events]])
    fold(settings, store, round_events=20)

    assert OF_ALL == current_summaries(settings)
    found, read = asked(settings)
    assert (0, 0) == (found.not_kept_users, read)
    assert None not in found.opens


@pytest.mark.parametrize("merchant", ["", "m1"])
@pytest.mark.parametrize("which", ["older", "unreadable", "of fewer", "too much"])
def test_what_cannot_be_taken_along_is_left_for_who_asks_next(
    settings: Settings, store: ArchiveStore, fill_log: Fill, raw_redis: redis.Redis, merchant: str, which: str
) -> None:
    """Of other averages, by another version, without users who were there, with a sum that grows out of 64 bits."""
    asked(settings, merchant or None)
    whole = current_summaries(settings)
    for shard in range(2):
        key = Keys(settings.namespace).summaries(shard)
        held: Any = raw_redis.hget(key, merchant)
        kept = unpack_summary(held)
        assert kept is not None
        spoilt = {
            "older": pack_summary(kept[0], kept[1] - 1),
            "unreadable": b"\x92\x01\x02",
            "of fewer": pack_summary(Summary(), kept[1]),
            "too much": pack_summary(dataclasses.replace(kept[0], seconds=2**64 - 1), kept[1]),
        }
        raw_redis.hset(key, merchant, spoilt[which])
    fill_log(settings, [EVENTS[300:]])
    fold(settings, store)

    assert whole - {(0, merchant), (1, merchant)} == current_summaries(settings)
    found, read = asked(settings, merchant or None)
    assert found.users == read > 0
    assert whole == current_summaries(settings)


@pytest.mark.usefixtures("store")
def test_a_user_erased_is_in_no_summary_that_is_kept(settings: Settings, raw_redis: redis.Redis) -> None:
    """Of the shard all go at once, and come back when somebody asks."""
    for merchant in ("m0", "m1"):
        asked(settings, merchant)
    with_user, _ = asked(settings)
    erasing = ErasureStore(settings)
    shard = erase(settings, erasing, "u7").shard
    erasing.close()

    assert {(1 - shard, name) for name in ("", "m0", "m1")} == kept_in(raw_redis, settings)
    without, _ = asked(settings)
    assert (with_user.users - 1, 0) == (without.users, asked(settings)[1])


@pytest.mark.parametrize("meanwhile", ["nothing", "a fold", "an erasure"])
def test_a_rebuild_takes_along_what_is_kept(
    settings: Settings,
    store: ArchiveStore,
    fill_log: Fill,
    raw_redis: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: str,
) -> None:
    """Of all users, and of the merchants who are asked for; also where it counts more, or begins anew, at its end."""
    asked(settings, "m1")
    kept = {*OF_ALL, (0, "m1"), (1, "m1")}
    assert kept == current_summaries(settings)
    fence = GenerationStore.fence
    fenced: list[bool] = []
    user = next(event.user_id for event in EVENTS if shard_of(event.user_id, 2) == 0)

    def later(self: GenerationStore, *books: Any) -> bool:
        if not fenced and meanwhile == "a fold":
            fill_log(settings, [EVENTS[start : start + 10] for start in range(300, 400, 10)])
            fold(settings, store, round_events=10)
        if not fenced and meanwhile == "an erasure":
            erasing = ErasureStore(settings)
            erase(settings, erasing, user)
            erasing.close()
            asked(settings)
            asked(settings, "m1")
        fenced.append(fence(self, *books))
        return fenced[-1]

    monkeypatch.setattr(GenerationStore, "fence", later)
    generation = rebuild(settings, grace_s=0).generation

    assert fenced == ([True, True] if meanwhile == "nothing" else [False, True, True])
    assert kept == current_summaries(settings) == kept_in(raw_redis, settings, generation)
    assert set() == kept_in(raw_redis, settings)
    assert [0, 0] == [asked(settings, merchant)[1] for merchant in (None, "m1")]
    fill_log(settings, [EVENTS[400:]])
    fold(settings, store)
    assert kept == current_summaries(settings)


@pytest.mark.parametrize("which", ["none", "of other averages"])
def test_a_rebuild_makes_what_nobody_keeps(
    settings: Settings, store: ArchiveStore, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """As in a store that an older version has folded; what is of other averages at its end does not become theirs."""
    for shard in range(2):
        raw_redis.delete(store.keys.summaries(shard))
    switch = GenerationStore.switch_to

    def later(self: GenerationStore, generation: int) -> bool:
        for shard in range(2) if which != "none" else ():
            spoilt = pack_summary(Summary(users=7), 10**15)  # as many digits as any
            assert spoilt is not None
            raw_redis.hset(Keys(settings.namespace, generation).summaries(shard), "", spoilt)
        return switch(self, generation)

    monkeypatch.setattr(GenerationStore, "switch_to", later)
    rebuild(settings, grace_s=0)

    assert current_summaries(settings) == (OF_ALL if which == "none" else set())
    found, read = asked(settings)
    assert (50, 0 if which == "none" else 50) == (found.users, read)


def test_a_rebuild_that_is_given_up_leaves_what_is_kept_as_it_was(
    settings: Settings, store: ArchiveStore, fill_log: Fill
) -> None:
    """Also where what it built is lifted once more, by who waited for it."""
    building = GenerationStore(settings)
    generation = building.begin_generation()
    build_shards(settings, range(2), generation)
    for shard in range(2):
        other = BuildingStore(settings, generation)
        assert building.fence(store.ledger(shard), other.ledger(shard), generation)
        other.close()
    building.give_up_switch(generation)
    for _ in range(2):
        for shard in range(2):
            building.lift_fence(shard, generation)
    building.close()

    assert OF_ALL == current_summaries(settings)
    fill_log(settings, [EVENTS[300:]])
    fold(settings, store)
    assert OF_ALL == current_summaries(settings)


@pytest.mark.parametrize("shards", [1, 3, 5])
def test_a_resharding_takes_along_what_is_kept(
    settings: Settings, store: ArchiveStore, fill_log: Fill, raw_redis: redis.Redis, shards: int
) -> None:
    """Of all users, and of the merchants who are asked for, where they have any; which then goes along as ever."""
    fill_log(settings, [[EVENTS[place]._replace(merchant_id="small") for place in (300, 450)]])
    fold(settings, store)
    for merchant in ("m1", "small"):
        asked(settings, merchant)
    settings = dataclasses.replace(settings, shards=None)
    store = ReshardingStore(settings)
    generation = reshard(settings, store, shards).generation

    kept = {(shard, merchant) for shard in range(shards) for merchant in ("", "m1")}
    kept.add((shard_of(EVENTS[300].user_id, shards), "small"))
    assert kept == kept_in(raw_redis, settings, generation, shards)
    assert kept == current_summaries(settings)
    assert [0, 0] == [asked(settings, merchant)[1] for merchant in (None, "m1")]
    fill_log(dataclasses.replace(settings, shards=shards), [EVENTS[300:]])
    fold(settings, store)
    store.close()
    assert kept == current_summaries(settings)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6) | st.integers(2**53 - 2, 2**53 + 2) | st.integers(0, 2**50),
            st.integers(0, 2000),
            st.integers(0, 5) | st.just(NOT_KEPT),
        ),
        max_size=30,
    )
)
def test_columns_of_totals_come_to_what_each_comes_to(rows: list[tuple[int, int, int]]) -> None:
    """Without those who have no session; with averages of all sizes, and opens that are kept or not."""
    seconds, sessions, opens = (np.array([row[column] for row in rows], np.int64) for column in range(3))
    nothing = np.zeros(len(rows), np.int64)
    totals = TotalsColumns(seconds, sessions, nothing, nothing, nothing, opens, opens)

    assert plain_summary(columns.pack_totals(totals).to_pylist()) == summary_of(totals)


def test_a_user_who_comes_on_two_pages_is_counted_once() -> None:
    """As one does while the store lays a hash out anew."""
    ones = np.ones(3, np.int64)
    users = [b"a", b"b", b"c"]
    averages = dict(zip(users, columns.pack_totals(TotalsColumns(*[ones] * 7)).to_pylist(), strict=True))
    pages = [{user: averages[user] for user in some} for some in (users[:2], users[1:], [])]

    assert plain_summary([*averages.values()]) == summary_of_pages(pages)
