"""The job as a process: what it says, and what is left when it is killed."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_shard import ShardStore
from functions.core.event_types import REPORT_UPDATED
from functions.core.events import Event
from functions.core.settings import Settings
from functions.local.valkey import free_port
from spark.keeping import archive_of, left_over, sweep
from spark.tasks import SHARDS_AT_ONCE
from tests.books import check_books
from tests.event_sink import Sink
from tests.killing_at_commits import ROOT, environment_of, family, jvms, kill_at, python_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import redis

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

pytestmark = pytest.mark.timeout(240)

JOB = (sys.executable, "-m", "spark.main", "--run", "test")
WITHOUT_JVM = (
    sys.executable,
    "-c",
    "import os\nfrom functions.core.environment import parse\nfrom spark.running import bounds_of\n"  # noqa: ISC004  # one script
    "from spark.tasks import fold_groups\nprint(list(fold_groups([bounds_of(parse(os.environ))])))",
)
"""The same tasks on the same shards, in one process."""
EVENTS = [
    Event(number * 977_000_000, f"u{number % 40}", "flyer_open", f"f{number % 3}", f"m{number % 2}")
    for number in range(600)
]


def run(command: tuple[str, ...], settings: Settings, **more: str) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    environment = environment_of(settings, **more)
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def folded_and_pending(settings: Settings) -> tuple[int, int]:
    """Return events folded and pending as the ledgers have them, also while a run goes on."""
    store = ArchiveStore(settings)
    ledgers = [store.ledger(shard) for shard in range(store.shards())]
    store.close()
    return sum(ledger.folded for ledger in ledgers), sum(ledger.pending for ledger in ledgers)


@pytest.fixture
def filled(
    settings: Settings,
    tmp_path: Path,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
) -> Settings:
    """A log of 60 entries with 600 events, and an archive."""
    settings = dataclasses.replace(settings, archive_uri=str(tmp_path / "archive"))
    fill_log(settings, [EVENTS[start : start + 20] for start in range(0, 600, 20)])
    return settings


POINTS = [(1, "before"), (1, "after"), (3, "before"), (6, "after"), (10, "before"), (15, "after")]


@pytest.mark.parametrize(("commit", "moment"), POINTS)
def test_a_task_killed_at_a_commit_loses_and_doubles_nothing(
    filled: Settings,
    valkey: EmbeddedValkey,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
    commit: int,
    moment: str,
) -> None:
    """Before the first commit, between rounds, between shards, just after a commit: then run again."""
    process = kill_at(WITHOUT_JVM, filled, valkey, commit, moment, lambda pid: [pid])

    assert -signal.SIGKILL == process.returncode
    folded, pending = check_books(filled, EVENTS)
    assert (600, moment == "after" or commit > 1) == (folded + pending, folded > 0)
    assert 0 == run(WITHOUT_JVM, filled).returncode
    assert (600, 0) == check_books(filled, EVENTS)
    assert plain_report(EVENTS) == read_report(filled)


KILLED_AT_A_FILE = """
import os, signal, sys, spark.archive
moment, left, act = sys.argv[1], int(sys.argv[2]), os.replace
def replace(*names):
    global left
    left -= 1
    if left:
        return act(*names)
    if moment == "after":
        act(*names)
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
from functions.core.environment import parse
from spark.running import bounds_of
from spark.tasks import fold_groups
list(fold_groups([bounds_of(parse(os.environ))]))
"""


@pytest.mark.parametrize(("file", "moment"), [(1, "before"), (1, "after"), (5, "before"), (5, "after")])
def test_a_task_killed_at_a_file_of_the_archive_loses_and_doubles_nothing(
    filled: Settings,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
    file: int,
    moment: str,
) -> None:
    """What is left in the folder is on no record, is told from what is, and is swept away."""
    process = run((sys.executable, "-c", KILLED_AT_A_FILE, moment, str(file)), filled)
    store = ArchiveStore(filled)
    archive = archive_of(filled, store)
    assert archive is not None

    def left() -> list[str]:
        return [path for shard in range(4) for path in left_over(store, shard, archive.paths(shard))]

    assert -signal.SIGKILL == process.returncode
    assert 600 == sum(check_books(filled, EVENTS))
    assert [] == left()  # for all we know, its commit is on its way
    assert 0 == run(WITHOUT_JVM, filled).returncode
    assert (600, 0) == check_books(filled, EVENTS)
    assert plain_report(EVENTS) == read_report(filled)
    names = left()  # one of each shard that was being folded
    assert 1 <= len(names) <= SHARDS_AT_ONCE
    assert any((moment == "before") == name.endswith(".tmp") for name in names)
    assert names == [path for shard in range(4) for path in sweep(store, archive, shard)]
    assert (600, 0) == check_books(filled, EVENTS)
    on_record = {file.path for shard in range(4) for file in store.archive_books(shard).files}
    assert on_record == {path for shard in range(4) for path in archive.paths(shard)}
    store.close()


@pytest.mark.parametrize(("commit", "moment"), [(2, "before"), (5, "after")])
def test_a_whole_job_killed_at_a_commit_loses_and_doubles_nothing(
    filled: Settings,
    valkey: EmbeddedValkey,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
    commit: int,
    moment: str,
) -> None:
    """Driver, JVM and Python workers gone at once; the next run goes on where the commits ended."""
    process = kill_at(JOB, filled, valkey, commit, moment, family)

    assert -signal.SIGKILL == process.returncode
    folded, pending = check_books(filled, EVENTS)
    assert 600 == folded + pending
    assert 0 < pending
    assert 0 == run(WITHOUT_JVM, filled).returncode
    assert (600, 0) == check_books(filled, EVENTS)
    assert plain_report(EVENTS) == read_report(filled)


def only_driver(pid: int) -> list[int]:
    """Return the driver's own process."""
    return [pid]


