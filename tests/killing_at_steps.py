"""Killing parts of a job, or the store, at a step of a fold, of which most lie between two writes to the store.

The job's own processes stop there and ask (tests/pausing/sitecustomize.py), so a step is hit each time; what then lies
in the archive's folder shows that it was.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.killing_at_commits import ROOT, environment_of, family, kill, wait_for_end_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from functions.core.settings import Settings

FILE_STEPS: Final = ("empty", "half", "unnamed", "named")
"""Of a file in the archive: open, rows without an end, complete, and by its own name; its commit comes after that."""
STEPS: Final = ("begun", *FILE_STEPS, "committed", "folded")
"""Of a run. ``begun``: a shard's books are about to be read; ``folded``: all is committed, the run not on record."""
_TIMEOUT_S: Final = 120.0


class Stop(NamedTuple):
    """Where to act."""

    step: str
    nth: int
    """Time that it comes to this step, since the last stop."""


def run_with_stops(
    command: tuple[str, ...],
    settings: Settings,
    stops: Iterable[Stop],
    act: Callable[[Stop, int, int], None],
    **more: str,
) -> subprocess.Popen[bytes]:
    """Run a job to its end and act at each of some steps, while the process that is there waits.

    Args:
        command: The job.
        settings: Of its pipeline.
        stops: Where to act, in their order.
        act: Gets the stop, the job's process id and that of the process that is there.
        more: Further variables of the environment.
    """
    left = list(stops)
    count = 0
    deadline_s = time.monotonic() + _TIMEOUT_S
    with socket.create_server(("127.0.0.1", 0), backlog=64) as gate:
        gate.settimeout(0.1)
        environment = environment_of(
            settings,
            FLYERTIME_TEST_GATE=str(gate.getsockname()[1]),
            PYTHONPATH=f"{ROOT / 'tests' / 'pausing'}{os.pathsep}{ROOT}",
            **more,
        )
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        members: set[int] = set()
        try:
            while process.poll() is None:
                assert time.monotonic() < deadline_s, f"the job does not end; left: {left}"
                try:
                    link, _ = gate.accept()
                except TimeoutError:
                    continue
                with link, link.makefile() as said:
                    step, _, pid = said.readline().partition(" ")
                    count += bool(left) and step == left[0].step
                    if left and count == left[0].nth:
                        members.update(family(process.pid))
                        act(left.pop(0), process.pid, int(pid))
                        count = 0
        finally:
            process.kill()
            process.wait()
    assert not left, f"it never came to {left}"
    wait_for_end_of(members)
    return process


def kill_and_wait(pids: Iterable[int]) -> None:
    """Kill processes with SIGKILL and wait until they are gone."""
    pids = list(pids)
    kill(pids)
    wait_for_end_of(pids)


def file_steps_of(folder: Path, paths: Sequence[str]) -> set[str]:
    """Return which steps some files that are not on record have come to, as far as the folder shows it."""
    return {_step_of(folder / path) for path in paths}


def _step_of(path: Path) -> str:
    if not path.stat().st_size:
        return "empty"
    try:
        pq.read_metadata(path)
    except pa.ArrowInvalid:
        return "half"
    return "unnamed" if path.suffix == ".tmp" else "named"
