"""Merging history into a shard, without Spark around it: once, whatever is cut, repeated, doubled or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.ipc
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from functions.adapters.redis_history import HistoryStore
from functions.core.events import Event
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.spans import Totals, spans_of, unpack_totals
from spark.backfill_parts import merge_part, parts_of
from spark.folding import LATENESS_US
from tests.made_up_history import history_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functions.local.valkey import EmbeddedValkey

SHARDS = 2
ROOT = Path(__file__).parent.parent.parent
_counter = iter(range(10**9))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_parts_hold_whole_users_of_one_shard(keys: list[tuple[int, int]], most: int, batch: int) -> None:
    """Cut wherever the batches end: nothing is lost, and no user is in two parts."""
    table = pa.table({"shard": [key[0] for key in sorted(keys)], "place": [key[1] for key in sorted(keys)]})
    parts = list(parts_of(table.to_batches(max_chunksize=batch), most))
    found = [[(row["shard"], row["place"]) for row in part.to_pylist()] for _, part in parts]

    assert sorted(keys) == [key for part in found for key in part]
    assert all({shard} == {key[0] for key in part} for (shard, _), part in zip(parts, found, strict=True))
    assert len(set(keys)) == sum(len(set(part)) for part in found)
    assert all(len(part) <= most or len(set(part)) == 1 for part in found)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_repeated_and_broken_off_backfills_count_once(
    data: st.DataObject,
    valkey: EmbeddedValkey,
    events_strategy: Callable[..., st.SearchStrategy[list[Event]]],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Any number of starts, each cutting otherwise and ending anywhere; then one that comes to the end."""
    settings = Settings(redis_url=valkey.url, namespace=f"parts{next(_counter)}", shards=SHARDS)
    histories = {name: data.draw(events_strategy(20)) for name in ("first", "second")}
    store = HistoryStore(settings)
    store.lay_out()
    for name, events in histories.items():
        table = history_of(events, SHARDS)
        for stop in [*data.draw(st.lists(st.integers(0, 5), max_size=3)), None]:
            for number, (shard, part) in enumerate(parts_of(table.to_batches(), data.draw(st.integers(1, 6)))):
                if number == stop:
                    break
                merge_part(store, name, shard, part, LATENESS_US)
    counted = sum(store.ledger(shard).backfilled for shard in range(SHARDS))
    store.close()
    everything = [event for events in histories.values() for event in events]

    assert plain_report(everything) == read_report(settings)
    assert counted == sum(span.events for spans in spans_of(everything).values() for span in spans.values())


def test_a_user_with_more_events_than_memory_is_merged_as_spans(settings: Settings) -> None:
    """Everybody's numbers are right; only the time from open to close of that one user's flyers is not kept."""
    settings = Settings(redis_url=settings.redis_url, namespace=settings.namespace, shards=SHARDS)
    many = [Event(second * 1_000_000, "bot", "flyer_open", f"f{second % 3}", "m") for second in range(1000)]
    few = [Event(0, "u", "flyer_open", "f", "m"), Event(60_000_000, "u", "flyer_close", "f", "m")]
    store = HistoryStore(settings)
    store.lay_out()
    parts = list(parts_of(history_of(many + few, SHARDS).to_batches(max_chunksize=100), 10))
    for shard, part in parts:
        merge_part(store, "history", shard, part, LATENESS_US)
    values = {user: store.averages(shard_of(user, SHARDS), [user.encode()])[0] for user in ("bot", "u")}
    store.close()

    assert max(len(part) for _, part in parts) < 300
    assert Totals(999 + 996 + 996, 997, 0, 999_000_000) == unpack_totals(values["bot"] or b"")
    assert Totals(60, 1, 0, 60_000_000, 60, 1, 0) == unpack_totals(values["u"] or b"")


WORKER = """
import os, sys, pyarrow.ipc
from functions.core.environment import parse
from spark.backfill import merge_batches
with pyarrow.ipc.open_stream(sys.argv[1]) as reader:
    for _ in merge_batches(reader.read_all().to_batches(), "history", parse(os.environ)):
        pass
"""


def test_a_backfill_killed_again_and_again_counts_once(
    settings: Settings,
    tmp_path: Path,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """SIGKILL as soon as some more is committed, several times, with a rival all the while; the last one ends."""
    settings = Settings(redis_url=settings.redis_url, namespace=settings.namespace, shards=SHARDS)
    events = [
        Event(number * 977_000_000, f"u{number % 700}", "flyer_open", f"f{number % 3}", "m") for number in range(5000)
    ]
    table = history_of(events, SHARDS)
    with pyarrow.ipc.new_stream(str(tmp_path / "spans"), table.schema) as writer:
        writer.write_table(table)
    store = HistoryStore(settings)
    store.lay_out()
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": settings.redis_url,
        "FLYERTIME_NAMESPACE": settings.namespace,
        "FLYERTIME_ROUND_EVENTS": "4",
    }

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "spans")], env=environment, cwd=ROOT)

    def commits() -> int:
        return sum(store.ledger(shard).commits for shard in range(SHARDS))

    killed = 0
    for _ in range(3):
        before, process = commits(), start()
        deadline_s = time.monotonic() + 60
        while commits() < before + 20 and process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    last = [start(), start()]

    assert [0, 0] == [process.wait(100) for process in last]
    assert killed >= 2
    assert plain_report(events) == read_report(settings)
    assert 5000 == sum(store.ledger(shard).backfilled for shard in range(SHARDS))
    store.close()
