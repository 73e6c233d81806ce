"""Runs on this machine come to an end: their processes die, they take too long, they are stopped; trigger is told."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from functions.adapters import cloud_events, run_folders
from functions.adapters.spark_local import LocalLauncher, stop_runs
from functions.core import event_types
from functions.core.policy import RunState
from functions.core.settings import Settings
from functions.local.valkey import free_port
from tests.adapters.local_runs import NAME, ended, folder, launch_of, runs, start, supervisor_of, until


def test_a_killed_supervisor_is_a_failed_run_and_takes_the_job_along(local: Settings) -> None:
    """The run has failed as soon as its processes have gone, and nothing of it works on."""
    start(local, f"pathlib.Path({local.local_runs_dir!r}, 'job').write_text(str(os.getpid())); time.sleep(60)")
    job_pid = int(until(lambda: path.read_text() if (path := Path(local.local_runs_dir, "job")).exists() else None))
    started_ms = time.time_ns() // 1_000_000 - 60_000
    os.kill(supervisor_of(local), signal.SIGKILL)

    run = ended(local)

    assert (RunState.FAILED, "the run's process has gone") == (run.state, run.message)
    assert run.ended_ms is not None
    assert started_ms < run.ended_ms <= time.time_ns() // 1_000_000
    until(lambda: not Path(f"/proc/{job_pid}").exists() or " Z " in Path(f"/proc/{job_pid}/stat").read_text())


def test_another_process_with_the_supervisors_number_is_not_the_run(local: Settings) -> None:
    """Numbers of processes are used again; what counts is who holds the lock."""
    start(local)
    ended(local)
    (folder(local) / "result.json").unlink()
    (folder(local) / "lock").write_text(str(os.getpid()))

    assert RunState.FAILED is runs(local)[NAME].state


def test_a_run_whose_launcher_died_before_it_had_a_supervisor_has_failed(local: Settings) -> None:
    """The name is taken, and nobody holds the lock."""
    started = LocalLauncher(local)._started(launch_of())
    lock = run_folders.create(Path(local.local_runs_dir), started)
    assert lock is not None
    assert runs(local)[NAME].state is RunState.ACTIVE
    os.close(lock)

    assert RunState.FAILED is runs(local)[NAME].state


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """It has failed, and the message says why."""
    local = Settings(local_runs_dir=str(tmp_path / "runs"), local_max_run_s=1)
    start(local, "time.sleep(60)")

    run = ended(local)

    assert (RunState.FAILED, "it took more than 1 s and was ended") == (run.state, run.message)


def test_stopping_ends_active_runs_and_no_others(local: Settings) -> None:
    """Who stops the pipeline ends its runs; those that had ended stay as they were."""
    start(local, attempt=1)
    ended(local)
    start(local, "time.sleep(60)", attempt=2)
    supervisor_of(local, launch_of(2).name)

    stop_runs(Path(local.local_runs_dir))

    states = {run.attempt: (run.state, run.message) for run in runs(local).values()}
    assert {1: (RunState.SUCCEEDED, ""), 2: (RunState.FAILED, "it was stopped from outside")} == states


def test_a_run_that_will_not_stop_is_killed(local: Settings) -> None:
    """Patience ends."""
    stubborn = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path({local.local_runs_dir!r}, 'up').touch()"
    start(local, f"{stubborn}; time.sleep(60)")
    until(Path(local.local_runs_dir, "up").exists)

    stop_runs(Path(local.local_runs_dir), 0.5)

    assert RunState.FAILED is runs(local)[NAME].state


def test_only_the_newest_ended_runs_are_kept(tmp_path: Path) -> None:
    """Older ones go when a further run starts; an active one stays whatever its age."""
    local = Settings(local_runs_dir=str(tmp_path / "runs"), local_runs_kept=2)
    start(local, "time.sleep(60)", attempt=1)
    for attempt in (2, 3, 4):
        start(local, attempt=attempt)
        ended(local, launch_of(attempt).name)
    left_over = tmp_path / "runs" / ".new-of-a-killed-trigger"
    left_over.mkdir()
    os.utime(left_over, (0, 0))

    start(local, "time.sleep(60)", attempt=5)

    try:
        assert [1, 3, 4, 5] == sorted(run.attempt for run in runs(local).values())
        assert not left_over.exists()
    finally:
        stop_runs(tmp_path / "runs", 2)


class Sink:
    """A real HTTP server that refuses the first requests and keeps the CloudEvents of the others."""

    def __init__(self, port: int, refusals: int = 0) -> None:
        self.received: queue.Queue[cloud_events.Received | cloud_events.Refused] = queue.Queue()
        statuses = [503] * refusals
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = statuses.pop() if statuses else 204
                if status == 204:
                    received.put(cloud_events.decode({k.lower(): v for k, v in self.headers.items()}, body)[0])
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()

    def __enter__(self) -> queue.Queue[cloud_events.Received | cloud_events.Refused]:
        return self.received

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("refusals", [0, 2])
def test_trigger_is_told_when_a_run_has_ended(tmp_path: Path, refusals: int) -> None:
    """By one CloudEvent, sent again where trigger is not up yet; by then the result is there to see."""
    port = free_port()
    local = Settings(local_runs_dir=str(tmp_path), run_ended_sink=f"http://127.0.0.1:{port}", namespace="told")
    with Sink(port, refusals) as received:
        start(local, "sys.exit('alas')")
        event = received.get(timeout=30)

    assert RunState.FAILED is runs(local)[NAME].state
    assert isinstance(event, cloud_events.Received)
    assert (event_types.RUN_ENDED, "/flyertime/told/runs", f"{NAME}-ended") == (event.type, event.source, event.id)
    assert {"run": NAME, "state": "failed", "message": "exit status 1: alas"} == event.data
    assert received.empty()


def test_a_trigger_that_is_away_changes_nothing(tmp_path: Path) -> None:
    """The result stands; the supervisor gives up after a few tries and says so in the log."""
    local = Settings(local_runs_dir=str(tmp_path), sink_url=f"http://127.0.0.1:{free_port()}")
    start(local)

    assert RunState.SUCCEEDED is ended(local).state
    until(lambda: "trigger was not told" in (folder(local) / "log").read_text())


def test_a_result_is_seen_whole_or_not_at_all(local: Settings) -> None:
    """Who reads while it is written sees an active run, then the result."""
    runs_dir = Path(local.local_runs_dir)
    lock = run_folders.create(runs_dir, LocalLauncher(local)._started(launch_of()))
    assert lock is not None
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            run = run_folders.read(runs_dir / NAME)
            assert run is not None
            seen.add(run[1].message if run[1] else "active")

    watcher = threading.Thread(target=watch)
    watcher.start()
    long = "x" * 100_000
    for _ in range(50):
        run_folders.write_result(
            runs_dir / NAME, run_folders.Result(succeeded=False, exit_status=1, ended_ms=1, message=long)
        )
    stop.set()
    watcher.join()
    os.close(lock)

    assert {"active", long} >= seen
    assert [run_folders.RESULT] == [path.name for path in (runs_dir / NAME).glob("result*")]
    assert json.loads((runs_dir / NAME / "run.json").read_text())["cause"] == "threshold_reached"
