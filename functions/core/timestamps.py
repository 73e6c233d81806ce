"""RFC 3339 text to and from microseconds since 1970, UTC.

Digits beyond the microsecond are cut off, as Spark does. A text without an offset is UTC. A leap second (``:60``) is
the second that follows it, as POSIX counts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-](?:0\d|1\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)

WANTED = "an RFC 3339 date-time such as 2018-10-01T13:54:59-04:00 (no offset means UTC)"


def parse_us(text: str) -> int:
    """Return the microseconds since 1970-01-01T00:00:00Z of an RFC 3339 text.

    Raises:
        ValueError: The text is not RFC 3339, or no such day or time exists.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not RFC 3339")
    day, hour_minute, second, fraction, offset = match.groups()
    leap = second == "60"
    if leap and hour_minute[3:5] != "59":
        raise ValueError("second 60 outside a leap second")
    zone = offset if offset and offset not in "Zz" else "+00:00"
    moment = datetime.fromisoformat(f"{day}T{hour_minute}{'59' if leap else second}{(fraction or '')[:7]}{zone}")
    return (moment - _EPOCH) // _MICROSECOND + (1_000_000 if leap else 0)


def format_us(moment_us: int) -> str:
    """Return the RFC 3339 text, in UTC with a ``Z``, of microseconds since 1970."""
    return (_EPOCH + timedelta(microseconds=moment_us)).isoformat().replace("+00:00", "Z")
