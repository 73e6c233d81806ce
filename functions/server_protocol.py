"""HTTP/1.1 of a connection: uvicorn's protocol, with the limits on a request's head that its parser does not have.

What is refused here never reaches a function: no HTTP, a head that is too large or too slow, trailers without end.
"""

from __future__ import annotations

import fcntl
import json
import sys
import termios
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE, HttpToolsProtocol

from functions.adapters import metrics
from functions.adapters.bodies import ARRIVED
from functions.adapters.streaming import UNSENT
from functions.adapters.web import SEND_WHOLE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from starlette.types import ASGIApp
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class GatheringTransport:
    """A transport that hands on what is written within one turn of the loop in one piece."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write with the others of this turn."""
        if data:
            if not self._parts:
                self._loop.call_soon(self.flush)
            self._parts.append(data)

    def close(self) -> None:
        """Write what is left, and close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Write what is left."""
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            if not self._transport.is_closing():  # the other side may have left since it was written
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


PIECE_BYTES: Final = 256_000
"""A body is handed on whole, or in pieces of about so much: what the loop reads at once at most."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on such a transport, with limits of size and time for what is not body.

    uvicorn copies each part of a body into a buffer, wakes the function for it and copies it again. Here parts are
    gathered and handed on once, a body that came in one as it is.
    """

    max_head_bytes = 32_768
    head_timeout_s = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a connection; its first request has to come in time."""
        self._gathering = GatheringTransport(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._gathering))
        self._bytes_beside_body = 0  # of a head, of chunk sizes or of trailers: since the last that was complete
        self._in_head = self._in_body = False
        self._head_refused = False
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._unsent: dict[object, object] = {"bytes": self._unsent_bytes}
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.head_timeout_s, self._is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; what has no end within the limits is refused."""
        self._unset_keepalive_if_required()
        self._bytes_beside_body += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if self._in_head or self._in_body:
            self._look_at_unfinished()

    def on_message_begin(self) -> None:
        """Take the beginning of a request."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Take a request whose head is complete."""
        self._bytes_beside_body = 0
        if self._timer is not None:
            self._stop_timer()
        # What stands between them counts too, as it does where the head comes in pieces.
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > self.max_head_bytes:
            self._head_refused = True
            raise ValueError("the head is too large")  # stops the parser; the request is then refused, below
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        if not self.parser.should_upgrade():
            self.headers = []  # for trailers, which are no headers of the request (RFC 9110 §6.5.1)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        cycle.scope["extensions"] = {UNSENT: self._unsent, SEND_WHOLE: {"send": partial(self._send_whole, cycle)}}
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _send_whole(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> bool:
        """Send a whole reply, whose length is among its headers; tell whether it could be done at once.

        uvicorn looks at each header by itself and hands head and body on one by one, which takes it as long as a small
        question takes to be answered.
        """
        if (
            cycle.response_started
            or cycle.disconnected
            or not cycle.keep_alive
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        parts = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            parts += name, b": ", value, b"\r\n"
        if HEADER_VALUE_RE.search(b"".join(parts[3::4])):
            raise RuntimeError("a header's value has a control character")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join([*parts, b"\r\n", body]))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; nothing more is read while a piece waits for the function."""
        self._bytes_beside_body = 0
        if self.cycle.response_complete:  # nobody waits for the rest
            return
        self._parts.append(body)
        self._parts_bytes += len(body)
        if self._parts_bytes > PIECE_BYTES:
            self.flow.pause_reading()
            self._hand_on_parts()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Take a request whose body is complete."""
        self._in_body = False
        self._bytes_beside_body = 0
        if self._parts:
            self._hand_on_parts()
        if self._timer is not None:
            self._stop_timer()
        self.scope[ARRIVED] = True  # type: ignore[typeddict-unknown-key]  # ASGI lets servers add
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Send what is left of a reply, whose end has been written."""
        self._gathering.flush()
        super().on_response_complete()

    def _hand_on_parts(self) -> None:
        piece = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._parts_bytes = 0
        cycle: Any = self.cycle
        if cycle.body:  # the function has not taken the piece before
            cycle.body += piece
        else:
            cycle.body = piece  # not into uvicorn's buffer: what is bytes already it hands on without a copy

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser stopped at."""
        del msg  # may quote the request
        if self._head_refused:
            self._refuse_size()
        else:
            self._refuse(400, "not_http", "this is no HTTP/1.1 request")

    def _unsent_bytes(self) -> int:
        """Return how many bytes the other side has not confirmed: those that wait here, and those in the kernel."""
        waiting_bytes = self.transport.get_write_buffer_size()
        with suppress(OSError, ValueError):  # it is closed
            descriptor = self.transport.get_extra_info("socket").fileno()
            waiting_bytes += int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return int(waiting_bytes)

    def _should_upgrade(self) -> bool:
        """Tell whether the parser stopped at the head of a request that would like another protocol."""
        return bool(self.scope["method"] != "CONNECT")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Answer such a request as if it had not asked, which is what RFC 9110 §7.8 lets us do.

        Java's client asks each server for HTTP/2 so; and the parser hands us no body of a request that asks.

        Args:
            rest: What came behind its head.
        """
        kept = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self.scope["method"].encode(), self.url, kept)
        self.data_received(head + rest)

    def _look_at_unfinished(self) -> None:
        if self._bytes_beside_body > self.max_head_bytes:
            self._refuse_size()
        elif self._timer is None and (self._in_head or self.cycle.response_complete):
            # A head, or the rest of a body whose request is answered; one that is still to be read has its own time.
            self._timer = self.loop.call_later(self.head_timeout_s, self._is_late)

    def _is_late(self) -> None:
        self._timer = None
        if self._in_head:
            detail = f"the request's line and headers did not arrive within {self.head_timeout_s:g} s"
            self._refuse(408, "head_too_slow", detail)
        else:  # nothing came, or nothing but the rest of a request that has its answer
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_size(self) -> None:
        detail = f"the request's line and headers are larger than {self.max_head_bytes} bytes"
        self._refuse(431, "headers_too_large", detail)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer with problem details, and end the connection: what follows on it cannot be told apart."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not self._in_body:
            cycle.keep_alive = False  # an earlier request is not answered yet: its answer is the last one
            self.flow.pause_reading()
            return
        if not (self._in_body and cycle is not None and cycle.response_started):
            metrics.ERRORS.of(code).add()
            title = HTTPStatus(status).phrase
            problem = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
            body = json.dumps(problem).encode()
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (status, title.encode(), len(body), body)
            )
        self.transport.close()
