"""The server in front of a function: one piece a reply, the port that it is told, long replies, long keep-alive."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from functions.local.valkey import free_port
from functions.server import GRACEFUL_STOP_S, KEEP_ALIVE_S
from functions.server_protocol import GatheringTransport

if TYPE_CHECKING:
    from functions.core.settings import Settings
    from tests.conftest import ServeFunction

ROOT = Path(__file__).parent.parent


class _Socket(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": "somebody"})
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]  # bytes are all that is written here
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_what_is_written_in_one_turn_goes_out_in_one_piece() -> None:
    """The next turn's goes out by itself, and what is left before the end."""

    async def scenario() -> None:
        inner = _Socket()
        transport = GatheringTransport(inner, asyncio.get_running_loop())
        transport.write(b"head")
        transport.write(b"")
        transport.write(b"body")
        await asyncio.sleep(0)
        transport.write(b"next")
        await asyncio.sleep(0)
        transport.write(b"last")
        transport.close()
        await asyncio.sleep(0)
        assert ([b"headbody", b"next", b"last"], True) == (inner.written, inner.closed)
        assert "somebody" == transport.get_extra_info("peername")

    asyncio.run(scenario())


def test_a_reply_is_one_packet(settings: Settings, serve_function: ServeFunction) -> None:
    """Its head and its body come with one read."""
    with (
        serve_function("ingest", settings) as process,
        socket.create_connection(("127.0.0.1", process.port), timeout=5) as connection,
    ):
        connection.sendall(b"GET /api/health HTTP/1.1\r\nhost: x\r\n\r\n")
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200")
    assert b'{"status":"OK"}' == body


def test_the_port_is_the_one_that_knative_sets(settings: Settings) -> None:
    """PORT in the environment."""
    port = free_port()
    environment = {
        **os.environ,
        "PORT": str(port),
        "FUNCTION_TARGET": "ingest",
        "FLYERTIME_REDIS_URL": settings.redis_url,
        "FLYERTIME_WRITE_AUTH": "off",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "functions.server"], env=environment, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                reply = httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
                break
            except httpx2.HTTPError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert 200 == reply.status_code
        assert "server" not in reply.headers
    finally:
        process.terminate()
        assert -signal.SIGTERM == process.wait(20)  # uvicorn stops in order, then ends as it was told


def test_connections_outlive_those_of_the_proxies_and_the_stop_their_patience() -> None:
    """Knative's queue-proxy and activator keep idle connections shorter; Kubernetes waits 30 s for a stop."""
    assert KEEP_ALIVE_S > 60
    assert GRACEFUL_STOP_S < 30
