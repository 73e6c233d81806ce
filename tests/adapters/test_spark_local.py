"""Runs on this machine: taken once, watched to their end, and known for dead when they are."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from functions.adapters.spark_local import LocalLauncher, stop_runs
from functions.core.errors import MisconfiguredError
from functions.core.policy import Run, RunState
from functions.core.settings import Settings
from tests.adapters.local_runs import DIGEST, NAME, ended, folder, launch_of, runs, start, supervisor_of


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
        "from functions.adapters.spark_local import LocalLauncher\n"
        "from functions.core.settings import Settings\n"
        "from tests.adapters.local_runs import job, launch_of\n"
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
        "from functions.core.settings import Settings\n"
        "from tests.adapters.local_runs import start\n"
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
