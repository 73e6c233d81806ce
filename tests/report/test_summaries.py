"""Summaries that others have made: as good as one's own as long as nothing has changed, and spared the averages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest

from functions.adapters.redis_summaries import SummaryStore
from functions.core.report_summary import Summary
from functions.core.shards import Keys
from functions.report import summaries
from functions.report.kernels import Kernels
from functions.report.summaries import Summaries
from functions.report.views import View
from tests.report.conftest import NAMESPACE, SHARDS, empty

if TYPE_CHECKING:
    import redis

    from functions.core.settings import Settings
    from tests.report.conftest import Put

Ask: TypeAlias = Callable[[Summaries, SummaryStore], Awaitable[Summary]]

USERS = {f"user{number}": (3600 * (number % 9) + 18 * number, 1 + number % 4) for number in range(400)}
MERCHANTS = {
    "m": {name: USERS[name] for name in [*USERS][:300]},
    "n": dict.fromkeys([*USERS][250:], (7200, 1)),
}


@pytest.fixture(autouse=True)
def many(put: Put, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose shards are taken for large enough."""
    monkeypatch.setattr(summaries, "WORTH_KEEPING_USERS", 1)
    monkeypatch.setattr(summaries, "FEW_USERS", 0)  # these are read in a few trips, which nobody counts
    empty(raw_redis)
    put(USERS, MERCHANTS)


def of(merchant: str | None) -> Ask:
    """Return what asks for the summary of a view."""

    async def ask(held: Summaries, store: SummaryStore) -> Summary:
        return await held.of(await store.state(merchant), View(merchant))

    return ask


def beside(merchant: str) -> Ask:
    """Return what asks for a merchant's summary where merchants stand side by side."""

    async def ask(held: Summaries, store: SummaryStore) -> Summary:
        return await held.of_merchant(await store.state(merchants=True), merchant)

    return ask


def asked(settings: Settings, ask: Ask) -> tuple[Summary, int]:
    """Return the answer of a process that has just come up, and how many users' averages it read."""

    async def run() -> tuple[Summary, int]:
        store = SummaryStore(settings)
        read: list[int] = []
        store.when_read = read.append
        try:
            return await ask(Summaries(store, Kernels()), store), sum(read)
        finally:
            await store.close()

    return asyncio.run(run())


def users_of(summary: Summary) -> tuple[int, int]:
    """Return how many there are, by two ways of counting."""
    return summary.users, sum(summary.hundredths.values())


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize(
    ("ask", "users"), [(of(None), 400), (of("m"), 300), (of("n"), 150), (beside("m"), 300), (beside("n"), 150)],
    ids=["all", "m", "n", "m-beside", "n-beside"],
)  # fmt: skip
def test_the_first_process_reads_the_averages_and_others_do_not(
    report_settings: Settings, monkeypatch: pytest.MonkeyPatch, ask: Ask, users: int, *, few: bool
) -> None:
    """Of all, and of each merchant, which never gets what another one's users come to."""
    if few:
        monkeypatch.setattr(summaries, "FEW_USERS", 20_000)
    first, read = asked(report_settings, ask)
    second, read_again = asked(report_settings, ask)

    assert (users, users) == users_of(first)
    assert first == second
    assert read_again == 0
    assert (0 if few else users) == read


def test_only_shards_that_have_changed_are_read_again(report_settings: Settings, put: Put) -> None:
    """And what they come to now is what is shown."""
    asked(report_settings, of(None))
    put({"user7": (36_000_000, 1)})
    changed, read = asked(report_settings, of(None))

    assert changed.hundredths[1_000_000] == 1
    assert (400, 400) == users_of(changed)
    assert 0 < read < 400 / SHARDS * 2
    assert (changed, 0) == asked(report_settings, of(None))


def test_what_was_kept_as_something_else_is_not_shown(report_settings: Settings, raw_redis: redis.Redis) -> None:
    """Of another version of flyertime, for one."""
    right, _ = asked(report_settings, of("m"))
    for shard in range(SHARDS):
        raw_redis.hset(Keys(NAMESPACE).summaries(shard), "m", b"\x92\x01\x02")

    assert (right, 300) == asked(report_settings, of("m"))


def test_who_may_not_write_to_the_store_shows_summaries_all_the_same(
    report_settings: Settings, raw_redis: redis.Redis
) -> None:
    """Nothing hangs on their being kept."""
    raw_redis.acl_setuser("looker", enabled=True, passwords=["+looking"], keys=["*"], commands=["+@all", "-hset"])
    looker = replace(report_settings, redis_url=report_settings.redis_url.replace("://", "://looker:looking@"))
    try:
        first, read = asked(looker, of(None))

        assert (400, 400) == users_of(first)
        assert (first, read) == asked(looker, of(None))
        assert not [*raw_redis.scan_iter(f"{{{NAMESPACE}*summaries")]
    finally:
        raw_redis.acl_deluser("looker")


def test_small_shards_are_not_kept(
    report_settings: Settings, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their values come as soon."""
    monkeypatch.setattr(summaries, "WORTH_KEEPING_USERS", 401)
    asked(report_settings, of(None))

    assert not [*raw_redis.scan_iter(f"{{{NAMESPACE}*summaries")]
