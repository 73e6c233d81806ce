"""History with real Spark and an archive, from files to a rebuilt state; killed on the way, it counts once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_client import load_script
from functions.core.events import Event
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.spans import pack_totals, spans_of, totals_of
from spark.backfill import merge_batches
from spark.keeping import needed_archive, sweep
from spark.verifying import verify_shard
from tests.fold_in_process import fold
from tests.killing_at_commits import ROOT, environment_of, family, kill_at, python_workers
from tests.killing_at_steps import FILE_STEPS, Stop, kill_and_wait, run_with_stops
from tests.made_up_history import history_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

    Fill = Callable[[Settings, Iterable[list[Event]]], None]

pytestmark = pytest.mark.timeout(240)

EVENTS = [
    Event(
        1_700_000_000_000_000 + number * 977_000_000,
        f"u{number % 40}",
        ("flyer_open", "flyer_close", "list_open")[number % 3],
        f"f{number % 7 % 3}",
        ("m", "n", "")[number % 5 % 3],
    )
    for number in range(600)
]
HISTORY, LOG = EVENTS[:400], EVENTS[400:]


@pytest.fixture
def server(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A store that has on disk what it has answered, and knows the commit script by its name."""
    with make_server({"appendfsync": "always"}) as server:
        with redis.Redis.from_url(server.url) as client:
            client.script_load(load_script("commit").text)
        yield server


@pytest.fixture
def kept(server: EmbeddedValkey, tmp_path: Path, fill_log: Fill) -> Settings:
    """History as Parquet, a log that is folded already, and an archive."""
    rows = {name: [getattr(event, name) for event in HISTORY] for name in Event._fields[1:]}
    times = pa.array([event.timestamp_us for event in HISTORY], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"timestamp": times, **rows}), tmp_path / "history.parquet")
    settings = Settings(redis_url=server.url, shards=4, archive_uri=str(tmp_path / "archive"), lateness_s=10**7)
    fill_log(settings, [LOG])
    store = CheckedStore(settings)
    fold(settings, store)
    store.close()
    return settings


def command(*arguments: str) -> tuple[str, ...]:
    """Return what runs a command of the job."""
    return (sys.executable, "-m", "spark.main", *arguments)


def backfill(tmp_path: Path) -> tuple[str, ...]:
    """Return what counts the history."""
    return command("backfill", "--input", str(tmp_path / "history.parquet"), "--format", "parquet", "--id", "old")


def run(job: tuple[str, ...], settings: Settings) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        job, env=environment_of(settings), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def count_history(settings: Settings) -> None:
    """Count it as the tasks of a backfill do, without Spark."""
    for _ in merge_batches(history_of(HISTORY, 4).to_batches(), "old", settings):
        pass


def check_all(settings: Settings) -> None:
    """Check the totals of every user against the plain computation, and all books against each other."""
    store = CheckedStore(settings)
    archive = needed_archive(settings, store)
    store.ledger(0)  # the averages of the live generation
    users = {user: shard_of(user, 4) for user in {event.user_id for event in EVENTS}}
    stored = {user: store.averages(shard, [user.encode()])[0] for user, shard in users.items()}
    expected = spans_of(EVENTS, settings.lateness_us)
    assert {user: pack_totals(totals_of(spans)) for user, spans in expected.items()} == stored
    for shard in range(4):
        sweep(store, archive, shard)
        found = verify_shard(store, archive, shard)
        assert ([], True) == (found.deviations, found.recomputed)
    store.close()


def test_history_counted_by_spark_is_in_the_archive_and_in_a_state_that_spark_rebuilds_from_it(
    kept: Settings, tmp_path: Path, server: EmbeddedValkey
) -> None:
    """The state is lost in between: the archive alone gives all numbers, those from open to close too."""
    counted = run(backfill(tmp_path), kept)
    assert (0, True) == (counted.returncode, "rows taken                400" in counted.stdout), counted.stderr
    check_all(kept)
    with redis.Redis.from_url(server.url) as client:
        for shard in range(4):
            client.delete(f"{{ft:{shard}}}:spans", f"{{ft:{shard}}}:averages")
    rebuilt = run(command("rebuild", "--workers", "spark"), kept)

    assert (0, True) == (rebuilt.returncode, "generation 1 is live" in rebuilt.stdout), rebuilt.stderr
    check_all(kept)


@pytest.mark.parametrize(
    ("victims", "commit", "moment", "status"),
    [
        (family, 3, "before", -signal.SIGKILL),
        (python_workers, 2, "after", 0),
        (None, 3, "after", 75),
    ],
    ids=["all of it", "Python worker", "store"],
)
def test_a_backfill_killed_at_a_commit_counts_once(
    kept: Settings,
    tmp_path: Path,
    server: EmbeddedValkey,
    victims: Callable[[int], list[int]] | None,
    commit: int,
    moment: str,
    status: int,
) -> None:
    """Spark tries a lost worker's task again; what ends with another status is started again, and goes on."""
    process = kill_at(backfill(tmp_path), kept, server, commit, moment, victims or (lambda _: [server.pid]))
    if victims is None:
        server.kill()  # it is: this waits for its end
        server.start()

    assert status == process.returncode
    assert 0 == run(backfill(tmp_path), kept).returncode
    check_all(kept)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("victim", "steps", "status"),
    [("Python worker", (*FILE_STEPS, "committed"), 0), ("driver", ("half",), -signal.SIGKILL)],
)
def test_a_backfill_killed_while_it_writes_to_the_archive_counts_once(
    kept: Settings, tmp_path: Path, victim: str, steps: tuple[str, ...], status: int
) -> None:
    """Its worker at each step of a file, in one run that succeeds; its driver, which is started again."""

    def act(_: Stop, job: int, worker: int) -> None:
        kill_and_wait([worker if victim == "Python worker" else job])

    more = {"FLYERTIME_SPARK_MASTER": "local[2,20]", "FLYERTIME_ROUND_EVENTS": "10"}
    process = run_with_stops(backfill(tmp_path), kept, [Stop(step, 2) for step in steps], act, **more)

    assert status == process.returncode
    if status:
        assert 0 == run(backfill(tmp_path), kept).returncode
    check_all(kept)


@pytest.mark.parametrize("job", ["backfill", "rebuild"])
def test_a_job_that_is_asked_to_stop_says_so_and_goes_on_when_started_again(
    kept: Settings, server: EmbeddedValkey, tmp_path: Path, job: str
) -> None:
    """With SIGTERM, while Spark's tasks are at work."""
    if job == "rebuild":
        count_history(kept)
    work = backfill(tmp_path) if job == "backfill" else command("rebuild", "--workers", "spark")

    def stop(pid: int) -> list[int]:
        os.kill(pid, signal.SIGTERM)
        return []

    process = kill_at(work, kept, server, 2, "after", stop)

    assert 1 == process.returncode
    assert 0 == run(work, kept).returncode
    check_all(kept)


@pytest.mark.parametrize(("part", "status"), [("Python worker", 0), ("store", 75)])
def test_a_rebuild_killed_at_a_commit_is_right_when_it_ends(
    kept: Settings, server: EmbeddedValkey, part: str, status: int
) -> None:
    """The live state stays until it does."""
    count_history(kept)
    victims = python_workers if part == "Python worker" else lambda _: [server.pid]
    process = kill_at(command("rebuild", "--workers", "spark"), kept, server, 3, "after", victims)
    if part == "store":
        server.kill()  # it is: this waits for its end
        server.start()
        check_all(kept)
        assert 0 == run(command("rebuild"), kept).returncode

    assert status == process.returncode
    check_all(kept)
