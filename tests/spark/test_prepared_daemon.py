"""The daemon that gets ready while the JVM starts: it does the work, is missed by nobody, and leaves with us."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.spark.own_process import ROOT, last_line_of

ASK_WORKERS: Final = """
import json, os, pathlib, signal, sys
from functions.core.settings import Settings
from spark.session import start_context

def look(_):
    yield [os.getppid(), os.environ["PYTHONHASHSEED"], "PYTHON_WORKER_FACTORY_SECRET" in os.environ, os.getcwd()]

def prepared():
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if b"--wait" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes()]

with start_context(Settings(spark_master="local[2]"), "looking") as context:
    (daemon,) = prepared()
    if sys.argv[1] == "kill":
        os.kill(daemon, signal.SIGKILL)
    seen = context.parallelize([1, 2], 2).mapPartitions(look).collect()
print(json.dumps([daemon, seen, prepared()]))
"""
BE_KILLED: Final = """
import os, pathlib, signal
from spark.prepared_daemon import prepared_daemon
with prepared_daemon():
    print(pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def asked(what: str) -> tuple[int, list[list[object]], list[int]]:
    """Return the prepared daemon, what the workers have seen, and which prepared daemons are left at the end."""
    daemon, seen, left = json.loads(last_line_of(ASK_WORKERS, what))
    return daemon, seen, left


def test_workers_come_from_the_daemon_that_was_there_before_spark_asked() -> None:
    """With what Spark gives its own one; and it ends with the context."""
    daemon, seen, left = asked("nothing")

    assert [[daemon, "0", True, str(ROOT)]] * 2 == seen
    assert not left


def test_where_the_prepared_daemon_has_died_spark_starts_its_own() -> None:
    """A run does not depend on it."""
    daemon, seen, _ = asked("kill")

    assert len(seen) == 2
    assert daemon not in {parent for parent, *_ in seen}


def test_a_prepared_daemon_that_nobody_asks_ends_with_the_driver() -> None:
    """However that ends."""
    command = [sys.executable, "-c", BE_KILLED]
    killed = subprocess.run(command, cwd=ROOT, check=False, timeout=60, stdout=subprocess.PIPE)
    assert killed.returncode == -signal.SIGKILL
    (daemon,) = map(int, killed.stdout.split())
    deadline_s = time.monotonic() + 30
    while runs(daemon):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Tell whether a process is still at work."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
