"""Serving a function: ``FUNCTION_TARGET=ingest python -m functions.server`` is what a container runs.

uvicorn with uvloop and httptools, one process, and a reply in one piece: uvicorn hands its head and its body to the
socket one by one, which costs a second system call and a second packet. Held together until the loop's next turn a
small reply costs a fifth less, all told (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import sys
import termios
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from functions.adapters.streaming import UNSENT
from functions.core import settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from starlette.types import ASGIApp

KEEP_ALIVE_S: Final = 75
"""Longer than that of the proxies in front, so that none of them sends on a connection that has just been closed."""
GRACEFUL_STOP_S: Final = 25
"""Shorter than the services' timeoutSeconds, which Kubernetes waits for."""


class _GatheringTransport:
    """A transport that hands on what is written within one turn of the loop in one piece."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if data:
            if not self._parts:
                self._loop.call_soon(self._flush)
            self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            if not self._transport.is_closing():  # the other side may have left since it was written
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on such a transport, with a limit on a request's head, which its parser does not have."""

    max_head_bytes = 32_768
    _head_bytes = 0
    _in_body = False
    _head_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a connection."""
        super().connection_made(cast("asyncio.Transport", _GatheringTransport(transport, self.loop)))
        self._extensions: dict[str, dict[object, object]] = {UNSENT: {"bytes": self._unsent_bytes}}

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that has no end within the limit is refused."""
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_body and self._head_bytes > self.max_head_bytes:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Take a request whose head is complete."""
        self._in_body = True
        self._head_bytes = 0
        # What stands between them counts too, as it does where the head comes in pieces.
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > self.max_head_bytes:
            self._head_refused = True
            raise ValueError("the head is too large")  # stops the parser; uvicorn then refuses the request, below
        self.scope["extensions"] = self._extensions
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take a request whose body is complete."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser stopped at."""
        del msg  # may quote the request
        if self._head_refused:
            self._refuse_head()
        else:
            self._refuse({"status": 400, "code": "not_http", "detail": "this is no HTTP/1.1 request"})

    def _unsent_bytes(self) -> int:
        """Return how many bytes the other side has not confirmed: those that wait here, and those in the kernel."""
        waiting_bytes = self.transport.get_write_buffer_size()
        with suppress(OSError, ValueError):  # it is closed
            descriptor = self.transport.get_extra_info("socket").fileno()
            waiting_bytes += int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return waiting_bytes

    def _refuse_head(self) -> None:
        detail = f"the request's line and headers are larger than {self.max_head_bytes} bytes"
        self._refuse({"status": 431, "code": "headers_too_large", "detail": detail})

    def _refuse(self, problem: dict[str, Any]) -> None:
        """Answer with problem details, and end the connection: what follows on it cannot be told apart."""
        if self.transport.is_closing():
            return
        title = HTTPStatus(problem["status"]).phrase
        body = json.dumps({"type": "about:blank", "title": title, **problem}).encode()
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (problem["status"], title.encode(), len(body), body)
        )
        self.transport.close()


def serve(app: str | ASGIApp, host: str, port: int) -> None:
    """Serve an app until SIGTERM or Ctrl-C, then finish what is under way."""
    # What a request makes dies with it by itself; looking for cycles among it after every 700 objects cost a tenth.
    gc.set_threshold(50_000, 20, 100)
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the function that FUNCTION_TARGET names."""
    parser = argparse.ArgumentParser(prog="python -m functions.server", description=main.__doc__)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")  # noqa: S104  # a container's
    parser.add_argument("--port", type=int, default=os.environ.get("PORT", "8080"), help="default: $PORT, or 8080")
    parsed = parser.parse_args(arguments)
    BoundedProtocol.max_head_bytes = settings.parse(os.environ).max_header_bytes
    serve("functions.asgi:app", parsed.host, parsed.port)


if __name__ == "__main__":
    main()
