"""A store and databases that hold the averages of so many users, made directly, without events."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import redis

from functions.adapters.redis_shard import Change, ShardStore
from functions.adapters.redis_store import RedisStore
from functions.core.settings import Settings
from functions.core.shards import DEFAULT_SHARDS, Keys, shards_of
from functions.core.spans import Totals, pack_totals
from spark.columns import unpack_totals
from spark.summing import ALL, SumChange, summaries_after, summary_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BATCH_USERS: Final = 20_000


def user_of(number: int) -> str:
    """Return a user id of 64 characters."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def fill_store(url: str, namespace: str, users: int) -> None:
    """Put the averages of users into a store, as a fold leaves them."""
    asyncio.run(_lay_out(url, namespace))
    keys = Keys(namespace)
    with redis.Redis.from_url(url) as client:
        for batch in _batches(users):
            pipe = client.pipeline(transaction=False)
            shards = shards_of([user for user, _ in batch], DEFAULT_SHARDS)
            parts: dict[int, dict[str | bytes, str | bytes | int | float]] = {}
            for (user, totals), shard in zip(batch, shards, strict=True):
                parts.setdefault(shard, {})[user] = pack_totals(totals)
            for shard, part in parts.items():
                pipe.hset(keys.averages(shard), mapping=part)
                pipe.hset(keys.ledger(shard), "version", "1772438400000000")
            pipe.execute()


def change_store(url: str, namespace: str) -> None:
    """Have each shard say that a fold has changed it, after which nothing that was kept of it is good for anything."""
    keys = Keys(namespace)
    with redis.Redis.from_url(url) as client:
        for shard in range(DEFAULT_SHARDS):
            client.hincrby(keys.ledger(shard), "version", 1)


def change_as_a_run(url: str, namespace: str) -> None:
    """Commit to each shard what a run does where one user's average changes, here to what it was.

    So the shard's summary, where one is kept, is taken along.
    """
    store = ShardStore(Settings(redis_url=url, namespace=namespace))
    with redis.Redis.from_url(url) as client:
        for shard in range(DEFAULT_SHARDS):
            ledger = store.ledger(shard)
            user: Any = client.hrandfield(store.keys.averages(shard))
            value: Any = client.hget(store.keys.averages(shard), user)
            same = summary_of(unpack_totals([value]))
            change = Change(shard, ledger.commits, "", 1, report_changes=True, spans={}, averages={user: value})
            summaries = summaries_after(store, ledger, {ALL: SumChange(same, same)})
            store.commit(dataclasses.replace(change, summaries=summaries))
    store.close()


def change_unsummed(url: str, namespace: str) -> None:
    """Change each shard and leave no summary, as an erasure of a user does."""
    change_store(url, namespace)
    keys = Keys(namespace)
    with redis.Redis.from_url(url) as client:
        client.delete(*(keys.summaries(shard) for shard in range(DEFAULT_SHARDS)))


def fill_databases(folder: Path, users: int) -> dict[str, Path]:
    """Put the same rows into an SQLite and a DuckDB file, and return their paths."""
    import duckdb  # noqa: PLC0415  # only this measurement needs it

    paths = {"sqlite": folder / f"{users}.sqlite", "duckdb": folder / f"{users}.duckdb"}
    table = "create table averages (user_id text primary key, seconds bigint, sessions bigint)"
    lite = sqlite3.connect(paths["sqlite"])
    lite.execute(f"{table} without rowid")
    for batch in _batches(users):
        rows = ((user, totals.seconds, totals.sessions) for user, totals in batch)
        lite.executemany("insert into averages values (?, ?, ?)", rows)
    lite.commit()
    csv = folder / "rows.csv"
    with csv.open("w") as file:
        file.writelines(
            f"{user},{seconds},{sessions}\n" for user, seconds, sessions in lite.execute("select * from averages")
        )
    lite.close()
    with duckdb.connect(paths["duckdb"]) as duck:
        duck.execute(table)
        duck.execute(f"copy averages from '{csv}' (header false)")
    csv.unlink()
    return paths


async def _lay_out(url: str, namespace: str) -> None:
    store = RedisStore(Settings(redis_url=url, namespace=namespace))
    await store.shards()
    await store.close()


def _batches(users: int) -> Iterator[list[tuple[str, Totals]]]:
    draw = random.Random(users)
    for start in range(0, users, _BATCH_USERS):
        yield [(user_of(number), _totals(draw)) for number in range(start, min(users, start + _BATCH_USERS))]


def _totals(draw: random.Random) -> Totals:
    sessions = draw.randint(1, 40)
    first_us = 1_772_438_400_000_000 + draw.randint(0, 10**12)
    return Totals(int(draw.lognormvariate(6.5, 1.2) * sessions) + 1, sessions, first_us, first_us + 10**9, 0, 0, 1)
