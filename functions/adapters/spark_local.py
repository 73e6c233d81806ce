"""The launcher for one machine: each run is a job in local mode, under a supervisor that outlives trigger.

A run is known by its folder; see functions/adapters/run_folders.py. Nothing here depends on which trigger started it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from errno import EACCES, EEXIST, ENOTDIR, EPERM, EROFS
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.adapters import exchange, run_folders
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.policy import Run, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functions.core.policy import Launch
    from functions.core.settings import Settings

JOB: Final = (sys.executable, "-m", "spark.main", "--run")
"""The job; the run's name follows. Its settings are in the environment, which it has from trigger."""
_START_TIMEOUT_S: Final = 30.0


class LocalLauncher:
    """Runs Spark on this machine."""

    def __init__(self, settings: Settings, command: Sequence[str] | None = None) -> None:
        """Prepare the launcher.

        Args:
            settings: Where the runs are kept, and for how long one may take.
            command: What to run instead of the job; the run's name is added to it.
        """
        self._settings = settings
        self._command = list(command or JOB)
        self._runs_dir = Path(settings.local_runs_dir).absolute()

    async def runs(self) -> list[Run]:
        """Return the runs of this pipeline, of any state."""
        return await asyncio.to_thread(self._runs)

    async def launch(self, launch: Launch) -> bool:
        """Start a run and return True; return False where a run of this name exists already.

        Raises:
            UnavailableError: This machine cannot start a process, or is out of disk space.
            MisconfiguredError: The folder for the runs cannot be written.
        """
        return await asyncio.to_thread(self._launch, launch)

    async def close(self) -> None:
        """Do nothing: runs outlive trigger."""

    def _runs(self) -> list[Run]:
        with self._translated_errors():
            return [
                Run(
                    name=started.name,
                    digest=started.digest,
                    attempt=started.attempt,
                    state=_state_of(result),
                    ended_ms=result.ended_ms if result else None,
                    message=result.message if result else "",
                )
                for started, result in run_folders.read_all(self._runs_dir)
                if started.namespace == self._settings.namespace
            ]

    def _launch(self, launch: Launch) -> bool:
        with self._translated_errors():
            lock = run_folders.create(self._runs_dir, self._started(launch))
            if lock is None:
                return False
            try:
                self._start_supervisor(self._runs_dir / launch.name, lock)
            finally:
                os.close(lock)  # the supervisor holds it now; where there is none the run counts as failed
            run_folders.prune(self._runs_dir, self._settings.local_runs_kept)
        return True

    def _started(self, launch: Launch) -> run_folders.Started:
        return run_folders.Started(
            name=launch.name,
            namespace=self._settings.namespace,
            digest=launch.digest,
            attempt=launch.attempt,
            cause=launch.cause.value,
            pending_events=launch.pending_events,
            started_ms=time.time_ns() // 1_000_000,
            command=[*self._command, launch.name],
            max_run_s=self._settings.local_max_run_s,
            sink_url=self._settings.run_ended_sink or self._settings.sink_url,
        )

    def _start_supervisor(self, folder: Path, lock: int) -> None:
        """Start the supervisor, which leaves a process of its own behind and returns: no child of ours is left over."""
        caller = exchange.trace()
        environment = os.environ if caller is None else {**os.environ, "TRACEPARENT": caller.traceparent}
        with (folder / run_folders.LOG).open("ab") as log:
            status = subprocess.run(
                [sys.executable, "-m", "functions.local.supervisor", str(folder), str(lock)],
                pass_fds=(lock,),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                timeout=_START_TIMEOUT_S,
                check=False,
            ).returncode
        if status:
            raise UnavailableError("run_not_started", f"the supervisor ended with status {status}; see {folder}/log")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except subprocess.TimeoutExpired as e:
            raise UnavailableError("run_not_started", f"the supervisor took over {_START_TIMEOUT_S:g} s") from e
        except OSError as e:
            reason = f"{self._runs_dir}: {e.strerror}"
            if e.errno in {EACCES, EPERM, EROFS, ENOTDIR, EEXIST}:
                raise MisconfiguredError("bad_runs_dir", f"FLYERTIME_LOCAL_RUNS_DIR cannot be used: {reason}") from e
            raise UnavailableError("run_not_started", f"this machine cannot start a run: {reason}") from e


def stop_runs(runs_dir: Path, patience_s: float = 30.0) -> None:
    """End all active runs, for who stops the whole pipeline; what they have committed stays, the rest is still pending.

    Args:
        runs_dir: Where the runs are kept.
        patience_s: Seconds for one run to end by itself before it is killed.
    """
    for started, result in run_folders.read_all(runs_dir):
        if result is None:
            run_folders.stop(runs_dir / started.name, patience_s)


def _state_of(result: run_folders.Result | None) -> RunState:
    if result is None:
        return RunState.ACTIVE
    return RunState.SUCCEEDED if result.succeeded else RunState.FAILED
