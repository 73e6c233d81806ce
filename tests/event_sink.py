"""A sink for events: a real HTTP server that keeps the CloudEvents it is sent."""

from __future__ import annotations

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from functions.adapters import cloud_events

if TYPE_CHECKING:
    from collections.abc import Callable


class Sink:
    """Takes events; each is there to be looked at once."""

    def __init__(self, status: Callable[[], int] = lambda: 202) -> None:
        """Listen.

        Args:
            status: What each request is answered with.
        """
        received: queue.Queue[cloud_events.Received | cloud_events.Refused] = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for event in cloud_events.decode({k.lower(): v for k, v in self.headers.items()}, body):
                    received.put(event)
                self.send_response(status())
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next(self, timeout_s: float = 10) -> cloud_events.Received:
        """Return the next event."""
        event = self.received.get(timeout=timeout_s)
        assert isinstance(event, cloud_events.Received)
        return event
