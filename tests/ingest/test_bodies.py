"""Bodies: packed ones, large ones, slow ones and broken ones; and heads that have no end."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

    from functions.core.settings import Settings
    from tests.conftest import FunctionProcess, ServeFunction


def zstd_without_its_size(body: bytes) -> bytes:
    """Return a body packed in a frame that does not tell how much it holds."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(body)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "zstd without its size": zstd_without_its_size,
    "identity": bytes,
    "x-gzip": gzip.compress,
}


@pytest.fixture(scope="module")
def impatient(serve_function: ServeFunction, ingest_settings: Settings) -> Iterator[FunctionProcess]:
    """Ingest that waits half a second for a body."""
    with serve_function("ingest", ingest_settings, FLYERTIME_BODY_TIMEOUT_S="0.5") as process:
        yield process


def post(ingest: httpx2.Client, body: bytes, encoding: str) -> httpx2.Response:
    """Post a CloudEvent that is packed."""
    headers = {"content-type": "application/cloudevents+json", "content-encoding": encoding}
    return ingest.post("/", content=body, headers=headers)


@pytest.mark.parametrize("packing", PACK)
def test_a_packed_body_is_taken(ingest: httpx2.Client, structured: Any, packing: str) -> None:
    """As gzip and as zstd, whether the frame tells its size or not."""
    response = post(ingest, PACK[packing](json.dumps(structured()).encode()), packing.partition(" ")[0])

    assert (202, 1) == (response.status_code, response.json()["accepted"])


@pytest.mark.parametrize("packing", ["gzip", "zstd", "zstd without its size"])
def test_a_small_body_that_unpacks_to_a_large_one_is_refused(ingest: httpx2.Client, packing: str) -> None:
    """The limit holds for what it becomes: no more than that is ever unpacked."""
    bomb = PACK[packing](b" " * 50_000_000)
    response = post(ingest, bomb[:20_000] if packing == "gzip" else bomb, packing.partition(" ")[0])

    assert (413, "body_too_large") == (response.status_code, response.json()["code"])


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"not packed"),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9]),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more"),
        ("gzip", b""),
        ("gzip", zlib.compress(b"{}")),
        ("zstd", b"not packed"),
        ("zstd", zstandard.compress(bytes(range(256)) * 20)[:-9]),
        ("zstd", b""),
        *[
            ("zstd", wrong)
            for pack in (zstandard.compress, zstd_without_its_size)
            for wrong in (pack(b"{}") + b"more", pack(b"[") + pack(b"]"), pack(bytes(range(256)) * 20)[:-9])
        ],
    ],
)
def test_a_body_that_cannot_be_unpacked_says_so(ingest: httpx2.Client, encoding: str, body: bytes) -> None:
    """Something else, cut off, or followed by something."""
    response = post(ingest, body, encoding)

    assert (400, "bad_encoding") == (response.status_code, response.json()["code"])


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x" * 100])
def test_other_packings_are_refused_with_those_that_would_do(ingest: httpx2.Client, encoding: str) -> None:
    """415 with Accept-Encoding (RFC 9110 §15.5.16)."""
    response = post(ingest, b"{}", encoding)

    assert (415, "unsupported_encoding") == (response.status_code, response.json()["code"])
    assert "gzip, zstd" == response.headers["accept-encoding"]


def test_packings_in_several_headers_are_a_list(ingest: httpx2.Client) -> None:
    """None of them is passed over (RFC 9110 §5.3)."""
    headers = [("content-type", "application/cloudevents+json"), *[("content-encoding", "gzip")] * 2]
    response = ingest.post("/", content=gzip.compress(gzip.compress(b"{}")), headers=headers)

    assert (415, "unsupported_encoding") == (response.status_code, response.json()["code"])


def answer_to(process: FunctionProcess, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send parts over a plain connection and return all that comes back until its end."""
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        received = b""
        while more := connection.recv(65536):
            received += more
            if b"\r\n\r\n" in received and received.rstrip().endswith(b"}"):
                break
        return received


def test_a_body_that_never_comes_is_given_up(impatient: FunctionProcess) -> None:
    """A sender that stalls does not hold a request for ever."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\ncontent-length: 100\r\n\r\n{"
    answer = answer_to(impatient, head)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in answer


def test_a_body_that_is_there_does_not_excuse_the_next_one(impatient: FunctionProcess) -> None:
    """On one connection, the first whole, the second never."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\ncontent-length: "
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
        connection.sendall(head + b"2\r\n\r\n{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        connection.sendall(head + b"100\r\n\r\n{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_has_no_end_is_refused(impatient: FunctionProcess) -> None:
    """One header, or many: what is held of them has a limit."""
    beginning = b"POST / HTTP/1.1\r\nhost: x\r\n"
    for endless in ([b"x-long: " + b"x" * 20_000, b"x" * 20_000], [b"x-many: x\r\n" * 3500]):
        answer = answer_to(impatient, beginning, *endless, pause_s=0.1)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"headers_too_large" in answer


def test_a_head_that_comes_at_once_has_the_same_limit(impatient: FunctionProcess) -> None:
    """Complete, in one piece, and still too large."""
    head = b"GET /api/health HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 33_000 + b"\r\n\r\n"

    assert answer_to(impatient, head).startswith(b"HTTP/1.1 431 ")


def test_requests_on_one_connection_each_have_the_whole_limit(impatient: FunctionProcess) -> None:
    """What earlier requests brought is not counted again."""
    request = b"GET /api/health HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 20_000 + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
