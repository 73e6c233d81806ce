"""A TCP gate before an API server: open, silent, slow or closed, so that every server can be all of that."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from enum import Enum, auto

_POLL_S = 0.02


class Way(Enum):
    """What the gate does with connections."""

    OPEN = auto()
    SILENT = auto()
    """Takes requests and never answers."""
    SLOW = auto()
    """Answers byte by byte: each comes soon, the last one late."""
    BROKEN = auto()
    """Takes a request and closes the connection."""


class Gate:
    """Passes connections on to a server; see Way. Closed, its port refuses connections as after a crash."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._way = Way.OPEN
        self._sockets: set[socket.socket] = set()
        self.connections = 0
        """How many were taken so far."""
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def put(self, way: Way) -> None:
        """Change what the gate does; connections that are open are closed."""
        self._way = way
        self._drop()

    def close(self) -> None:
        """Refuse connections."""
        # Closing alone would leave the accepting thread, and with it the port, in the kernel.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop()

    def open_again(self) -> None:
        """Take connections again, on the same port."""
        self._way = Way.OPEN
        self._listener = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            way = self._way
            self.connections += 1
            self._sockets.add(client)
            if way is Way.SILENT:
                continue
            if way is Way.BROKEN:
                threading.Thread(target=self._break, args=[client], daemon=True).start()
                continue
            server = socket.create_connection(self._upstream)
            self._sockets.add(server)
            threading.Thread(target=self._pump, args=[client, server, False], daemon=True).start()
            threading.Thread(target=self._pump, args=[server, client, way is Way.SLOW], daemon=True).start()

    def _break(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.recv(65536)
        self._end(client)

    def _pump(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        try:
            while data := source.recv(65536):
                if not slow:
                    target.sendall(data)
                    continue
                for byte in data:
                    target.sendall(bytes([byte]))
                    time.sleep(_POLL_S)
        except OSError:
            pass
        finally:
            self._end(source)
            self._end(target)

    def _drop(self) -> None:
        for connection in list(self._sockets):
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        self._sockets.discard(connection)
