"""The whole pipeline on this machine: embedded Valkey, the three functions as processes, a ping in PingSource's place.

It stops in order, so that nothing accepted is lost: the functions finish what is under way, a Spark run is stopped
(what it has committed stays, the rest stays in the log), Valkey writes its data and goes last.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx2

from functions.adapters import cloud_events, spark_local
from functions.core import event_types
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.settings import FSYNC
from functions.local.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import IO, Self

logger = logging.getLogger(__name__)

TARGETS: Final = ("ingest", "trigger", "report")
DEFAULT_PORTS: Final = {"valkey": 6389, "ingest": 8081, "trigger": 8082, "report": 8083}
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 35.0
_WATCH_S: Final = 0.5
_MAX_RESTART_PAUSE_S: Final = 30.0


@dataclass(slots=True)
class _Child:
    """A function's process, and how often it had to be started again."""

    process: subprocess.Popen[bytes]
    started_s: float
    restarts: int = 0
    restart_at_s: float | None = None


class Stack:
    """All parts, in one folder: data, logs, runs, and ``stack.json`` by which other commands find them."""

    def __init__(
        self,
        folder: Path,
        *,
        ports: Mapping[str, int] = DEFAULT_PORTS,
        environment: Mapping[str, str] | None = None,
        ping_s: float = 5.0,
    ) -> None:
        self.folder = folder.resolve()
        self.urls = {target: f"http://127.0.0.1:{ports[target]}" for target in TARGETS}
        # What is to be on disk before it counts needs a store that does not answer before (docs/durability.md).
        synced = os.environ.get("FLYERTIME_DURABILITY") == FSYNC
        config = {"appendfsync": "always"} if synced else {}
        self.valkey = EmbeddedValkey(self.folder / "valkey", port=ports["valkey"], config=config)
        self.runs_dir = self.folder / "runs"
        self._ports = ports
        self._ping_s = ping_s
        self._children: dict[str, _Child] = {}
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._lock: IO[str] | None = None
        self._environment = {
            "PYTHONUNBUFFERED": "1",
            "FLYERTIME_REDIS_URL": self.valkey.url,
            "FLYERTIME_LAUNCHER": "local",
            # On the loopback address, where everybody is this machine's own; a key in the environment says otherwise.
            "FLYERTIME_WRITE_AUTH": "keys" if os.environ.get("FLYERTIME_WRITE_KEYS") else "off",
            "FLYERTIME_READ_AUTH": (
                "keys" if os.environ.get("FLYERTIME_READ_KEYS") or os.environ.get("FLYERTIME_OIDC_ISSUER") else "off"
            ),
            "FLYERTIME_LOCAL_RUNS_DIR": str(self.runs_dir),
            "K_SINK": self.urls["trigger"],
            **(environment or {}),
        }

    def start(self) -> None:
        """Start everything and wait until each part is ready.

        Raises:
            MisconfiguredError: Another stack runs in this folder.
            UnavailableError: A part did not start; the message has the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise MisconfiguredError(
                "folder_in_use", f"another flyertime runs in {self.folder}; stop it first"
            ) from None
        try:
            self.valkey.start()
            for target in TARGETS:
                self._children[target] = _Child(self._spawn(target), time.monotonic())
            for target in TARGETS:
                self._wait_until_ready(target)
        except BaseException:
            self.stop()
            raise
        (self.folder / "stack.json").write_text(json.dumps({"redis_url": self.valkey.url, **self.urls}))
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop everything in order; parts that were never started are passed over."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + _STOP_TIMEOUT_S
        for target, child in self._children.items():
            try:
                child.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("%s did not stop in time and is killed", target)
                child.process.kill()
                child.process.wait()
        spark_local.stop_runs(self.runs_dir)
        self.valkey.stop()
        (self.folder / "stack.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, target: str) -> subprocess.Popen[bytes]:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{target}.log").open("ab") as output:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "functions.server", "--host", "127.0.0.1"),
                    *("--port", str(self._ports[target])),
                ],
                env={**os.environ, **self._environment, "FUNCTION_TARGET": target},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop them in order
            )

    def _wait_until_ready(self, target: str) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        process = self._children[target].process
        while True:
            try:
                if httpx2.get(f"{self.urls[target]}/readyz", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass  # not listening yet
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise UnavailableError("not_started", f"{target} did not start; its log ends:\n{self._log_end(target)}")
            time.sleep(0.05)

    def _log_end(self, target: str, lines: int = 5) -> str:
        return "\n".join((self.folder / "logs" / f"{target}.log").read_text(errors="replace").splitlines()[-lines:])

    def _watch(self) -> None:
        """Ping trigger as a PingSource would, and start functions that died again, as Kubernetes would."""
        next_ping_s = time.monotonic() + self._ping_s
        while not self._stopping.wait(_WATCH_S):
            for target, child in self._children.items():
                self._revive(target, child)
            if time.monotonic() >= next_ping_s:
                next_ping_s = time.monotonic() + self._ping_s
                self._ping()

    def _revive(self, target: str, child: _Child) -> None:
        now_s = time.monotonic()
        if child.process.poll() is None:
            return
        if child.restart_at_s is None:
            pause_s = min(2.0**child.restarts - 1, _MAX_RESTART_PAUSE_S)
            child.restart_at_s = now_s + pause_s
            logger.warning(
                "%s ended with status %s and starts again in %.0f s; its log ends:\n%s",
                target,
                child.process.returncode,
                pause_s,
                self._log_end(target),
            )
        if now_s >= child.restart_at_s:
            child.process, child.started_s = self._spawn(target), now_s
            child.restarts, child.restart_at_s = child.restarts + 1, None

    def _ping(self) -> None:
        headers, body = cloud_events.new_event(event_types.PING, "/flyertime/local", {})
        try:
            httpx2.post(self.urls["trigger"], headers=headers, content=body, timeout=self._ping_s, trust_env=False)
        except httpx2.HTTPError as e:
            logger.debug("ping: %s", e)
