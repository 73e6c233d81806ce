"""Logs: one line of JSON a record whatever it holds, no secret in it, the request beside it, and not too many."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import copy_context
from typing import Any

import pytest

from functions.adapters import logs
from functions.adapters.exchange import Exchange, current

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BEGUN = f"00-{'1' * 32}-{'2' * 16}-01"


def line_of(message: str, *arguments: object, error: Exception | None = None, **extra: Any) -> dict[str, Any]:
    """Return the line that a record becomes, decoded; it must be one line."""
    info = None
    if error is not None:
        try:
            raise error
        except type(error):
            info = sys.exc_info()
    record = logging.LogRecord("a.logger", logging.WARNING, __file__, 1, message, arguments, info)
    record.__dict__.update(extra)
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


class Unshowable:
    """A thing that fails when it is shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_line_has_time_severity_logger_message_and_extras() -> None:
    """What collectors look for stands under the names that they know."""
    line = line_of("run %s started", "r-1", run="r-1", pending_events=7)

    assert ("WARNING", "a.logger", "run r-1 started", "r-1", 7) == tuple(
        line[name] for name in ("severity", "logger", "message", "run", "pending_events")
    )
    assert line["time"].endswith("+00:00")


def test_an_exception_is_one_field_with_its_traceback() -> None:
    """Its lines stay within the record's one line."""
    line = line_of("failed", error=ValueError("what\nhappened"))

    assert "Traceback" in line["exception"]
    assert "ValueError: what\nhappened" in line["exception"]


@pytest.mark.parametrize(
    "value",
    [
        {(1, 2): "a key that is no text"},
        {"a", "set"},
        b"\xff\x00",
        "\ud800 alone",
        float("nan"),
        2**200,
        Unshowable(),
        object(),
        [Unshowable()],
        print,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_extra_makes_a_line(value: object) -> None:
    """What JSON cannot hold is shown as text, and the rest of the line stays."""
    line = line_of("message", odd=value, even=1)

    assert ("message", 1) == (line["message"], line["even"])
    assert "odd" in line


def test_a_list_in_itself_makes_a_line() -> None:
    """Nothing loops or overflows."""
    loop: list[object] = []
    loop.append(loop)

    assert "message" == line_of("message", loop=loop)["message"]


def test_arguments_that_do_not_fit_do_not_lose_the_line() -> None:
    """A mistake in a log call is no reason to say nothing."""
    assert "two %s %s" in line_of("two %s %s", 1)["message"]
    assert "it: %s" in line_of("it: %s", Unshowable())["message"]


def test_an_extra_cannot_pose_as_a_field_of_the_line() -> None:
    """Severity and the rest are what the record says."""
    assert "WARNING" == line_of("m", severity="DEBUG")["severity"]


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        ("cannot reach redis://user:hunter2@redis:6379/0", {}),
        ("header was Authorization: Bearer hunter2", {}),
        ("no key is ftw_hunter2", {}),
        ("m", {"authorization": "Basic hunter2"}),
        ("m", {"redis_password": "hunter2"}),
        ("m", {"id_token": "hunter2"}),
        ("m", {"settings": {"url": "rediss://:hunter2@host"}}),
    ],
)
def test_no_line_holds_a_secret(message: str, extra: dict[str, Any]) -> None:
    """Passwords in addresses, credentials of headers, extras with telling names."""
    assert "hunter2" not in json.dumps(line_of(message, **extra))


def test_an_exceptions_text_holds_no_password_either() -> None:
    """Client libraries like to quote the address that failed."""
    line = line_of("failed", error=OSError("redis://:hunter2@host:1 refused"))

    assert "hunter2" not in json.dumps(line)
    assert "refused" in line["exception"]


def test_a_line_within_a_request_says_which() -> None:
    """Trace and span of the caller, the event's id where there is one, the caller's name."""

    def within() -> dict[str, Any]:
        exchange = Exchange({"headers": [(b"traceparent", TRACEPARENT.encode())]}, 0.0)
        exchange.event_id, exchange.caller = "e-1", "kiosk"
        current.set(exchange)
        return line_of("m")

    line = copy_context().run(within)

    assert (TRACEPARENT, *TRACEPARENT.split("-")[1:3], "e-1", "kiosk") == tuple(
        line[name] for name in ("traceparent", "trace_id", "span_id", "ce_id", "caller")
    )
    assert "trace_id" not in line_of("outside of any request")


@pytest.mark.parametrize(
    ("headers", "trace_id"),
    [
        ({"ce-traceparent": BEGUN}, BEGUN[3:35]),
        ({"ce-traceparent": BEGUN, "traceparent": TRACEPARENT}, TRACEPARENT[3:35]),
        ({"ce-traceparent": "none"}, None),
    ],
)
def test_an_event_that_comes_without_the_header_says_itself_where_it_is_from(
    headers: dict[str, str], trace_id: str | None
) -> None:
    """In binary mode; the header is the hop, where there is one."""

    def within() -> dict[str, Any]:
        current.set(Exchange({"headers": [(name.encode(), text.encode()) for name, text in headers.items()]}, 0.0))
        return line_of("m")

    assert trace_id == copy_context().run(within).get("trace_id")


def test_two_traceparents_are_none() -> None:
    """A request with several cannot say where it comes from (W3C Trace Context §3.2)."""

    def within() -> dict[str, Any]:
        current.set(Exchange({"headers": [(b"traceparent", TRACEPARENT.encode())] * 2}, 0.0))
        return line_of("m")

    assert "trace_id" not in copy_context().run(within)


def record_at(second: float, line: int = 1, level: int = logging.WARNING, name: str = "a") -> logging.LogRecord:
    """Return a record of a moment."""
    record = logging.LogRecord(name, level, "file.py", line, "m", (), None)
    record.created = second
    return record


def test_a_place_that_repeats_itself_is_cut_short_and_says_so() -> None:
    """So many lines a second; the next second's first says how many were left out; other places are not concerned."""
    limit = logs.RepeatLimit(lines_a_second=3)

    assert [True] * 3 + [False] * 7 == [limit.filter(record_at(5.0 + n / 100)) for n in range(10)]
    assert limit.filter(record_at(5.5, line=2))
    later = record_at(6.0)
    assert limit.filter(later)
    assert 7 == vars(later)["left_out_lines"]
    again = record_at(6.1)
    assert limit.filter(again)
    assert "left_out_lines" not in vars(again)


def test_debugging_and_an_unlimited_logger_are_not_cut_short() -> None:
    """Who asks for every line gets every line."""
    limit = logs.RepeatLimit(lines_a_second=1, unlimited="access")

    assert all(limit.filter(record_at(1.0, level=logging.DEBUG)) for _ in range(5))
    assert all(limit.filter(record_at(1.0, level=logging.INFO, name="access")) for _ in range(5))
