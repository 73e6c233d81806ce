"""A user is found by a pseudonym without everybody being read each time, and rightly while runs commit."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import TYPE_CHECKING

import httpx2
import pytest

from functions.adapters.redis_state import ShardState, StoreState
from functions.core.access import sha256_of
from functions.core.ledger import ShardLedger
from functions.core.pseudonyms import Pseudonyms
from functions.core.read_access import ReadKey
from functions.report.pseudonym_index import PseudonymIndex
from functions.report.views import View
from tests.report.conftest import SHARDS, empty
from tests.report.readers import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import redis

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction
    from tests.report.conftest import Put

OWN = Pseudonyms(SECRET, "m")
USERS = {f"u{number}": (number * 3600, 1) for number in range(40)}


@pytest.fixture
def client(serve_function: ServeFunction, report_settings: Settings, raw_redis: redis.Redis) -> Iterator[httpx2.Client]:
    """A reader of one merchant, of a report that has just started."""
    empty(raw_redis)
    line = ReadKey("m", sha256_of("ftr_m"), "m").line
    settings = dataclasses.replace(report_settings, read_keys=line, pseudonym_secret=SECRET)
    with (
        serve_function("report", settings) as process,
        httpx2.Client(
            base_url=process.url, trust_env=False, headers={"authorization": "Bearer ftr_m"}
        ) as client,
    ):  # fmt: skip
        yield client


def hours_of(client: httpx2.Client, user: str) -> float | None:
    """Return the average of a user who is asked for by the pseudonym; None: a 404."""
    answer = client.get(f"/users/{OWN.of(user.encode()).decode()}")
    if answer.status_code == 404:
        assert "no_such_user" == answer.json()["code"]
        return None
    row = answer.raise_for_status().json()
    assert OWN.of(user.encode()).decode() == row["user_id"]
    hours: float = row["avg_time_on_flyer_per_user_hours"]
    return hours


def tables_read(client: httpx2.Client) -> int:
    """Return how often the process has read a shard's averages as a whole."""
    pattern = r'^db_client_operation_duration_seconds_count\{.*"report_shard".*\} (\d+)'
    found = re.search(pattern, client.get("/metrics").text, re.MULTILINE)
    return 0 if found is None else int(found[1])


def test_everybody_is_found_and_read_once(client: httpx2.Client, put: Put) -> None:
    """Also who is not there costs nothing more, as long as nothing changes."""
    put(None, {"m": USERS, "n": {"x": (1, 1)}})

    assert {user: number * 1.0 for number, user in enumerate(USERS)} == {user: hours_of(client, user) for user in USERS}
    assert [None] * 20 == [hours_of(client, f"nobody-{number}") for number in range(20)]
    assert None is hours_of(client, "x"), "another merchant's user"
    assert SHARDS == tables_read(client)


def test_a_commit_shows_at_once(client: httpx2.Client, put: Put) -> None:
    """A changed number needs no table read, a new user those that have changed; who is gone is gone."""
    put(None, {"m": USERS})
    assert 3.0 == hours_of(client, "u3")
    assert hours_of(client, "new") is None
    put(None, {"m": {"u3": (7 * 3600, 1)}})
    before = tables_read(client)

    assert 7.0 == hours_of(client, "u3")
    assert before == tables_read(client)
    put(None, {"m": {"new": (3600, 1)}})
    assert 1.0 == hours_of(client, "new")
    assert before + 1 <= tables_read(client) <= before + 2
    put(None, {"m": {"u3": (0, 0)}})
    assert hours_of(client, "u3") is None


def test_what_is_no_pseudonym_reads_nothing(client: httpx2.Client, put: Put) -> None:
    """An id, a part of a pseudonym, one in capitals."""
    put(None, {"m": USERS})
    right = OWN.of(b"u3").decode()
    answers = [client.get(f"/users/{wrong}") for wrong in ("u3", right[:-1], right.upper(), right + "0", "%00")]

    assert [404] * 5 == [answer.status_code for answer in answers]
    assert 0 == tables_read(client)


class Shelf:
    """A store with so many users in one shard, for each merchant."""

    def __init__(self, users: int) -> None:
        self.names = [f"user-{number}".encode() for number in range(users)]
        self.reads = 0

    async def pieces(self, *_: object) -> AsyncIterator[tuple[list[bytes], list[bytes]]]:
        """Yield them."""
        self.reads += 1
        yield self.names, [b""] * len(self.names)


async def found_twice(index: PseudonymIndex, merchant: str) -> list[str | None]:
    """Look the same user up twice."""
    state = StoreState((ShardState(ShardLedger(0), 100, 1),), None, "p", 0)
    pseudonyms = Pseudonyms(SECRET, merchant)
    view = View(merchant, bound=True, pseudonyms=pseudonyms)
    return [await index.user_of(pseudonyms.of(b"user-7").decode(), state, view) for _ in range(2)]


@pytest.mark.parametrize(("most_bytes", "reads"), [(10_000, 2), (3_000, 3), (100, 6)])
def test_it_keeps_no_more_than_it_may(most_bytes: int, reads: int) -> None:
    """The merchant looked at longest ago makes room; one that is larger than all room is read each time, and right."""
    shelf = Shelf(100)
    index = PseudonymIndex(shelf, most_bytes)  # type: ignore[arg-type]  # all that it uses of it

    for merchant in ("a", "b", "a"):
        assert ["user-7"] * 2 == asyncio.run(found_twice(index, merchant))
    assert reads == shelf.reads
