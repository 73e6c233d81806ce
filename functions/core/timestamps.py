"""RFC 3339 text to and from microseconds since 1970, UTC.

Digits beyond the microsecond are cut off, as Spark does. A text without an offset is UTC. A leap second (``:60``) is
the second that follows it, as POSIX counts.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_US = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_OFFSET = r"(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_RFC3339 = re.compile(rf"(\d{{4}}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(\.\d+)?({_OFFSET})?", re.ASCII)
_USUAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII)

WANTED = "an RFC 3339 date-time such as 2018-10-01T13:54:59-04:00 (no offset means UTC)"


def parse_us(text: str) -> int:
    """Return the microseconds since 1970-01-01T00:00:00Z of an RFC 3339 text.

    Raises:
        ValueError: The text is not RFC 3339, or no such day or time exists in the years 1 to 9999, UTC.
    """
    leap_us = 0
    if _USUAL.fullmatch(text) is None:  # what nearly all senders write needs no taking apart
        text, leap_us = _usual_form(text)
    moment_us = (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND + leap_us
    if not _FIRST_US <= moment_us <= _LAST_US:
        raise ValueError("outside the years 1 to 9999")
    return moment_us


def _usual_form(text: str) -> tuple[str, int]:
    """Return any RFC 3339 text in the form that Python reads, and the microseconds to add to it."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not RFC 3339")
    day, hour_minute, second, fraction, offset = match.groups()
    leap = second == "60"
    if leap and hour_minute[3:5] != "59":
        raise ValueError("second 60 outside a leap second")
    zone = offset.upper() if offset else "Z"
    return f"{day}T{hour_minute}{'59' if leap else second}{(fraction or '')[:7]}{zone}", 1_000_000 if leap else 0


def format_us(moment_us: int) -> str:
    """Return the RFC 3339 text, in UTC with a ``Z``, of microseconds since 1970."""
    return (_EPOCH + timedelta(microseconds=moment_us)).isoformat().replace("+00:00", "Z")


_DIGITS_AS_ZERO = str.maketrans("123456789", "000000000")
_UTC_SHAPES = frozenset(
    f"0000-00-00T00:00:00{fraction}Z" for fraction in ("", *("." + "0" * digits for digits in range(1, 7)))
)


def parse_column_us(texts: Sequence[str]) -> list[int]:
    """Return what `parse_us` returns for each text, faster for many in UTC, and for what is like what came before.

    Raises:
        ValueError: Some text is no RFC 3339, or no such day or time exists in the years 1 to 9999, UTC.
    """
    try:
        return _by_parts(texts)
    except KeyError:
        if _learn(texts):
            return _by_parts(texts)
    # One pass over all of them turns every digit into 0; few shapes are left to be looked at.
    if _UTC_SHAPES.issuperset("\n".join(texts).translate(_DIGITS_AS_ZERO).split("\n")):
        read, epoch, microsecond = datetime.fromisoformat, _EPOCH, _MICROSECOND
        with suppress(ValueError):  # a leap second, or a mistake, which parse_us will tell apart
            return [(read(text) - epoch) // microsecond for text in texts]
    return [parse_us(text) for text in texts]


_PARTS = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:[0-5]\d(?:\.\d{3})?Z)", re.ASCII)
_MINUTE = slice(0, len("2018-10-01T13:54"))
_REST = slice(_MINUTE.stop, None)
MAX_MINUTES = 20_000
"""That are kept before all are forgotten: a fortnight's."""
minutes_us: dict[str, int] = {}
"""Moments of minutes that have been met, by their text."""
_rests_us: dict[str, int] = {}
"""What the rest of a text adds, as ``:59.123Z``. Only whole milliseconds and whole seconds, so 60,060 at most."""


def _by_parts(texts: Sequence[str]) -> list[int]:
    """Return the moments of texts whose parts have all been met.

    Raises:
        KeyError: Some part has not.
    """
    return [minutes_us[text[_MINUTE]] + _rests_us[text[_REST]] for text in texts]


def _learn(texts: Sequence[str]) -> bool:
    """Keep the parts of these texts for the next time; return whether all of them have such parts."""
    if len(minutes_us) > MAX_MINUTES:
        minutes_us.clear()
    for text in texts:
        if text[_MINUTE] in minutes_us and text[_REST] in _rests_us:
            continue
        parts = _PARTS.fullmatch(text)
        if parts is None:
            return False
        minute, rest = parts.groups()
        minute_us = parse_us(f"{minute}:00Z")
        _rests_us[rest] = parse_us(text) - minute_us
        minutes_us[minute] = minute_us
    return True
