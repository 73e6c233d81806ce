"""Runs on this machine: taken once, watched to their end, and known for dead when they are."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from functions.adapters import cloud_events, run_folders
from functions.adapters.spark_local import LocalLauncher, stop_runs
from functions.core import event_types
from functions.core.errors import MisconfiguredError
from functions.core.policy import Cause, Launch, Run, RunState
from functions.core.settings import Settings
from functions.local.valkey import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
DIGEST = "0123456789ab"


def launch_of(attempt: int = 1) -> Launch:
    """Return an order to start a run."""
    return Launch(f"ft-{DIGEST}-{attempt}", DIGEST, attempt, 7, Cause.THRESHOLD, "enough")


NAME = launch_of().name


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a folder of the test's own; whatever still runs in it at the end is ended."""
    runs_dir = tmp_path / "runs"
    yield Settings(local_runs_dir=str(runs_dir))
    stop_runs(runs_dir, 2)


def job(code: str) -> list[str]:
    """Return a job that does this instead of Spark's."""
    return [sys.executable, "-c", f"import os, pathlib, signal, sys, time\n{code}"]


def start(settings: Settings, code: str = "", attempt: int = 1) -> bool:
    """Start a run of that job."""
    return asyncio.run(LocalLauncher(settings, job(code)).launch(launch_of(attempt)))


def runs(settings: Settings) -> dict[str, Run]:
    """Return the runs by name."""
    return {run.name: run for run in asyncio.run(LocalLauncher(settings).runs())}


def until(look: Callable[[], T | None], timeout_s: float = 20) -> T:
    """Return what the look finds, once it finds something."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)
    return found


def ended(settings: Settings, name: str = NAME) -> Run:
    """Return a run when it has ended."""
    return until(lambda: run if (run := runs(settings)[name]).state is not RunState.ACTIVE else None)


def folder(settings: Settings, name: str = NAME) -> Path:
    """Return a run's folder."""
    return Path(settings.local_runs_dir) / name


def supervisor_of(settings: Settings, name: str = NAME) -> int:
    """Return the process id of a run's supervisor."""
    return int(until((folder(settings, name) / "lock").read_text))


def test_a_run_that_exits_with_0_has_succeeded(local: Settings) -> None:
    """It is active until then, and ended by this machine's clock."""
    before_ms = time.time_ns() // 1_000_000
    assert start(local, f"while not pathlib.Path({local.local_runs_dir!r}, 'go').exists(): time.sleep(.01)")
    assert Run(NAME, DIGEST, 1, RunState.ACTIVE) == runs(local)[NAME]
    Path(local.local_runs_dir, "go").touch()

    run = ended(local)

    assert (NAME, DIGEST, 1, RunState.SUCCEEDED, "") == (run.name, run.digest, run.attempt, run.state, run.message)
    assert run.ended_ms is not None
    assert before_ms <= run.ended_ms <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('so sad'); sys.exit(1)", "exit status 1: so sad"),
        ("sys.exit(75)", "exit status 75, the store did not answer"),
        ("print('bad'); sys.exit(2)", "exit status 2, wrong arguments or settings: bad"),
        ("sys.exit('2026-01-01 12:00:00 ERROR shard 3: no\\nWARN all done')", "exit status 1: shard 3: no"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9"),
    ],
)
def test_a_run_that_exits_otherwise_has_failed_and_says_why(local: Settings, code: str, message: str) -> None:
    """The message has the status and the job's last error."""
    start(local, code)

    run = ended(local)

    assert (RunState.FAILED, message) == (run.state, run.message)


def test_a_job_that_cannot_be_started_has_failed(local: Settings) -> None:
    """A missing interpreter is told, not lost."""
    asyncio.run(LocalLauncher(local, ["/no/such/python"]).launch(launch_of()))

    assert "/no/such/python cannot be started: No such file or directory" == ended(local).message


def test_what_a_job_prints_is_in_its_log(local: Settings) -> None:
    """Both of its outputs, in the run's folder."""
    start(local, "print('out', flush=True); print('err', file=sys.stderr)")
    ended(local)

    assert "out\nerr\n" == (folder(local) / "log").read_text()


