"""Every limit: what is just within it is taken, what is beyond it is refused by its code, and its setting moves it."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import zstandard

from functions.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import FunctionProcess, ServeFunction

DATA = {"timestamp": "2026-03-02T08:00:00Z", "user_id": "u", "event": "e", "flyer_id": "f", "merchant_id": "m"}
ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
LIMITS = {
    "FLYERTIME_MAX_BODY_BYTES": "3000",
    "FLYERTIME_MAX_REQUEST_EVENTS": "7",
    "FLYERTIME_MAX_FIELD_BYTES": "40",
    "FLYERTIME_MAX_DEPTH": "5",
    "FLYERTIME_MAX_FUTURE_S": "3600",
    "FLYERTIME_MAX_HEADER_BYTES": "2000",
}


@pytest.fixture(scope="module")
def limited(valkey: EmbeddedValkey, serve_function: ServeFunction) -> Iterator[FunctionProcess]:
    """Ingest with limits of its own."""
    with serve_function("ingest", Settings(redis_url=valkey.url, namespace="limited", shards=4), **LIMITS) as process:
        yield process


@pytest.fixture(scope="module")
def usual(valkey: EmbeddedValkey, serve_function: ServeFunction) -> Iterator[FunctionProcess]:
    """Ingest with the usual limits, and any time taken."""
    settings = Settings(redis_url=valkey.url, namespace="usual", shards=4)
    with serve_function("ingest", settings, FLYERTIME_MAX_FUTURE_S="0") as process:
        yield process


def ahead(**time: float) -> dict[str, Any]:
    """Return data whose timestamp is ahead of now."""
    return {**DATA, "timestamp": (datetime.now(UTC) + timedelta(**time)).isoformat()}


def nested(depth: int) -> dict[str, Any]:
    """Return data that is nested so deep."""
    inner: Any = 1
    for _ in range(depth - 1):
        inner = [inner]
    return {**DATA, "more": inner}


def event(data: Any = DATA, **attributes: Any) -> bytes:
    """Return a CloudEvent in structured mode."""
    return json.dumps({**ATTRIBUTES, **attributes, "data": data}, ensure_ascii=False).encode()


def padded(size_bytes: int) -> bytes:
    """Return one of so many bytes."""
    body = event()
    return body[:-1] + b" " * (size_bytes - len(body)) + b"}"


def send(process: FunctionProcess, body: bytes, path: str = "/", **headers: str) -> httpx2.Response:
    """Send a structured event, or to another path an array."""
    kind = "application/json" if path == "/api/process" else "application/cloudevents+json"
    sent = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx2.post(process.url + path, content=body, headers=sent, timeout=10, trust_env=False)


def binary(process: FunctionProcess, value: str) -> httpx2.Response:
    """Send a binary event with a subject."""
    headers = {f"ce-{name}": text for name, text in {**ATTRIBUTES, "subject": value}.items()}
    return httpx2.post(process.url, json=DATA, headers=headers, timeout=10, trust_env=False)


def packed(pack: Callable[[bytes], bytes], encoding: str) -> Callable[[FunctionProcess, int], httpx2.Response]:
    """Return what sends an event of so many bytes, packed."""
    return lambda process, size: send(process, pack(padded(size)), content_encoding=encoding)


CASES: dict[str, tuple[Callable[[FunctionProcess, Any], httpx2.Response], Any, Any, int, str]] = {
    "body": (lambda p, size: send(p, padded(size)), 3000, 3001, 413, "body_too_large"),
    "body, unpacked from gzip": (packed(gzip.compress, "gzip"), 3000, 3001, 413, "body_too_large"),
    "body, unpacked from zstd": (packed(zstandard.compress, "zstd"), 3000, 3001, 413, "body_too_large"),
    "body of an array": (
        lambda p, size: send(p, b"[" + b" " * (size - 2) + b"]", "/api/process"), 3000, 3001, 413, "body_too_large"
    ),
    "events of a list": (lambda p, n: send(p, event([DATA] * n)), 7, 8, 413, "too_many_events"),
    "events of a batch": (
        lambda p, n: send(
            p, b"[" + b",".join([event()] * n) + b"]", content_type="application/cloudevents-batch+json"
        ),
        7, 8, 413, "too_many_events",
    ),
    "events of an array": (
        lambda p, n: send(p, json.dumps([DATA] * n).encode(), "/api/process"), 7, 8, 413, "too_many_events"
    ),
    "field": (lambda p, n: send(p, event({**DATA, "user_id": "é" * n})), 20, 21, 400, "too_long"),
    "field of an array": (
        lambda p, n: send(p, json.dumps([{**DATA, "flyer_id": "x" * n}]).encode(), "/api/process"),
        40, 41, 400, "too_long",
    ),
    "attribute": (lambda p, n: send(p, event(subject="é" * n)), 20, 21, 400, "too_long"),
    "attribute in a header": (lambda p, n: binary(p, "x" * n), 40, 41, 400, "too_long"),
    "nesting": (lambda p, depth: send(p, event(nested(depth))), 5, 6, 400, "too_deep"),
    "time ahead": (
        lambda p, minutes: send(p, event(ahead(minutes=minutes))), 55, 65, 400, "in_the_future"
    ),
    "headers": (lambda p, n: send(p, event(), x_long="x" * n), 1500, 2000, 431, "headers_too_large"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_limit_lets_in_what_is_within_it_and_nothing_beyond(limited: FunctionProcess, name: str) -> None:
    """To the byte, the event and the level; the refusal has its code."""
    ask, within, beyond, status, code = CASES[name]

    taken, refused = ask(limited, within), ask(limited, beyond)

    assert taken.status_code in {200, 202}, taken.text
    assert (status, True) == (refused.status_code, f'"{code}"' in refused.text), refused.text


@pytest.mark.parametrize("name", CASES)
def test_a_setting_moves_the_limit(usual: FunctionProcess, name: str) -> None:
    """What is beyond a small limit is within the usual one; with 0, any time is taken."""
    ask, _, beyond, _, _ = CASES[name]

    assert ask(usual, beyond).status_code in {200, 202}


def test_any_time_is_taken_where_that_limit_is_off(usual: FunctionProcess) -> None:
    """The last moment that there is."""
    reply = send(usual, event({**DATA, "timestamp": "9999-12-31T23:59:59Z"}, id="last"))

    assert (202, 1) == (reply.status_code, reply.json()["accepted"])
