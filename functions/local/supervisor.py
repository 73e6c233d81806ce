"""The process beside a local run: it starts the job, waits for its end, writes the result and tells trigger.

``python -m functions.local.supervisor RUN_FOLDER LOCK_FD``, which returns when the supervisor is under way in a process
of its own. It belongs to no function: trigger may scale to zero, or be killed, while a run goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from functions.adapters import run_folders
from functions.core import event_types
from functions.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.adapters.run_folders import Result, Started

_GRACE_S: Final = 15.0
_PAUSES_S: Final = (0.3, 1.0, 3.0)
_DELIVERY_TIMEOUT_S: Final = 5.0
_TAIL_BYTES: Final = 16_384
_MESSAGE_CHARACTERS: Final = 500
_STOPPED: Final = "it was stopped from outside"
_MEANINGS: Final = {2: "wrong arguments or settings", 75: "the store did not answer"}


class StoppedError(Exception):
    """Somebody asked the supervisor to end, and the run with it."""


def main() -> int:
    """Supervise a run from a process that nobody waits for."""
    if os.fork():
        return 0
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGTERM, _stop)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    started = msgspec.json.decode((folder / run_folders.RUN).read_bytes(), type=run_folders.Started)
    result = supervise(folder, started, lock)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run_folders.write_result(folder, result)
    os.close(lock)
    if started.sink_url is not None and result.message != _STOPPED:
        tell(started.sink_url, started, result)
    return 0


def supervise(folder: Path, started: Started, lock: int) -> Result:
    """Run the job and return how it ended."""
    with (folder / run_folders.LOG).open("ab") as log:
        try:
            job = subprocess.Popen(
                started.command,
                pass_fds=(lock,),  # while the job lives the run is active
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_ending_with(os.getpid()),  # noqa: PLW1509  # this process has one thread
            )
        except OSError as e:
            return _failed(None, f"{started.command[0]} cannot be started: {e.strerror}")
        try:
            status = job.wait(started.max_run_s)
        except subprocess.TimeoutExpired:
            return _failed(_end(job), f"it took more than {started.max_run_s:g} s and was ended")
        except StoppedError:
            return _failed(_end(job), _STOPPED)
    if status == 0:
        return run_folders.Result(succeeded=True, exit_status=0, ended_ms=_now_ms())
    if status < 0:
        meaning = f"ended by signal {-status}"
    else:
        meaning = f"exit status {status}" + (f", {_MEANINGS[status]}" if status in _MEANINGS else "")
    last = last_words(folder / run_folders.LOG)
    return _failed(status, f"{meaning}: {last}" if last else meaning)


def last_words(log: Path) -> str:
    """Return the last error in a job's log, or else its last line; cut to what fits an explanation."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if " ERROR " in line]
    last = (errors or lines or [""])[-1]
    return last.partition(" ERROR ")[2][:_MESSAGE_CHARACTERS] if errors else last[:_MESSAGE_CHARACTERS]


def tell(sink_url: str, started: Started, result: Result) -> None:
    """Send RUN_ENDED; where nobody takes it the ping will do."""
    from functions.adapters import event_sink  # noqa: PLC0415  # the run goes on without it until here

    source = f"/flyertime/{started.namespace}/runs"
    data = {"run": started.name, "state": "succeeded" if result.succeeded else "failed", "message": result.message}
    for pause_s in (*_PAUSES_S, None):
        try:
            asyncio.run(
                event_sink.deliver(
                    sink_url,
                    event_types.RUN_ENDED,
                    source,
                    data,
                    event_id=f"{started.name}-ended",
                    timeout_s=_DELIVERY_TIMEOUT_S,
                    traceparent=os.environ.get("TRACEPARENT"),
                )
            )
        except UnavailableError as e:
            if pause_s is None:
                sys.stderr.write(f"trigger was not told that {started.name} has ended: {e.message}\n")
            else:
                time.sleep(pause_s)
        else:
            return


def _end(job: subprocess.Popen[bytes]) -> int:
    """Ask the job to end, then make it."""
    job.terminate()
    try:
        return job.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        job.kill()
        return job.wait()


def _failed(exit_status: int | None, message: str) -> Result:
    return run_folders.Result(succeeded=False, exit_status=exit_status, ended_ms=_now_ms(), message=message)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _stop(*_: object) -> None:
    raise StoppedError


def _ending_with(supervisor: int) -> Callable[[], None] | None:
    """Return what makes the kernel end the job when its supervisor is killed, where the kernel can (Linux).

    Elsewhere the job goes on, holds the lock, and so the run stays active until it ends.
    """
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415  # only here

    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG in <sys/prctl.h>

    def end_with_supervisor() -> None:
        prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != supervisor:  # it was killed before the kernel knew
            os._exit(1)

    return end_with_supervisor


if __name__ == "__main__":
    sys.exit(main())
