"""After a run: what readers ask for is made anew, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_summaries import SummaryStore
from functions.core.events import Event
from functions.core.shards import Keys
from functions.report import summaries
from functions.report.kernels import Kernels
from functions.report.summaries import Summaries
from functions.report.views import View
from spark import summing_up
from spark.erasing import erase
from spark.rebuilding import rebuild
from spark.summaries import sum_up
from spark.summing_up import SummingUp
from tests.fold_in_process import fold
from tests.redis_cluster import plain_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import redis

    from functions.core.report_summary import Summary
    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]

EVENTS = [
    Event(number * 977_000_000, f"u{number % 50}", "flyer_open", f"f{number % 3}", f"m{number % 2}")
    for number in range(600)
]


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


def ask_and_change(settings: Settings, store: ArchiveStore, fill_log: Fill) -> None:
    """Have the summary of all asked for, and the averages of both shards changed."""
    asked(settings)
    fill_log(settings, [EVENTS[300:]])
    fold(settings, store)


def unmade_users(settings: Settings) -> int:
    """Return how many averages a reader would have to read; nothing is asked for by that."""

    async def run() -> int:
        store = SummaryStore(settings)
        try:
            state = await store.state()
            kept = await store.kept_summaries(None, range(2), state.generation)
            fresh = {each.shard for each in kept if each.version == state.shards[each.shard].version}
            return sum(held.users for shard, held in enumerate(state.shards) if shard not in fresh)
        finally:
            await store.close()

    return asyncio.run(run())


def kept_in(client: redis.Redis, settings: Settings, generation: int = 0) -> set[tuple[int, Any]]:
    """Return of which shards and merchants something is kept."""
    keys = Keys(settings.namespace, generation)
    found: set[tuple[int, Any]] = set()
    for shard in range(2):
        found |= {(shard, name) for name in client.hgetall(keys.summaries(shard))}
    return found


@pytest.mark.parametrize("merchant", [None, "m1"])
def test_what_readers_ask_for_is_made_anew_and_right(
    settings: Settings, store: ArchiveStore, fill_log: Fill, raw_redis: redis.Redis, merchant: str | None
) -> None:
    """The next one reads no averages, and gets what it would have made of them."""
    before, _ = asked(settings, merchant)
    fill_log(settings, [EVENTS[300:]])
    fold(settings, store)
    done = asyncio.run(sum_up(settings))
    after, read = asked(settings, merchant)
    for shard in range(2):
        raw_redis.delete(Keys(settings.namespace).summaries(shard))

    assert (2, 2) == done
    assert before.sessions < after.sessions
    assert read == 0
    assert (after, after.users) == asked(settings, merchant)


def test_nothing_is_made_that_nobody_asks_for_or_that_has_not_changed(
    settings: Settings, store: ArchiveStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """Neither before anybody has, nor of merchants of whom nobody has, nor twice."""
    assert (0, 0) == asyncio.run(sum_up(settings))
    assert set() == kept_in(raw_redis, settings)
    asked(settings)
    assert (0, 0) == asyncio.run(sum_up(settings))
    fill_log(settings, [EVENTS[300:]])
    fold(settings, store)
    assert (2, 2) == asyncio.run(sum_up(settings))
    assert (0, 0) == asyncio.run(sum_up(settings))
    assert {(0, b""), (1, b"")} == kept_in(raw_redis, settings)


def test_what_takes_too_long_is_left_to_readers(settings: Settings, store: ArchiveStore, fill_log: Fill) -> None:
    """They make the rest; what is of all users comes first."""
    asked(settings, "m0")
    asked(settings)
    fill_log(settings, [EVENTS[300:]])
    fold(settings, store)
    looks = itertools.count()

    assert (3, 4) == asyncio.run(sum_up(settings, lambda: next(looks) == 3))
    assert asked(settings)[1] == 0
    left, read = asked(settings, "m0")
    assert 0 < read < left.users


@pytest.mark.usefixtures("store")
def test_a_user_erased_is_in_no_summary_that_is_kept(settings: Settings, raw_redis: redis.Redis) -> None:
    """Of the shard all go at once, and come back when somebody asks."""
    for merchant in (None, "m0", "m1"):
        asked(settings, merchant)
    with_user, _ = asked(settings)
    erasing = ErasureStore(settings)
    shard = erase(settings, erasing, "u7").shard
    erasing.close()

    assert {(1 - shard, name) for name in (b"", b"m0", b"m1")} == kept_in(raw_redis, settings)
    without, _ = asked(settings)
    assert (with_user.users - 1, 0) == (without.users, asked(settings)[1])


def test_a_rebuild_leaves_no_summary_behind(
    settings: Settings, store: ArchiveStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """Those of the generation that was go with it; of the new one none until somebody asks, and then as ever."""
    before, _ = asked(settings)
    generation = rebuild(settings, grace_s=0).generation

    assert set() == kept_in(raw_redis, settings)
    assert (before, before.users) == asked(settings)
    assert {(0, b""), (1, b"")} == kept_in(raw_redis, settings, generation)
    fill_log(settings, [EVENTS[300:]])
    fold(settings, store)
    summing = SummingUp(settings, lambda: False)
    summing.committed()
    summing.now()
    assert unmade_users(settings) == 0


def test_a_run_sums_up_only_after_it_has_committed(
    settings: Settings, store: ArchiveStore, fill_log: Fill, caplog: pytest.LogCaptureFixture
) -> None:
    """At its end whatever the time, in between not more than a tenth of it; and says what that was."""
    caplog.set_level(logging.INFO)
    asked(settings)
    summing = SummingUp(settings, lambda: False)

    def change(first: int) -> None:
        fill_log(settings, [EVENTS[first : first + 100]])
        fold(settings, store)

    change(300)
    summing.when_idle()
    assert unmade_users(settings) > 0, "nobody has said that there was a commit"
    change(400)
    summing.committed()
    summing.when_idle()
    assert unmade_users(settings) == 0
    change(500)
    summing.committed()
    summing._next_s += 3600
    summing.when_idle()
    assert unmade_users(settings) > 0, "it has taken its share of the time"
    summing.now()
    assert unmade_users(settings) == 0
    assert 2 == len([line for line in caplog.messages if line.startswith("2 of 2 summaries that readers ask for")])


def test_a_run_takes_no_longer_for_it_than_its_limit(
    settings: Settings,
    store: ArchiveStore,
    fill_log: Fill,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And says what was left."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(summing_up, "LIMIT_S", 0.0)
    monkeypatch.setattr(summing_up, "SHARE", 0.0)
    ask_and_change(settings, store, fill_log)
    summing = SummingUp(settings, lambda: False)
    summing.committed()
    summing.now()

    assert "0 of 2 summaries that readers ask for made anew" in caplog.text
    assert unmade_users(settings) > 0


def test_averages_that_cannot_be_read_fail_no_run(
    settings: Settings, store: ArchiveStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """Those of the other shard are made."""
    ask_and_change(settings, store, fill_log)
    raw_redis.hset(Keys(settings.namespace).averages(0), "odd", b"\x09nonsense")

    assert (1, 2) == asyncio.run(sum_up(settings))


def test_who_is_asked_to_stop_does_not_sum_up(settings: Settings, store: ArchiveStore, fill_log: Fill) -> None:
    """The report makes them itself."""
    ask_and_change(settings, store, fill_log)
    summing = SummingUp(settings, lambda: True)
    summing.committed()
    summing.now()

    assert unmade_users(settings) > 0


def test_a_store_that_is_away_fails_no_run(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and that is all."""
    summing = SummingUp(dataclasses.replace(settings, redis_url="redis://127.0.0.1:1"), lambda: False)
    summing.committed()
    summing.now()

    assert "the report's summaries were not made" in caplog.text