def test_the_job_is_told_the_runs_name_and_has_the_environment(
    local: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings come from the environment of trigger."""
    monkeypatch.setenv("FLYERTIME_NAMESPACE", "from-trigger")
    start(local, "print(sys.argv[1], os.environ['FLYERTIME_NAMESPACE'])")
    ended(local)

    assert f"{NAME} from-trigger\n" == (folder(local) / "log").read_text()


def test_a_name_is_taken_once(local: Settings) -> None:
    """Whether the run of that name is active or has ended."""
    assert start(local, "time.sleep(60)")
    assert not start(local)
    assert runs(local)[NAME].state is RunState.ACTIVE
    stop_runs(Path(local.local_runs_dir))

    assert not start(local)
    assert [NAME] == list(runs(local))


def test_of_many_launchers_at_once_one_starts_the_run(local: Settings, tmp_path: Path) -> None:
    """In four processes with four threads each, all let go at the same moment."""
    gate = tmp_path / "gate"
    launch = (
        "import asyncio, pathlib, sys, time\n"
        "from tests.adapters.test_spark_local import *\n"
        "async def race(settings):\n"
        "    print('ready', flush=True)\n"
        f"    while not pathlib.Path({str(gate)!r}).exists(): time.sleep(.001)\n"
        "    launchers = [LocalLauncher(settings, job('time.sleep(60)')) for _ in range(4)]\n"
        "    return await asyncio.gather(*(launcher.launch(launch_of()) for launcher in launchers))\n"
        f"print(sum(asyncio.run(race(Settings(local_runs_dir={local.local_runs_dir!r})))))\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", launch], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert "ready\n" == racer.stdout.readline()
    gate.touch()

    started = [int(racer.communicate(timeout=30)[0]) for racer in racers]

    assert 1 == sum(started)
    assert [NAME] == list(runs(local))


def test_a_run_survives_its_launcher(local: Settings) -> None:
    """Trigger may be killed, with all its session; the run goes on and its end is known."""
    go = Path(local.local_runs_dir, "go")
    launch = (
        "from tests.adapters.test_spark_local import *\n"
        f'start(Settings(local_runs_dir={local.local_runs_dir!r}), """\n'
        f'while not pathlib.Path({str(go)!r}).exists(): time.sleep(.01)\n""")\n'
        "print('started', flush=True); time.sleep(60)\n"
    )
    trigger = subprocess.Popen(
        [sys.executable, "-c", launch], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert trigger.stdout is not None
    assert "started\n" == trigger.stdout.readline()
    assert os.getsid(supervisor_of(local)) != os.getsid(trigger.pid)
    os.killpg(trigger.pid, signal.SIGKILL)
    trigger.communicate()

    assert runs(local)[NAME].state is RunState.ACTIVE
    go.touch()
    assert RunState.SUCCEEDED is ended(local).state


def test_starting_a_run_leaves_no_child_behind(local: Settings) -> None:
    """Nobody needs to wait for the supervisor: it belongs to no function."""
    start(local, "time.sleep(60)")

    assert os.getpid() != int(Path(f"/proc/{supervisor_of(local)}/stat").read_text().rpartition(")")[2].split()[1])


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


def test_another_pipelines_runs_are_not_ours(local: Settings) -> None:
    """Two namespaces may share the folder."""
    start(local)

    assert {} == runs(Settings(local_runs_dir=local.local_runs_dir, namespace="other"))


def test_a_folder_that_is_no_run_is_passed_over(local: Settings) -> None:
    """Whatever else somebody puts beside the runs does no harm."""
    start(local)
    runs_dir = Path(local.local_runs_dir)
    (runs_dir / "notes").mkdir()
    (runs_dir / "notes.txt").touch()
    (runs_dir / "broken").mkdir()
    (runs_dir / "broken" / "run.json").write_text("{")

    assert [NAME] == list(runs(local))


def test_a_folder_that_cannot_be_used_is_the_operators_matter(tmp_path: Path) -> None:
    """The message names the setting."""
    (tmp_path / "file").touch()

    with pytest.raises(MisconfiguredError, match="FLYERTIME_LOCAL_RUNS_DIR cannot be used"):
        start(Settings(local_runs_dir=str(tmp_path / "file")))


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
