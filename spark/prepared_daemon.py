"""On one machine, the workers' daemon gets ready while the JVM does: it imports for half a second, on a core to spare.

Spark starts its daemon with the first task, which waits for that. So the driver starts one before it, and the one that
Spark starts hands over what it was given (its pipes, its environment) and only waits. Where there is none to hand over
to, as on a cluster or when the first has died, it does the work itself.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS: Final = "FLYERTIME_PREPARED_DAEMON"
"""Environment variable of Spark's daemon: the socket at which the prepared one waits."""
WAIT: Final = "--wait"
_END_S: Final = 10.0
_PIPES: Final = (0, 1, 2)


@contextmanager
def prepared_daemon() -> Iterator[str]:
    """Have a daemon get ready; give the address at which it waits."""
    with tempfile.TemporaryDirectory(prefix="flyertime-") as folder:
        address = os.path.join(folder, "daemon")  # noqa: PTH118  # a socket's
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen()
            process = subprocess.Popen(
                [sys.executable, "-m", "spark.worker_daemon", WAIT, str(listening.fileno())],
                stdin=subprocess.PIPE,  # its end tells it that nobody will come
                stdout=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
                process_group=0,  # Ctrl-C is for us
                env={  # what is fixed at a start is as Spark has it
                    "OMP_NUM_THREADS": "1",
                    "PYTHONHASHSEED": "0",
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        try:
            yield address
        finally:
            _end(process)


def hand_over() -> bool:
    """Let the prepared daemon do our work, and wait until it ends; False where there is none, or it is taken."""
    with socket.socket(socket.AF_UNIX) as prepared:
        try:
            prepared.connect(os.environ[ADDRESS])
            socket.send_fds(prepared, [b"."], _PIPES)
            prepared.sendall(json.dumps([dict(os.environ), sys.path]).encode())
            prepared.shutdown(socket.SHUT_WR)
        except (KeyError, OSError):
            return False
        with suppress(OSError):
            prepared.recv(1)  # nothing comes: the connection ends with the daemon
        return True


def take_over(listening: int) -> socket.socket:
    """Wait for Spark's daemon and become it; return what tells it of our end. Exit where the driver goes first."""
    with socket.socket(fileno=listening) as listener:
        if listening not in select.select([listening, 0], [], [])[0]:
            sys.exit(0)
        caller, _ = listener.accept()
    _, pipes, *_ = socket.recv_fds(caller, 1, len(_PIPES))
    for pipe, ours in zip(pipes, _PIPES, strict=True):
        os.dup2(pipe, ours)
        os.close(pipe)
    with caller.makefile("rb") as said:
        environment, sys.path[:] = json.load(said)
    os.environ.clear()
    os.environ.update(environment)
    return caller


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait until the daemon has gone, which Spark has told it to, or its standard input's end does."""
    try:
        process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
