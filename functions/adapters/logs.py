"""Logs: one JSON object a line on standard error, as log collectors want it, each with the request that it is about.

A place in the code that fails for every request would otherwise write a line for every request: each logs at most
`LINES_A_SECOND`, and the next line says how many were left out.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec

from functions.adapters import exchange as exchange_
from functions.core.credentials import HIDDEN, hide_in_text, is_credential_name

LINES_A_SECOND: Final = 20

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, severity, logger, message, the request, whatever ``extra`` adds, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "logger": record.name,
            "message": _message_of(record),
        }
        line.update(_of_request())
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in line:
                line[name] = HIDDEN if is_credential_name(name) and value is not None else value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return hide_in_text(_json_of(line))


class RepeatLimit(logging.Filter):
    """Lets a place in the code log so many lines a second, and says on the next one how many there would have been."""

    def __init__(self, lines_a_second: int = LINES_A_SECOND, unlimited: str | None = None) -> None:
        """Prepare; ``unlimited`` is the name of a logger that may say everything."""
        super().__init__()
        self._lines_a_second = lines_a_second
        self._unlimited = unlimited
        self._places: dict[tuple[str, int], list[int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is written."""
        if record.levelno < logging.INFO or record.name == self._unlimited:
            return True
        now_s = int(record.created)
        place = self._places.setdefault((record.pathname, record.lineno), [now_s, 0, 0])
        if place[0] != now_s:
            place[0], place[1] = now_s, 0
        if place[1] >= self._lines_a_second:
            place[2] += 1
            return False
        place[1] += 1
        if place[2]:
            record.left_out_lines = place[2]
            place[2] = 0
        return True


def configure(level: str, *, unlimited: str | None = None) -> None:
    """Send this process's logs to standard error as JSON, the server's too; called again it changes level and limit.

    Args:
        level: The least severe level that is written.
        unlimited: Name of a logger whose lines are not limited.
    """
    root = logging.getLogger()
    root.setLevel(level)
    handler = next((each for each in root.handlers if isinstance(each.formatter, JsonFormatter)), None)
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        root.handlers = [handler]
    handler.filters = [RepeatLimit(unlimited=unlimited)]
    for name in ("uvicorn", "uvicorn.error"):
        server = logging.getLogger(name)
        server.handlers, server.propagate = [], True


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as e:  # noqa: BLE001  # arguments that do not fit, or cannot be shown: no reason to lose the line
        return f"{record.msg} (its arguments cannot be shown: {type(e).__name__})"


def _of_request() -> dict[str, object]:
    exchange = exchange_.current.get()
    if exchange is None:
        return {}
    fields: dict[str, object] = {}
    if (trace := exchange.trace()) is not None:
        fields |= {"trace_id": trace.trace_id, "span_id": trace.span_id, "traceparent": trace.traceparent}
    if exchange.event_id is not None:
        fields["ce_id"] = exchange.event_id
    if exchange.caller is not None:
        fields["caller"] = exchange.caller
    return fields


def _json_of(line: dict[str, object]) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=_shown).decode()
    except Exception:  # noqa: BLE001  # keys that are no texts, lone surrogates, a list in itself: each field by itself
        return msgspec.json.encode({name: _encodable(value) for name, value in line.items()}).decode()


def _encodable(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value, enc_hook=_shown))
    except Exception:  # noqa: BLE001  # see above
        return msgspec.Raw(msgspec.json.encode(_shown(value).encode("utf-8", "backslashreplace").decode()))


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as e:  # noqa: BLE001  # whatever a stranger's __str__ raises
        return f"a {type(value).__name__} that cannot be shown: {type(e).__name__}"
