"""A report function, and state put into its store as the Spark job does."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import pytest

from functions.adapters.redis_shard import Change, Committed, ShardStore
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.spans import Totals, pack_totals
from tests.report.readers import HOUR_S, LINES, MERCHANTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import ServeFunction

SHARDS = 4
NAMESPACE = "report"


class Put(Protocol):
    """Commit users' (seconds, sessions, and further totals), overall and by merchant."""

    def __call__(
        self,
        users: Mapping[str, tuple[int, ...]] | None = None,
        merchants: Mapping[str, Mapping[str, tuple[int, ...]]] | None = None,
        *,
        report_changes: bool = True,
        **named: Any,
    ) -> None:
        """Commit them."""


@pytest.fixture(scope="module")
def report_settings(valkey: EmbeddedValkey) -> Settings:
    """Settings of the process that all tests of a module share."""
    return Settings(redis_url=valkey.url, namespace=NAMESPACE, shards=SHARDS)


@pytest.fixture(scope="module")
def report_url(serve_function: ServeFunction, report_settings: Settings) -> Iterator[str]:
    """Address of a running report function."""
    with serve_function("report", report_settings) as process:
        yield process.url


@pytest.fixture
def report(report_url: str, raw_redis: redis.Redis) -> Iterator[httpx2.Client]:
    """A client of the report, whose store is empty at first."""
    empty(raw_redis)
    with httpx2.Client(base_url=report_url, trust_env=False) as client:
        yield client


def empty(raw_redis: redis.Redis) -> None:
    """Remove all state of the tests' report, but its layout."""
    for key in raw_redis.scan_iter(f"{{{NAMESPACE}*"):
        if not key.endswith(b"layout"):
            raw_redis.delete(key)


@pytest.fixture
def put(report_settings: Settings) -> Iterator[Put]:
    """Return what commits users' totals to the state."""
    store = ShardStore(report_settings)

    def packed(users: Mapping[str, tuple[int, ...]], shard: int) -> dict[bytes, bytes]:
        return {
            user.encode(): pack_totals(Totals(*totals[:2], *(totals[2:] or (0, 0))))
            for user, totals in users.items()
            if shard_of(user, SHARDS) == shard
        }

    def commit(
        users: Mapping[str, tuple[int, ...]] | None = None,
        merchants: Mapping[str, Mapping[str, tuple[int, ...]]] | None = None,
        *,
        report_changes: bool = True,
        **named: Any,
    ) -> None:
        for shard in range(SHARDS):
            averages = packed({**(users or {}), **named}, shard)
            of_merchants = {
                merchant.encode(): part for merchant, some in (merchants or {}).items() if (part := packed(some, shard))
            }
            if averages or of_merchants:
                commits = store.ledger(shard).commits
                change = Change(shard, commits, "", 0, report_changes, {}, averages, of_merchants)
                assert isinstance(store.commit(change), Committed)

    yield commit
    store.close()


@pytest.fixture(scope="module")
def guarded(serve_function: ServeFunction, report_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of a report that asks for keys, and shows ids as they are."""
    settings = dataclasses.replace(report_settings, read_keys=LINES, pseudonyms="off")
    with (
        serve_function("report", settings) as process,
        httpx2.Client(base_url=process.url, trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.fixture
def filled(guarded: httpx2.Client, raw_redis: redis.Redis, put: Put) -> httpx2.Client:
    """The client, and users whose ids tell whose flyers they read, and for how long."""
    empty(raw_redis)
    merchants = {
        merchant: {f"user-of-{place}-{number}": ((place + 1) * HOUR_S, 1) for number in range(5)}
        for place, merchant in enumerate(MERCHANTS)
    }
    shared = {"shared": (HOUR_S, 1)}
    put(
        {
            **{user: totals for users in merchants.values() for user, totals in users.items()},
            "shared": (739 * 9 * HOUR_S, 9),
        },
        {merchant: {**users, **shared} for merchant, users in merchants.items()},
    )
    return guarded
