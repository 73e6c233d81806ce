"""A job with real Spark and an archive, of which some part is killed with SIGKILL at each step of a fold.

Driver, JVM and the store: each a row of runs, of which every one is killed a step further and goes on where the one
before was. A Python worker is killed at each step of one run. What is killed at a commit, with the command under way,
is in tests/spark/test_job.py.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions.adapters.redis_archive import ArchiveStore
from functions.core.events import Event
from functions.core.settings import Settings
from spark.keeping import needed_archive, sweep
from tests.books import check_books
from tests.fold_in_process import fold
from tests.killing_at_commits import family, jvms
from tests.killing_at_steps import FILE_STEPS, STEPS, Stop, file_steps_of, kill_and_wait, run_with_stops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

pytestmark = pytest.mark.timeout(600)

JOB = (sys.executable, "-m", "spark.main", "--run", "test")
A_STEP = 80
"""Events that come in before each run: two rounds and more of each of the four shards."""
EVENTS = [
    Event(number * 977_000_000, f"u{number % 40}", ("flyer_open", "flyer_close")[number % 2], f"f{number % 3}", "m")
    for number in range(A_STEP * len(STEPS))
]


@pytest.fixture
def server(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A store that has on disk what it has answered."""
    with make_server({"appendfsync": "always"}) as server:
        yield server


@pytest.fixture
def kept(server: EmbeddedValkey, tmp_path: Path) -> Settings:
    """Four shards, and an archive."""
    return Settings(redis_url=server.url, shards=4, archive_uri=str(tmp_path / "archive"))


class Folder:
    """The archive's folder, and which of its files are on no record."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: set[str] = set()

    def check_at(self, step: str) -> None:
        """Check that some file is where a step has it."""
        store = ArchiveStore(self._settings)
        archive = needed_archive(self._settings, store)
        new = set(self._unrecorded(store)) - self._known
        (root,) = Path(self._settings.archive_uri or "").iterdir() if new else (Path(),)
        if step in FILE_STEPS:
            assert step in file_steps_of(root, sorted(new))
        assert new <= {path for shard in range(4) for path in archive.paths(shard)}
        store.close()

    def left(self) -> list[str]:
        """Return the files that are on no record; from now on they are known."""
        store = ArchiveStore(self._settings)
        found = self._unrecorded(store)
        store.close()
        self._known.update(found)
        return found

    def sweep(self) -> list[str]:
        """Sweep the folder, check that nothing else lies there, and return what went."""
        store = ArchiveStore(self._settings)
        archive = needed_archive(self._settings, store)
        swept = [path for shard in range(4) for path in sweep(store, archive, shard)]
        assert [] == self._unrecorded(store)
        store.close()
        return swept

    def _unrecorded(self, store: ArchiveStore) -> list[str]:
        archive = needed_archive(self._settings, store)
        on_record = {file.path for shard in range(4) for file in store.archive_books(shard).files}
        return [path for shard in range(4) for path in archive.paths(shard) if path not in on_record]


def fold_rest(settings: Settings) -> None:
    """Fold what is still pending, as the next run would."""
    store = ArchiveStore(settings)
    fold(settings, store)
    store.close()


def status_of(victim: str, step: str) -> int:
    """Return the exit status of a job."""
    if victim == "store":
        return 0 if step == "folded" else 75
    return -signal.SIGKILL if victim == "driver" or STEPS.index(step) % 2 else 1


def in_requests(events: list[Event]) -> list[list[Event]]:
    """Return events as small requests, so that a shard's log has several entries."""
    return [events[start : start + 16] for start in range(0, len(events), 16)]


@pytest.mark.parametrize("victim", ["driver", "JVM, or all of it", "store"])
def test_a_job_whose_part_is_killed_at_each_step_loses_and_doubles_nothing(
    server: EmbeddedValkey,
    kept: Settings,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    victim: str,
) -> None:
    """What goes on without it may commit; books and archive are exact after each run, the report at the end."""
    folder = Folder(kept)

    def act(stop: Stop, job: int, _: int) -> None:
        folder.check_at(stop.step)
        if victim == "store":
            server.kill()
        else:
            kill_and_wait([job] if victim == "driver" else family(job) if STEPS.index(stop.step) % 2 else jvms(job))

    sent = 0
    for step in STEPS if victim in {"driver", "store"} else STEPS[:-1]:  # by the last one the JVM has ended
        fill_log(kept, in_requests(EVENTS[sent : sent + A_STEP]))
        sent += A_STEP
        nth = 1 if step == "folded" else 3
        process = run_with_stops(JOB, kept, [Stop(step, nth)], act, FLYERTIME_ROUND_EVENTS="10")
        if victim == "store":
            server.start()

        assert status_of(victim, step) == process.returncode, step
        folded, pending = check_books(kept, EVENTS)
        assert (sent, True) == (folded + pending, folded > 0), step
        assert step != "folded" or pending == 0
        folder.left()
    fold_rest(kept)

    assert (sent, 0) == check_books(kept, EVENTS)
    assert plain_report(EVENTS[:sent]) == read_report(kept)
    left = folder.left()
    assert left == folder.sweep()
    assert left or victim == "driver"  # without it, workers may bring each file that they have begun to its commit
    assert (sent, 0) == check_books(kept, EVENTS)


def test_a_python_worker_killed_at_each_step_of_a_run_is_replaced_each_time(
    kept: Settings, fill_log: Fill, read_report: Read, plain_report: Plain
) -> None:
    """Books and archive are exact at each of these moments; the run succeeds."""
    folder = Folder(kept)
    fill_log(kept, in_requests(EVENTS))
    folded = [0]

    def act(stop: Stop, _: int, worker: int) -> None:
        folder.check_at(stop.step)
        kill_and_wait([worker])
        folded.append(check_books(kept, EVENTS)[0])  # the next worker waits at its first step
        folder.left()

    stops = [Stop(step, 2) for step in STEPS if step != "folded"]  # a worker has no part in that
    process = run_with_stops(JOB, kept, stops, act, FLYERTIME_ROUND_EVENTS="10", FLYERTIME_SPARK_MASTER="local[2,20]")

    assert 0 == process.returncode
    assert (len(EVENTS), 0) == check_books(kept, EVENTS)
    assert plain_report(EVENTS) == read_report(kept)
    assert folded == sorted(folded)
    assert folded[-1] > folded[1]
    assert len(folder.sweep()) >= len(FILE_STEPS)
