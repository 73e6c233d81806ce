"""HTTP as some clients speak it: slowly, without end, with trailers, with other protocols in mind, one on another."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from functions.core.settings import Settings
from functions.server_protocol import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, ServeFunction

DATA = {"timestamp": "2026-01-01T00:00:00Z", "user_id": "u", "event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}
EVENT = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": DATA}).encode()
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\n"
SIZED = HEAD + b"content-length: %d\r\n\r\n" % len(EVENT) + EVENT
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(EVENT), EVENT)
HEALTH = b"GET /api/health HTTP/1.1\r\nhost: x\r\n\r\n"
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def ingest(valkey: EmbeddedValkey, serve_function: ServeFunction) -> Iterator[FunctionProcess]:
    """Ingest that waits half a second for a head."""
    settings = Settings(redis_url=valkey.url, namespace="protocol", shards=4)
    with serve_function("ingest", settings, FLYERTIME_HEAD_TIMEOUT_S=str(TIMEOUT_S)) as process:
        yield process
    assert "Traceback" not in process.log.read_text()


@pytest.fixture
def connection(ingest: FunctionProcess) -> Iterator[socket.socket]:
    """A connection to it."""
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=10) as opened:
        yield opened


def read_reply(connection: socket.socket) -> tuple[int, bytes]:
    """Return status and body of the next reply; 0 where the connection has ended."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(1)  # nothing of the reply behind it
        if not more:
            return 0, received
        received += more
    head = received.lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return int(received[9:12]), body


def drip(connection: socket.socket, piece: bytes) -> tuple[int, bytes]:
    """Send a piece again and again, much more often than the time allowed, until there is a reply or an end."""
    connection.settimeout(TIMEOUT_S / 10)
    deadline_s = time.monotonic() + 20 * TIMEOUT_S
    while time.monotonic() < deadline_s:
        with suppress(ConnectionError):  # what was answered before it ended can still be read
            connection.sendall(piece)
        try:
            return read_reply(connection)
        except TimeoutError:
            continue
        except ConnectionError:
            return 0, b""
    raise AssertionError("the server never lost its patience")


def test_a_head_that_comes_in_drops_is_given_up(connection: socket.socket) -> None:
    """However steadily they come; the connection ends."""
    connection.sendall(b"POST / HTTP/1.1\r\n")

    status, body = drip(connection, b"x-a: b\r\n")

    assert (408, "head_too_slow") == (status, json.loads(body)["code"])
    assert 0 == read_reply(connection)[0]


def test_so_is_that_of_a_later_request(connection: socket.socket) -> None:
    """After one that was answered on the same connection."""
    connection.sendall(HEALTH)
    assert 200 == read_reply(connection)[0]

    connection.sendall(b"POST / HTTP/1.1\r\n")

    status, body = drip(connection, b"x-a: b\r\n")

    assert (408, "head_too_slow") == (status, json.loads(body)["code"])


def test_a_connection_that_says_nothing_is_closed(connection: socket.socket) -> None:
    """Nobody asked, so nobody is answered."""
    assert (0, b"") == read_reply(connection)


def test_a_connection_that_rests_between_requests_is_kept(connection: socket.socket) -> None:
    """For as long as the proxies in front keep theirs."""
    connection.sendall(HEALTH)
    assert 200 == read_reply(connection)[0]
    time.sleep(2 * TIMEOUT_S)
    connection.sendall(HEALTH)

    assert 200 == read_reply(connection)[0]


def test_the_rest_of_a_body_that_was_refused_has_its_time_too(connection: socket.socket) -> None:
    """The answer was given before it: a sender that goes on for ever does not hold the connection."""
    connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
    assert 404 == read_reply(connection)[0]

    assert (0, b"") == drip(connection, b"x")


