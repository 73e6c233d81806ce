"""Runs on this machine, of jobs that are a few lines of Python instead of Spark's."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from functions.adapters.spark_local import LocalLauncher
from functions.core.policy import Cause, Launch, Run, RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.core.settings import Settings

T = TypeVar("T")
DIGEST = "0123456789ab"


def launch_of(attempt: int = 1) -> Launch:
    """Return an order to start a run."""
    return Launch(f"ft-{DIGEST}-{attempt}", DIGEST, attempt, 7, Cause.THRESHOLD, "enough")


NAME = launch_of().name


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
