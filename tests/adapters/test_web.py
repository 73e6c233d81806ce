"""The one table of errors and replies: each with its status and its code, and nothing in it that the error quoted."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from starlette.requests import ClientDisconnect, Request

from functions.adapters import web
from functions.core.errors import FlyertimeError, MisconfiguredError, RequestRefusedError, UnavailableError

if TYPE_CHECKING:
    from starlette.responses import Response


def answered(error: Exception) -> Response:
    """Return the reply where a handler raises an error."""

    async def handle(_: Request) -> Response:
        raise error

    return asyncio.run(web.answered(handle, Request({"type": "http", "headers": []})))


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (RequestRefusedError("too_odd", "words", status=418, headers={"x-more": "y"}), 418, "too_odd", None),
        (UnavailableError("store_full", "words", retry_after_s=10), 503, "store_full", "10"),
        (MisconfiguredError("layout_format", "hunter2"), 503, "layout_format", "60"),
        (FlyertimeError("odd", "words"), 500, "odd", None),
        (RuntimeError("hunter2"), 500, "unexpected", None),
        (RecursionError("hunter2"), 500, "unexpected", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_a_problem_with_its_code(error: Exception, status: int, code: str, retry_after: str | None) -> None:
    """What only the operator should read, or what nobody expected, is in the log and not in the reply."""
    reply = answered(error)
    problem = json.loads(bytes(reply.body))

    assert (status, web.PROBLEM_TYPE) == (reply.status_code, reply.headers["content-type"])
    assert (status, code, retry_after) == (problem["status"], problem["code"], reply.headers.get("retry-after"))
    assert "hunter2" not in str(problem)
    assert {"type", "title", "detail"} < set(problem)


@pytest.mark.parametrize(
    "sent", ["return=minimal", 'Return="minimal"', "wait=5, return=minimal; x=y", ' a , return="minimal";b, reply']
)
def test_a_preference_is_known_in_each_of_its_forms(sent: str) -> None:
    """With quotes or without, among others, with parameters that nobody knows (RFC 7240 §2)."""
    assert "return=minimal" in web.preferences_of({"prefer": sent})
    assert "return=minimal" not in web.preferences_of({"prefer": sent.replace("minimal", "minimally")})


@pytest.mark.parametrize(
    ("sent", "wait_s"),
    [
        ("wait=20", 20), ('wait="20"', 20), ("respond-async, Wait = 20; x=y", 20), ("wait=0", 0), ("wait=007", 7),
        ("wait=99999999", 99_999_999), ("wait=20, wait=30", 20), ("wait=30s, wait=20", 0), ("wait", 0), ("wait=", 0),
        ("wait=-1", 0), ("wait=1.5", 0), ("wait=1e3", 0), ("wait=\u00b2", 0), ("await=20", 0), ("return=minimal", 0),
        ("wait=0000000000000000020", 20),
    ],
)  # fmt: skip
def test_a_wish_to_wait_is_read_as_it_was_sent(sent: str, wait_s: int) -> None:
    """Of two the first counts, and what is no number of seconds is none."""
    assert wait_s == web.preferred_wait_s({"prefer": sent})


@pytest.mark.parametrize("sent", ["123456789", "999999999999", "1" * 5000])
def test_a_wish_to_wait_for_ever_is_one_to_wait(sent: str) -> None:
    """Longer than anybody is held, which is the caller's to say; a number of any length is read."""
    assert web.preferred_wait_s({"prefer": f"wait={sent}"}) >= 123_456_789


def test_nobody_is_told_where_the_sender_has_left() -> None:
    """And it is no error of ours."""
    assert (400, b"") == (answered(ClientDisconnect()).status_code, answered(ClientDisconnect()).body)