def test_a_large_body_in_small_parts_arrives_whole(connection: socket.socket) -> None:
    """It is handed on in pieces, none of them lost, doubled or out of order; the next request has a body of its own."""
    event = json.loads(EVENT)
    body = json.dumps([{**event, "id": f"large-{number:05}"} for number in range(3000)]).encode()
    assert len(body) > 2 * PIECE_BYTES
    head = HEAD.replace(b"events+json", b"events-batch+json") + b"content-length: %d\r\n\r\n" % len(body)

    connection.sendall(head)
    for start in range(0, len(body), 9_999):
        connection.sendall(body[start : start + 9_999])
    status, reply = read_reply(connection)
    connection.sendall(SIZED)

    assert (202, 3000) == (status, len(json.loads(reply)["events"]))
    assert [f"large-{number:05}" for number in range(3000)] == [told["id"] for told in json.loads(reply)["events"]]
    assert 202 == read_reply(connection)[0]


def test_trailers_are_no_headers(connection: socket.socket) -> None:
    """What comes behind a body cannot change how it is read (RFC 9110 §6.5.1)."""
    connection.sendall(CHUNKED + b"0\r\ncontent-type: text/plain\r\nauthorization: x\r\n\r\n" + HEALTH)

    status, body = read_reply(connection)
    assert (202, 0) == (status, json.loads(body)["rejected"])
    assert 200 == read_reply(connection)[0]


@pytest.mark.parametrize("filling", [b"x-many: x\r\n" * 2000, b"x" * 20_000], ids=["many", "a long one"])
def test_trailers_without_end_are_refused(connection: socket.socket, filling: bytes) -> None:
    """What is held of them has the limit of a head."""
    connection.sendall(CHUNKED + b"0\r\nx-first: ")

    status, body = drip(connection, filling)

    assert (431, "headers_too_large") == (status, json.loads(body)["code"])


def test_chunk_sizes_without_end_are_refused(connection: socket.socket) -> None:
    """Their extensions mean nothing and may be of any length, to some."""
    connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n1;")

    assert 431 == drip(connection, b"x" * 20_000)[0]


@pytest.mark.parametrize(
    "wish",
    [
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAA\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\n",
    ],
    ids=["as Java's client does", "a web socket"],
)
@pytest.mark.parametrize("pieces", [1, 2])
def test_who_would_like_another_protocol_is_served_in_this_one(
    connection: socket.socket, wish: bytes, pieces: int
) -> None:
    """Body and all, and so is the next request (RFC 9110 §7.8)."""
    request = SIZED.replace(b"host: x\r\n", b"host: x\r\n" + wish)
    middle = request.index(EVENT) + (10 if pieces == 2 else len(EVENT))
    connection.sendall(request[:middle])
    time.sleep(0.05)
    connection.sendall(request[middle:] + HEALTH)

    status, body = read_reply(connection)
    assert (202, 0) == (status, json.loads(body)["rejected"])
    assert 200 == read_reply(connection)[0]


def test_what_is_no_http_is_told_so(connection: socket.socket) -> None:
    """By its code, and the connection ends."""
    connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    status, body = read_reply(connection)

    assert (400, "not_http") == (status, json.loads(body)["code"])
    assert (0, b"") == read_reply(connection)


def test_nonsense_behind_a_request_does_not_take_its_answer(connection: socket.socket) -> None:
    """The request is answered as ever, and then the connection ends."""
    connection.sendall(SIZED + b"\x00nonsense\r\n\r\n")

    assert 202 == read_reply(connection)[0]
    assert 0 == read_reply(connection)[0]


def test_a_slow_head_behind_a_request_does_not_take_its_answer_either(connection: socket.socket) -> None:
    """It comes when that is still waited for."""
    waiting = b"POST /api/process HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nprefer: wait=2\r\n"
    array = json.dumps([DATA]).encode()
    connection.sendall(waiting + b"content-length: %d\r\n\r\n" % len(array) + array + b"GET / HTTP/1.1\r\n")

    status, body = read_reply(connection)
    assert (200, list) == (status, type(json.loads(body)))
    assert 0 == read_reply(connection)[0]
