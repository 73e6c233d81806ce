"""The local launcher's runs on disk: a folder a run, which its launcher creates and its supervisor fills.

- ``run.json``: what was started. The folder appears together with it, so that a name is taken exactly once.
- ``lock``: held by the run's processes for as long as any of them lives; it also says the supervisor's process id. The
  kernel lets go of it when they die, however they die, so nobody takes another process with that id for the run.
- ``log``: what the job printed.
- ``result.json``: how it ended; written at once and last.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from errno import EEXIST, ENOTEMPTY
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

RUN: Final = "run.json"
RESULT: Final = "result.json"
LOCK: Final = "lock"
LOG: Final = "log"

_UNFINISHED: Final = ".new-"
_DISCARDED: Final = ".old-"
_LEFT_OVER_S: Final = 3600.0
_POLL_S: Final = 0.02


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What was started, for the supervisor and for whoever looks."""

    name: str
    namespace: str
    digest: str
    attempt: int
    cause: str
    pending_events: int
    started_ms: int
    command: list[str]
    max_run_s: float
    sink_url: str | None
    """Where to say that the run has ended."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended."""

    succeeded: bool
    exit_status: int | None
    """Of the job; negative: the signal that ended it; None where it never began."""
    ended_ms: int
    message: str = ""
    """Why it failed."""


def create(runs_dir: Path, started: Started) -> int | None:
    """Take the name: create the run's folder, and return the lock's file descriptor; None where the name was taken.

    A folder that holds something is moved into place, which fails where there is one already.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    new = runs_dir / f"{_UNFINISHED}{started.name}-{os.urandom(4).hex()}"
    new.mkdir()
    lock = os.open(new / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (new / RUN).write_bytes(msgspec.json.encode(started))
        new.rename(runs_dir / started.name)
    except OSError as e:
        os.close(lock)
        shutil.rmtree(new, ignore_errors=True)
        if e.errno in {EEXIST, ENOTEMPTY}:
            return None
        raise
    return lock


def read(folder: Path) -> tuple[Started, Result | None] | None:
    """Return what was started and how it ended, None while it runs; None where the folder is no run."""
    try:
        started = msgspec.json.decode((folder / RUN).read_bytes(), type=Started)
        result = _result(folder)
        if result is None and not _is_alive(folder):
            # It may have ended between the two looks.
            result = _result(folder) or Result(
                succeeded=False, exit_status=None, ended_ms=_last_sign_ms(folder), message="the run's process has gone"
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as e:
        logger.warning("%s is not the folder of a run: %s", folder, e)
        return None
    return started, result


def read_all(runs_dir: Path) -> Iterator[tuple[Started, Result | None]]:
    """Yield every run in the folder; see read."""
    if runs_dir.is_dir():
        for folder in sorted(runs_dir.iterdir()):
            if not folder.name.startswith(".") and (run := read(folder)):
                yield run


def write_result(folder: Path, result: Result) -> None:
    """Say how the run ended; a reader sees all of it or nothing."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=RESULT, delete=False) as file:
        file.write(msgspec.json.encode(result))
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, folder / RESULT)  # noqa: PTH105  # a name, not a path


def prune(runs_dir: Path, keep: int) -> None:
    """Remove all but the newest ended runs, and what a launcher that was killed left behind."""
    ended = sorted(
        ((result.ended_ms, started.name) for started, result in read_all(runs_dir) if result is not None), reverse=True
    )
    for _, name in ended[keep:]:
        old = runs_dir / f"{_DISCARDED}{name}-{os.urandom(4).hex()}"
        with suppress(FileNotFoundError):  # another trigger does the same
            (runs_dir / name).rename(old)
            shutil.rmtree(old, ignore_errors=True)
    for folder in runs_dir.iterdir():
        if folder.name.startswith((_UNFINISHED, _DISCARDED)):
            with suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > _LEFT_OVER_S:
                    shutil.rmtree(folder, ignore_errors=True)


def stop(folder: Path, patience_s: float) -> None:
    """End a run: ask its supervisor, and where it takes longer than that kill it, with which the job ends too."""
    lock = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, patience_s)):
            pid = os.pread(lock, 32, 0)
            if _is_alive(folder) and pid:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), number)
            deadline_s = time.monotonic() + wait_s
            while _is_alive(folder) and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)
    finally:
        os.close(lock)


def _result(folder: Path) -> Result | None:
    try:
        return msgspec.json.decode((folder / RESULT).read_bytes(), type=Result)
    except FileNotFoundError:
        return None


def _is_alive(folder: Path) -> bool:
    """Tell whether a process of the run holds its lock."""
    lock = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _last_sign_ms(folder: Path) -> int:
    """Return when a run that nobody ended was last heard of."""
    return max(int(file.stat().st_mtime * 1000) for file in folder.iterdir())
