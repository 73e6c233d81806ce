"""Replies that are sent at once: byte by byte what uvicorn sends of the same reply, and refused where that refuses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.server import ServerState

from functions.adapters import web
from functions.server_protocol import BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"
BODY = b'{"some": "body"}'
HEADERS = [(b"etag", b'"one"'), (b"content-type", b"application/json"), (b"vary", b"accept, caf\xe9\tx")]


class _Socket(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]  # bytes are all that is written here
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nor here."""


def prepared(status: int, headers: list[tuple[bytes, bytes]]) -> Response:
    """Return a reply as the functions make it."""
    return web.ready_reply(b"" if status == 304 else BODY, headers, status)


def plain(status: int, headers: list[tuple[bytes, bytes]]) -> Response:
    """Return the same reply as one that knows of no way around uvicorn."""
    reply = Response(status_code=status)
    ours = prepared(status, headers)
    reply.body, reply.raw_headers = ours.body, ours.raw_headers
    return reply


def answered(reply: Response, requests: list[bytes], *, reads_body: bool = False) -> _Socket:
    """Return what a connection has been written on which each request is answered with a reply."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if reads_body:
            await receive()
        await reply(scope, receive, send)

    return asyncio.run(_talked(app, requests))


async def _talked(app: ASGIApp, requests: list[bytes]) -> _Socket:
    protocol, transport = _connected(app)
    for request in requests:
        protocol.data_received(request)
        await _some_turns()
    protocol.connection_lost(None)
    return transport


def _connected(app: ASGIApp) -> tuple[BoundedProtocol, _Socket]:
    config = Config(app, access_log=False, http=BoundedProtocol, ws="none", proxy_headers=False, log_level="critical")
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Sat, 28 Nov 2026 08:00:00 GMT")]
    protocol = BoundedProtocol(config, state, {}, asyncio.get_running_loop())
    transport = _Socket()
    protocol.connection_made(transport)
    return protocol, transport


async def _some_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("status", [200, 202, 304, 503])
@pytest.mark.parametrize(
    ("requests", "reads_body"),
    [
        ([GET], False),
        ([GET, GET], False),
        ([GET + GET + GET], False),
        ([GET.replace(b"GET", b"HEAD"), GET], False),
        ([GET.replace(b"host", b"connection: close\r\nhost"), GET], False),
        ([GET.replace(b"1.1", b"1.0")], False),
        ([POST + b"expect: 100-continue\r\n\r\n", b"12345", GET], True),
        ([POST + b"expect: 100-continue\r\n\r\n", b"12345", GET], False),
        ([POST + b"\r\n12", b"345", GET], False),
        ([POST + b"\r\n12", b"345" + GET], True),
    ],
    ids=["one", "two", "three at once", "HEAD", "close", "HTTP/1.0", "100-continue", "unread", "early", "in parts"],
)
def test_a_reply_that_is_sent_at_once_is_the_same_byte_by_byte(
    status: int, requests: list[bytes], reads_body: bool
) -> None:
    """As uvicorn would have sent it, whatever asks for it in whichever way; and the connection is as open."""
    ours = answered(prepared(status, HEADERS), requests, reads_body=reads_body)
    others = answered(plain(status, HEADERS), requests, reads_body=reads_body)

    assert b"HTTP/1.1 %d" % status in b"".join(others.writes)
    assert (b"".join(others.writes), others.closed) == (b"".join(ours.writes), ours.closed)


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\x00b", b"\x7f"])
def test_a_header_that_would_be_two_is_sent_by_neither(value: bytes) -> None:
    """Of the reply nothing goes out, and the connection ends."""
    ours, others = (answered(make(200, [*HEADERS, (b"x", value)]), [GET]) for make in (prepared, plain))

    assert b"".join(ours.writes).startswith(b"HTTP/1.1 500 ")
    assert BODY not in b"".join(ours.writes)
    assert ([], True, True) == (others.writes, others.closed, ours.closed)


def test_a_reply_that_is_sent_at_once_is_one_write() -> None:
    """And one packet."""
    assert 1 == len(answered(prepared(200, HEADERS), [GET]).writes)


def test_who_has_gone_is_sent_nothing() -> None:
    """Also where the reply comes later than that, and nobody has closed our end."""

    async def scenario() -> list[bytes]:
        gone = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await gone.wait()
            await prepared(200, HEADERS)(scope, receive, send)

        protocol, transport = _connected(app)
        protocol.data_received(GET)
        await _some_turns()
        protocol.connection_lost(ConnectionResetError())
        gone.set()
        await _some_turns()
        return transport.writes

    assert [] == asyncio.run(scenario())


def test_who_does_not_read_is_sent_nothing_more_until_then() -> None:
    """What waits for a slow reader has its bound (the loop's mark of high water)."""

    async def scenario() -> tuple[int, int]:
        protocol, transport = _connected(prepared(200, HEADERS))
        protocol.pause_writing()
        protocol.data_received(GET)
        await _some_turns()
        before = len(transport.writes)
        protocol.resume_writing()
        await _some_turns()
        protocol.connection_lost(None)
        return before, len(transport.writes)

    assert (0, 1) == asyncio.run(scenario())


@pytest.mark.parametrize("make", [prepared, plain])
def test_whoever_waits_for_more_of_the_request_is_told_that_it_is_over(
    make: Callable[[int, list[tuple[bytes, bytes]]], Response],
) -> None:
    """Also who has waited since before the reply."""

    async def scenario() -> object:
        found: list[object] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            await make(200, HEADERS)(scope, receive, send)
            async with asyncio.timeout(5):
                found.append((await waiting)["type"])

        await _talked(app, [GET])
        return found

    assert ["http.disconnect"] == asyncio.run(scenario())


@pytest.mark.parametrize("make", [prepared, plain])
def test_nobody_is_told_to_go_on_who_has_the_reply(
    make: Callable[[int, list[tuple[bytes, bytes]]], Response],
) -> None:
    """Where a body was announced with `Expect: 100-continue`, and is looked for only afterwards."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await make(200, HEADERS)(scope, receive, send)
        await receive()

    transport = asyncio.run(_talked(app, [POST + b"expect: 100-continue\r\n\r\n"]))
    assert b" 100 " not in b"".join(transport.writes)
    assert b"".join(transport.writes).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("make", [prepared, plain])
def test_a_request_has_one_reply(make: Callable[[int, list[tuple[bytes, bytes]]], Response]) -> None:
    """However often its function replies."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await make(200, HEADERS)(scope, receive, send)
        await make(200, HEADERS)(scope, receive, send)

    transport = asyncio.run(_talked(app, [GET]))
    assert 1 == b"".join(transport.writes).count(b"HTTP/1.1 ")