@pytest.mark.parametrize(
    ("victims", "commit", "moment"),
    [(only_driver, 4, "after"), (only_driver, 2, "before"), (jvms, 3, "before"), (jvms, 5, "after")],
)
def test_a_part_of_a_job_killed_at_a_commit_loses_and_doubles_nothing(
    filled: Settings,
    valkey: EmbeddedValkey,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
    victims: Callable[[int], list[int]],
    commit: int,
    moment: str,
) -> None:
    """What is left of it may go on and commit; whatever it does, the next run begins where the commits are."""
    process = kill_at(JOB, filled, valkey, commit, moment, victims)

    assert 0 != process.returncode
    assert 600 == sum(check_books(filled, EVENTS))
    assert 0 == run(WITHOUT_JVM, filled).returncode
    assert (600, 0) == check_books(filled, EVENTS)
    assert plain_report(EVENTS) == read_report(filled)


@pytest.mark.parametrize(("commit", "moment"), [(1, "before"), (1, "after"), (6, "before"), (6, "after")])
def test_a_store_killed_at_a_commit_loses_and_doubles_nothing(
    make_server: MakeServer,
    tmp_path: Path,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
    commit: int,
    moment: str,
) -> None:
    """With SIGKILL; it starts again from its file, and the next run goes on where the commits in it end."""
    with make_server() as server:
        settings = Settings(redis_url=server.url, shards=4, archive_uri=str(tmp_path / "archive"))
        fill_log(settings, [EVENTS[start : start + 20] for start in range(0, 600, 20)])
        process = kill_at(WITHOUT_JVM, settings, server, commit, moment, lambda _: [server.pid])
        server.kill()  # it is: this waits for its end
        server.start()
        folded, pending = check_books(settings, EVENTS)

        assert 0 == process.returncode  # the tasks say which shards they had to leave
        assert (600, moment == "after" or commit > 1) == (folded + pending, folded > 0)
        assert 0 == run(WITHOUT_JVM, settings).returncode
        assert (600, 0) == check_books(settings, EVENTS)
        assert plain_report(EVENTS) == read_report(settings)


@pytest.mark.parametrize(("commit", "moment"), [(3, "before"), (3, "after")])
def test_a_python_worker_killed_at_a_commit_is_replaced(
    filled: Settings,
    valkey: EmbeddedValkey,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
    commit: int,
    moment: str,
) -> None:
    """Spark tries the task again, which reads again what was not committed: the run succeeds."""
    process = kill_at(JOB, filled, valkey, commit, moment, python_workers)

    assert 0 == process.returncode
    assert (600, 0) == check_books(filled, EVENTS)
    assert plain_report(EVENTS) == read_report(filled)


