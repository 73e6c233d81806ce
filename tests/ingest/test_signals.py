"""Telling trigger that a backlog is reached, and waiting for a fold."""

from __future__ import annotations

import json
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from functions.adapters.redis_shard import Change, ShardStore
from functions.adapters.redis_store import Appended
from functions.core import event_types
from functions.core.shards import shard_of
from functions.core.spans import Totals, pack_totals
from functions.ingest.signals import reached_shard
from tests.event_sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import FunctionProcess, ServeFunction


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink for K_SINK."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def signalling(serve_function: ServeFunction, settings: Settings, sink: Sink) -> Iterator[FunctionProcess]:
    """Ingest with a threshold of 40 events over four shards: ten a shard."""
    with serve_function("ingest", settings, K_SINK=sink.url, FLYERTIME_THRESHOLD_EVENTS="40") as process:
        yield process


def post(process: FunctionProcess, app_event: Any, count: int, user: str = "u", **headers: str) -> httpx2.Response:
    """Post events of one user, which belong to one shard, as a raw array."""
    return httpx2.post(
        f"{process.url}/api/process",
        content=json.dumps([app_event(user_id=user)] * count),
        headers={"content-type": "application/json", **headers},
        timeout=30,
        trust_env=False,
    )


def test_passing_a_shards_part_of_the_threshold_sends_one_event(
    signalling: FunctionProcess, sink: Sink, app_event: Any
) -> None:
    """Below its part nothing is sent; passing it and each multiple of it sends one event."""
    for count in (9, 1, 9, 25):
        assert 200 == post(signalling, app_event, count).status_code

    sent = [sink.next(), sink.next()]
    assert [event_types.BACKLOG_REACHED] * 2 == [event.type for event in sent]
    assert [10, 44] == [event.data["pending_events"] for event in sent]  # type: ignore[index]  # ours: an object
    assert sink.received.empty()


@pytest.mark.parametrize(
    ("before", "after", "reached"),
    [(0, 9, False), (9, 10, True), (0, 30, True), (10, 19, False), (19, 20, True), (15, 45, True)],
)
def test_a_part_is_reached_when_a_multiple_of_it_is_passed(before: int, after: int, *, reached: bool) -> None:
    """Signals come when a multiple of the part is passed, and not between."""
    assert reached == (reached_shard({3: Appended("1-0", before, after)}, 10) == 3)


def test_a_sink_that_is_away_costs_the_sender_nothing(
    serve_function: ServeFunction, settings: Settings, app_event: Any
) -> None:
    """The events are accepted, at once; the ping will find the backlog."""
    environment = {"K_SINK": "http://127.0.0.1:9/", "FLYERTIME_THRESHOLD_EVENTS": "1"}
    with serve_function("ingest", settings, **environment) as process:
        assert "3" == post(process, app_event, 3).headers["flyertime-accepted"]
    assert "the ping will do" in process.log.read_text()


def test_waiting_asks_for_a_flush_and_answers_when_the_events_are_folded(
    signalling: FunctionProcess, sink: Sink, settings: Settings, app_event: Any
) -> None:
    """Prefer: wait holds the reply until the report has these events; here the test stands in for the Spark run."""
    replies: queue.Queue[httpx2.Response] = queue.Queue()
    sender = threading.Thread(
        target=lambda: replies.put(post(signalling, app_event, 2, user="waits", prefer="wait=20"))
    )
    sender.start()
    assert event_types.FLUSH_REQUESTED == sink.next().type
    store = ShardStore(settings)
    ledger = store.ledger(shard_of("waits", 4))
    averages = {b"waits": pack_totals(Totals(3600, 1, 0, 3_600_000_000))}
    store.commit(Change(ledger.shard, ledger.commits, str(ledger.newest_id), 2, True, {}, averages))
    store.close()
    sender.join()

    reply = replies.get_nowait()
    assert [{"user_id": "waits", "avg_time_on_flyer_per_user_hours": 1.0}] == reply.json()
    assert ("wait=20", "true") == (reply.headers["preference-applied"], reply.headers["flyertime-folded"])


def test_waiting_ends_when_its_time_is_up(signalling: FunctionProcess, app_event: Any) -> None:
    """Nobody folds: the reply comes after the time asked for, and says that the events are not in it."""
    started = time.monotonic()
    reply = post(signalling, app_event, 2, prefer="wait=1")

    assert (200, "false", []) == (reply.status_code, reply.headers["flyertime-folded"], reply.json())
    assert 1 <= time.monotonic() - started < 10
