"""Tables asked for again: from memory while nothing has changed, and never another reader's or an older one."""

from __future__ import annotations

from mmap import PAGESIZE
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.report.kept_texts import KeptPart, KeptTexts
from tests.report.conftest import SHARDS

if TYPE_CHECKING:
    import httpx2
    import redis

    from tests.report.conftest import Put

HOUR_S = 3600
USERS = {f"user{number}": (HOUR_S * (number % 9 + 1), 2) for number in range(300)}


def part(version: object, size_bytes: int = 0) -> KeptPart:
    """Return a part of so many bytes, which takes whole pages."""
    return KeptPart(version, 1, (bytes(size_bytes),))


def reads(raw_redis: redis.Redis) -> int:
    """Return how often averages were read whole since the last reset."""
    stats = raw_redis.info("commandstats")
    hashes, looks = (int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("hgetall", "evalsha"))
    return hashes - SHARDS * looks  # a look at how the shards stand reads the books of each


@pytest.mark.parametrize("query", ["", "format=ndjson", "format=csv&fields=all", "min_hours=2", "prefix=user1"])
def test_the_same_question_again_reads_no_averages(
    report: httpx2.Client, put: Put, raw_redis: redis.Redis, query: str
) -> None:
    """And has the same bytes and the same tag."""
    put(USERS)
    first = report.get(f"/?{query}")
    raw_redis.config_resetstat()
    again = report.get(f"/?{query}")

    assert (first.content, first.headers["etag"]) == (again.content, again.headers["etag"])
    assert 0 == reads(raw_redis)  # the script of the books calls HGETALL once for each shard, on the ledger


@pytest.mark.parametrize("wanted", ["json", "ndjson", "csv"])
def test_a_commit_shows_at_once(report: httpx2.Client, put: Put, raw_redis: redis.Redis, wanted: str) -> None:
    """Only the shards that it changed are read again, and the table is that of a process that keeps nothing."""
    put(USERS)
    before = report.get(f"/?format={wanted}").text
    put(user7=(99 * HOUR_S, 1))
    raw_redis.config_resetstat()
    after = report.get(f"/?format={wanted}").text

    assert 1 == reads(raw_redis)
    assert "99.0" not in before
    lines = [text.replace("},", "}\n").splitlines() for text in (before, after)]
    changed = [(old, new) for old, new in zip(*lines, strict=True) if old != new]
    assert 1 == len(changed)
    assert all("user7" in line for line in changed[0])
    filtered = report.get(f"/?format={wanted}&min_sessions=0").text  # the same rows, by a question not asked before
    assert filtered == after


def test_a_merchants_table_is_its_own(report: httpx2.Client, put: Put) -> None:
    """Whoever asked before for whom."""
    put(USERS, {"m1": {"user1": (HOUR_S, 1)}, "m2": {"user2": (2 * HOUR_S, 1)}})
    for _ in range(2):
        assert len(USERS) == len(report.get("/").json())
        assert ["user1"] == [row["user_id"] for row in report.get("/merchants/m1").json()]
        assert ["user2"] == [row["user_id"] for row in report.get("/merchants/m2").json()]


def test_a_store_emptied_shows_nobody(report: httpx2.Client, put: Put, raw_redis: redis.Redis) -> None:
    """What is kept is of a state that is no more."""
    put(USERS)
    report.get("/")
    for shard in range(SHARDS):
        raw_redis.delete(f"{{report:{shard}}}:ledger", f"{{report:{shard}}}:averages")

    assert [] == report.get("/").json()


def test_a_part_of_another_version_is_none() -> None:
    """Neither an older one nor a newer one."""
    kept = KeptTexts()
    kept.keep("q", 0, part(5))

    assert kept.find("q", 0, 5) is not None
    assert [None, None, None] == [kept.find("q", 0, 4), kept.find("q", 1, 5), kept.find("r", 0, 5)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 3), st.integers(0, 4 * PAGESIZE))))
def test_it_never_holds_more_than_it_may(kept_in_turn: list[tuple[str, int, int, int]]) -> None:
    """Whatever is kept in whatever order; and what is found is what was kept last."""
    kept = KeptTexts(10 * PAGESIZE)
    last: dict[tuple[str, int], KeptPart] = {}
    for question, shard, version, size_bytes in kept_in_turn:
        last[question, shard] = part(version, size_bytes)
        kept.keep(question, shard, last[question, shard])
        assert kept.held_bytes <= 10 * PAGESIZE
    found = {key: kept.find(*key, given.version) for key, given in last.items()}
    assert kept.held_bytes == sum(each.size_bytes for each in found.values() if each is not None)
    assert all(each is None or each is last[key] for key, each in found.items())


def test_a_table_larger_than_all_room_does_not_push_itself_out() -> None:
    """What fits stays, and is found the next time too."""
    kept = KeptTexts(3 * PAGESIZE)
    for _ in range(2):
        for shard in range(10):
            if kept.find("q", shard, 1) is None:
                kept.keep("q", shard, part(1, PAGESIZE))

    assert [True] * 3 + [False] * 7 == [kept.find("q", shard, 1) is not None for shard in range(10)]


def test_a_new_question_takes_the_room_of_what_was_asked_longest_ago() -> None:
    """Part by part."""
    kept = KeptTexts(2 * PAGESIZE)
    for question in ("old", "used", "new"):
        kept.keep(question, 0, part(1, PAGESIZE))
        kept.find("used", 0, 1)

    assert [False, True, True] == [kept.find(question, 0, 1) is not None for question in ("old", "used", "new")]
