"""Killing parts of a job, or the store, at a commit or at any write: a proxy between the two sees each one."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from functions.adapters.redis_client import load_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functions.core.settings import Settings
    from functions.local.valkey import EmbeddedValkey

ROOT: Final = Path(__file__).parent.parent
_SCRIPT: Final = load_script("commit").text.encode()[:40]
"""How the script begins that stands in each commit's transaction, and in no other one."""
_END_S: Final = 2.0
"""A killed process has lost its connections after so long."""
_TIMEOUT_S: Final = 120.0
_EXEC: Final = b"*1\r\n$4\r\nEXEC\r\n"
"""How a transaction ends, in the store's protocol."""


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    """Return a process's environment: small rounds, so that each shard takes several commits."""
    return {
        "FLYERTIME_ARCHIVE_URI": settings.archive_uri or "",
        **os.environ,
        "FLYERTIME_REDIS_URL": settings.redis_url,
        "FLYERTIME_NAMESPACE": settings.namespace,
        "FLYERTIME_LATENESS_S": str(settings.lateness_s),
        "FLYERTIME_ROUND_EVENTS": "40",
        "FLYERTIME_SPARK_MASTER": "local[2,4]",
        **more,
    }


class Watch(Protocol):
    """Sees steps in what goes over one connection."""

    def sent(self, data: bytes) -> bool:
        """Tell whether these bytes to the store complete a step."""

    def replied(self, data: bytes) -> bool:
        """Tell whether these bytes, which came after that, have its reply."""


class Commits:
    """A step is a commit."""

    def __init__(self) -> None:
        self._tail = b""
        self._committing = False

    def sent(self, data: bytes) -> bool:
        """Tell whether a transaction ends that began with the commit's script."""
        window = self._tail + data
        self._committing |= _SCRIPT in window
        ended = _EXEC in window
        committed = self._committing and ended
        self._committing &= not ended
        self._tail = b"" if ended else window[-64:]
        return committed

    def replied(self, data: bytes) -> bool:
        """Tell whether EXEC's own reply is there, behind "QUEUED"s."""
        return b"*" in data


class Proxy:
    """Between the job and the store: at the n-th step it stops, before it is sent on or after its reply has come.

    A job has several connections. What another one of them has under way at that moment is sent on only where whoever
    sent it is still there afterwards: what a killed one has in the air is lost with it.
    """

    def __init__(
        self,
        target_port: int,
        nth: int,
        moment: str,
        on_step: Callable[[], None],
        watch: Callable[[], Watch] = Commits,
    ) -> None:
        self._target_port = target_port
        self._left = nth
        self._moment = moment
        self._on_step = on_step
        self._new_watch = watch
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.reached = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    store = socket.create_connection(("127.0.0.1", self._target_port))
                except OSError:  # it was killed
                    client.close()
                    continue
                threading.Thread(target=self._commands, args=[client, store], daemon=True).start()

    def _commands(self, client: socket.socket, store: socket.socket) -> None:
        """Pass commands on and replies back; at the step wanted, act."""
        hold = threading.Event()
        watch = self._new_watch()
        in_the_air = not self.reached.is_set()
        threading.Thread(target=self._replies, args=[store, client, watch, hold], daemon=True).start()
        with suppress(OSError):
            while data := client.recv(65536):
                left = self._count() if watch.sent(data) else None
                wanted = left == 0
                if left is not None and left < 0 and in_the_air:
                    if not self._outlives(client):
                        break
                    in_the_air = False
                if wanted and self._moment == "before":
                    self._act(client, store)
                    return
                if wanted:
                    hold.set()
                store.sendall(data)
        _end(store)

    def _count(self) -> int:
        """Count a step; return how many are left to the one wanted."""
        with self._lock:
            self._left -= 1
            return self._left

    def _outlives(self, client: socket.socket) -> bool:
        """Wait for the step wanted, and then a moment for the end of a connection; tell whether it goes on."""
        self.reached.wait(_END_S)
        try:
            ended, _, _ = select.select([client], [], [], _END_S)  # one that goes on waits for its reply
        except ValueError:  # the store has ended, and the thread of its replies has closed the connection
            return False
        return not ended

    def _replies(self, store: socket.socket, client: socket.socket, watch: Watch, hold: threading.Event) -> None:
        with suppress(OSError):
            while data := store.recv(65536):
                if hold.is_set() and watch.replied(data):  # it is in the store
                    self._act(client, store)
                    return
                client.sendall(data)
        _end(client)

    def _act(self, client: socket.socket, store: socket.socket) -> None:
        self._on_step()
        self.reached.set()
        for end in (client, store):
            _end(end)


def _end(connection: socket.socket) -> None:
    """End a connection, also where another thread waits for it: closed alone, it would stay open until that is over."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def kill_at(
    command: tuple[str, ...],
    settings: Settings,
    valkey: EmbeddedValkey,
    commit: int,
    moment: str,
    victims: Callable[[int], Iterable[int]],
) -> subprocess.Popen[bytes]:
    """Run a job and kill processes of it with SIGKILL at its n-th commit; return it, all of it ended."""
    started: list[subprocess.Popen[bytes]] = []
    members: list[int] = []

    def kill_victims() -> None:
        members.extend(family(started[0].pid))
        kill(victims(started[0].pid))

    proxy = Proxy(valkey.port, commit, moment, kill_victims)
    environment = environment_of(settings, FLYERTIME_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    started.append(process)
    process.wait(_TIMEOUT_S)
    proxy.close()
    assert proxy.reached.wait(_END_S)  # who was killed may have ended before the proxy gets to say so
    wait_for_end_of(members)
    return process


def kill(pids: Iterable[int]) -> None:
    """Kill processes with SIGKILL, and do not wait for their end."""
    for pid in pids:
        with suppress(ProcessLookupError):  # it may have ended with one that was killed before it
            os.kill(pid, signal.SIGKILL)


def wait_for_end_of(pids: Iterable[int]) -> None:
    """Wait until processes do nothing more; those whose parent was killed may live a moment longer."""
    deadline_s = time.monotonic() + _TIMEOUT_S
    for pid in pids:
        while _is_running(pid):
            assert time.monotonic() < deadline_s, f"process {pid} goes on"
            time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        state, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    members = [pid]
    for member in members:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            members += map(int, task.read_text().split())
    return members


def jvms(pid: int) -> list[int]:
    """Return the driver's JVM, which is Spark itself on one machine."""
    return [member for member in family(pid) if b"java" in Path(f"/proc/{member}/cmdline").read_bytes().split(b"\0")[0]]


def python_workers(pid: int) -> list[int]:
    """Return Spark's Python workers below a driver: the daemon's children, which do the tasks."""
    daemons = [
        member for member in family(pid) if b"spark.worker_daemon" in Path(f"/proc/{member}/cmdline").read_bytes()
    ]
    parents = {
        member: int(Path(f"/proc/{member}/stat").read_text().rpartition(") ")[2].split()[1]) for member in daemons
    }
    return [member for member in daemons if parents[member] in daemons]