def test_two_jobs_at_once_fold_everything_once(
    filled: Settings,
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Both succeed, and together they do the work of one."""
    both = [
        subprocess.Popen(
            JOB, env=environment_of(filled), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]

    assert [0, 0] == [process.wait(120) for process in both]
    assert (600, 0) == check_books(filled, EVENTS)
    assert plain_report(EVENTS) == read_report(filled)


def test_a_run_is_put_on_record(filled: Settings, raw_redis: redis.Redis) -> None:
    """What it folded and when; a run with nothing to do starts no JVM and succeeds too."""
    started_s = time.monotonic()
    first, second = run(JOB, filled), run(JOB, filled)
    entries: Any = raw_redis.xrange(f"{{{filled.namespace}}}:runs")
    records = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    assert [0, 0] == [first.returncode, second.returncode], first.stderr
    assert "600 events of 4 shards" in first.stderr
    assert {"run", "started_at", "ended_at", "state", "events", "shards", "rounds", "superseded", "late_events",
            "error"} == records[0].keys()  # fmt: skip
    assert [("test", "succeeded", "600"), ("test", "succeeded", "0")] == [
        (record["run"], record["state"], record["events"]) for record in records
    ]
    assert time.monotonic() - started_s < 120


def test_a_damaged_shard_holds_up_no_other(filled: Settings, raw_redis: redis.Redis) -> None:
    """The run fails and says which entry; the other shards are folded."""
    entry: Any = raw_redis.xadd(f"{{{filled.namespace}:0}}:events", {"e": b"\x09nonsense"})
    raw_redis.hincrby(f"{{{filled.namespace}:0}}:ledger", "accepted", 1)
    done = run(JOB, filled)
    store = ShardStore(filled)
    pending = [store.ledger(shard).pending for shard in range(4)]
    store.close()

    assert 1 == done.returncode
    assert f"shard 0, log entry {entry.decode()}" in done.stderr
    assert "Traceback" not in done.stderr
    assert [0, 0, 0] == pending[1:]


def test_sigterm_stops_a_run_which_says_so(filled: Settings, valkey: EmbeddedValkey, raw_redis: redis.Redis) -> None:
    """What is committed stays, the rest stays in the log, and the record says that it was stopped."""
    pids: list[int] = []

    def stop(pid: int) -> list[int]:
        os.kill(pid, signal.SIGTERM)
        pids.append(pid)
        return []

    process = kill_at(JOB, filled, valkey, 2, "before", stop)
    entries: Any = raw_redis.xrange(f"{{{filled.namespace}}}:runs")
    (record,) = entries

    assert (1, b"failed") == (process.returncode, record[1][b"state"])
    assert b"stopped from outside" in record[1][b"error"]
    assert 600 == sum(check_books(filled, EVENTS))


def test_a_run_that_lingers_folds_what_comes_in_within_seconds_and_ends_well(
    settings: Settings,
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
    raw_redis: redis.Redis,
) -> None:
    """One JVM for all of it; SIGTERM ends it with success, since nothing that it began is left undone.

    Who waits for the report is told while it goes on.
    """
    fill_log(settings, [EVENTS[:200]])
    with Sink() as sink:
        environment = environment_of(settings, FLYERTIME_LINGER_S="60", FLYERTIME_UPDATES_SINK=sink.url)
        process = subprocess.Popen(JOB, env=environment, cwd=ROOT)
        try:
            took_s = []
            for events in (200, 400, 600):
                started_s = time.monotonic()
                while folded_and_pending(settings) != (events, 0):
                    assert time.monotonic() < started_s + 60
                    time.sleep(0.05)
                took_s.append(time.monotonic() - started_s)
                assert (events, 0) == check_books(settings, EVENTS)
                assert REPORT_UPDATED == sink.next().type
                fill_log(settings, [EVENTS[events : events + 200]] if events < 600 else [])
            process.terminate()
            assert 0 == process.wait(30)
        finally:
            process.kill()
            process.wait()
    entries: Any = raw_redis.xrange(f"{{{settings.namespace}}}:runs")
    (record,) = entries

    assert max(took_s[1:]) < 10
    assert plain_report(EVENTS) == read_report(settings)
    assert (b"succeeded", b"600") == (record[1][b"state"], record[1][b"events"])


def test_help_and_mistakes_are_told_in_few_words(settings: Settings) -> None:
    """--help lists the exit statuses; wrong arguments and settings are status 2, a store that is away is 75."""
    help_text = run((*JOB[:3], "--help"), settings)
    wrong_argument = run((*JOB, "--no-such"), settings)
    wrong_setting = run(JOB, settings, FLYERTIME_ROUND_EVENTS="many")
    store_away = run(JOB, settings, FLYERTIME_REDIS_URL=f"redis://127.0.0.1:{free_port()}")

    assert [0, 2, 2, 75] == [done.returncode for done in (help_text, wrong_argument, wrong_setting, store_away)]
    assert "75 the store did not answer" in help_text.stdout
    assert "FLYERTIME_ROUND_EVENTS must be a whole number" in wrong_setting.stderr
    assert "the store does not answer" in store_away.stderr
    assert "Traceback" not in wrong_setting.stderr + store_away.stderr
