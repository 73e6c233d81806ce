"""Reports of many users are made by Arrow's kernels, and say what they say without."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from functions.adapters.redis_summaries import SummaryStore
from functions.core.report_query import table_query
from functions.core.report_texts import Csv, JsonArray, JsonLines, TextEncoder
from functions.report import kernels, shard_texts
from functions.report.kernels import Kernels
from functions.report.shard_texts import ShardTexts
from functions.report.summaries import Summaries
from functions.report.tables import columns_of, whole_table
from functions.report.views import View
from tests.report.conftest import empty

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis

    from functions.adapters.redis_bulk import Asked
    from functions.adapters.redis_regular import Regular
    from functions.adapters.redis_report import Averages
    from functions.core.report_columns import Column
    from functions.core.settings import Settings
    from functions.report.kernels import SortedRows
    from tests.report.conftest import Put

USERS = {f"user{number}": (3600 * (number % 9) + 18 * number, number % 4) for number in range(500)}


@pytest.fixture
def many(report_settings: Settings, put: Put, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store whose users are taken for many."""
    monkeypatch.setattr(shard_texts, "FEW_USERS", 0)
    monkeypatch.setattr(kernels, "MANY_USERS", len(USERS))
    empty(raw_redis)
    put(USERS)
    return report_settings


async def answers(
    settings: Settings, used: Kernels, encoder_of: Callable[[Sequence[Column]], TextEncoder]
) -> list[object]:
    """Return the whole table, asked for twice, and the summary."""
    store = SummaryStore(settings)
    texts, view, query = ShardTexts(store, used), View(), table_query({})
    try:
        state = await store.state()
        found: list[object] = []
        for _ in range(2):
            pieces = whole_table(store, state, view, query, encoder_of(columns_of(query)), texts)
            found.append(b"".join([piece async for piece in pieces]))
        return [*found, await Summaries(store, used).of(state, view)]
    finally:
        await store.close()


@pytest.mark.parametrize("encoder_of", [JsonArray, JsonLines, Csv])
@pytest.mark.parametrize("odd", ["", 'a,"b"', "=1+1"])
def test_tables_and_summaries_are_the_same(
    report_settings: Settings,
    put: Put,
    raw_redis: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    encoder_of: Callable[[Sequence[Column]], TextEncoder],
    odd: str,
) -> None:
    """Whatever the ids are made of."""
    monkeypatch.setattr(shard_texts, "FEW_USERS", 0)
    empty(raw_redis)
    put({**USERS, odd: (3600, 1)})

    async def both() -> tuple[list[object], list[object]]:
        imported = Kernels()
        imported.prepare(len(USERS))
        assert await imported.ready() is None, "so few users are not worth it"
        plain = await answers(report_settings, imported, encoder_of)
        monkeypatch.setattr(kernels, "MANY_USERS", len(USERS))
        frozen = gc.get_freeze_count()
        imported.prepare(len(USERS))
        assert await imported.ready() is not None
        assert gc.get_freeze_count() > frozen  # these modules are not looked through for cycles
        return plain, await answers(report_settings, imported, encoder_of)

    plain, by_kernels = asyncio.run(both())
    assert plain == by_kernels
    assert plain[0] == plain[1]


def test_shards_whose_users_have_no_session_are_empty(
    report_settings: Settings, put: Put, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are put in order by the kernels."""
    monkeypatch.setattr(shard_texts, "FEW_USERS", 0)
    monkeypatch.setattr(kernels, "MANY_USERS", 1)
    empty(raw_redis)
    put(dict.fromkeys(USERS, (0, 0)))

    async def table() -> list[object]:
        used = Kernels()
        used.prepare(len(USERS))
        assert await used.ready() is not None
        return await answers(report_settings, used, JsonArray)

    first, second, _ = asyncio.run(table())
    assert b"[]" == first == second


def test_what_one_format_was_made_of_serves_the_others(many: Settings, raw_redis: redis.Redis) -> None:
    """Averages are read once; what is kept of them has no format."""
    query = table_query({})
    columns = columns_of(query)

    async def tables() -> tuple[list[bytes], int]:
        store, used = SummaryStore(many), Kernels()
        texts = ShardTexts(store, used)
        try:
            used.prepare(len(USERS))
            state = await store.state()
            made: list[bytes] = []
            for encoder in (JsonArray(columns), Csv(columns), JsonLines(columns)):
                if made:
                    raw_redis.config_resetstat()
                pieces = whole_table(store, state, View(), query, encoder, texts)
                made.append(b"".join([piece async for piece in pieces]))
            return made, int(raw_redis.info("commandstats").get("cmdstat_hgetall", {}).get("calls", 0))
        finally:
            await store.close()

    (array, lines, objects), reads = asyncio.run(tables())
    assert 0 == reads
    assert json.loads(array) == [json.loads(line) for line in objects.splitlines()]
    assert [[row["user_id"], str(float(row["avg_time_on_flyer_per_user_hours"]))] for row in json.loads(array)] == [
        line.split(",") for line in lines.decode().splitlines()[1:]
    ]


def test_the_next_shard_is_read_while_one_is_put_in_order(many: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """That one waits here for the store to be asked for the next, in vain where it comes only afterwards."""
    begun: list[int] = []
    in_order: list[bool] = []

    class Noting(SummaryStore):
        """Notes which shards it is asked for."""

        async def _whole(self, shard: int, merchant: str | None, ahead: Asked | None = None) -> Averages | Regular:
            begun.append(shard)
            return await super()._whole(shard, merchant, ahead)

    async def table() -> None:
        store, used = Noting(many), Kernels()
        used.prepare(len(USERS))
        rows = await used.ready()
        assert rows is not None
        sorted_rows = rows.sorted_rows

        def patient(averages: Averages | Regular) -> SortedRows | None:
            number = len(in_order)
            deadline_s = time.monotonic() + 1
            while len(begun) < min(number + 2, shards) and time.monotonic() < deadline_s:
                time.sleep(0.005)
            in_order.append(len(begun) >= min(number + 2, shards))
            return sorted_rows(averages)

        monkeypatch.setattr(rows, "sorted_rows", patient)
        try:
            state = await store.state()
            shards = len(state.shards)
            query = table_query({})
            made = whole_table(store, state, View(), query, Csv(columns_of(query)), ShardTexts(store, used))
            assert len(USERS) > len([piece async for piece in made]) > 0
        finally:
            await store.close()

    asyncio.run(table())
    assert [True] * len(in_order) == in_order
    assert len(in_order) > 1


@pytest.mark.parametrize("read", ["whole", "the first piece"])
def test_what_waits_to_be_packed_does_so_no_longer_once_its_table_is_sent_or_left(many: Settings, read: str) -> None:
    """What was sent whole is kept then; nothing else is, and its memory is free for others."""
    query = table_query({})

    async def left() -> tuple[int, int, int]:
        store, used = SummaryStore(many), Kernels()
        texts = ShardTexts(store, used)
        used.prepare(len(USERS))
        try:
            state = await store.state()
            async with aclosing(texts.of(state, View(), query, Csv(columns_of(query)))) as pieces:
                async for _ in pieces:
                    waiting_bytes = texts._later_bytes
                    if read != "whole" and waiting_bytes:
                        break
            await texts._packed()
            return waiting_bytes, texts._later_bytes, texts._kept.held_bytes
        finally:
            await store.close()

    waiting_bytes, left_bytes, kept_bytes = asyncio.run(left())
    assert waiting_bytes > 0
    assert (0, read == "whole") == (left_bytes, kept_bytes > 0)
