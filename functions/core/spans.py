"""Spans, the whole state: per user, flyer and merchant the first and the last moment and the number of flyer events.

The durations between consecutive events of one (user, flyer) telescope: their sum is ``floor(last) - floor(first)``
in seconds, their number is ``events - 1``. So spans merge by (min, max, +), which is commutative, associative and exact
for late, unordered and split input. docs/algorithm.md has the proof.

A user's spans in Redis, format 1, little endian::

    u8   format = 1
    u32  spans                       n
    n rows of: i64 first, i64 last (microseconds), u32 events, u16 bytes of flyer_id, u16 bytes of merchant_id
    then the UTF-8 of flyer_id and merchant_id, row after row

A null merchant_id is kept as an empty one: merchants without a name are no merchant's report.
"""

from __future__ import annotations

import math
import struct
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from functions.core.events import FLYER_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.core.events import Event

FORMAT: Final = 1
HEADER: Final = struct.Struct("<BI")
ROW: Final = struct.Struct("<qqIHH")
AVERAGE: Final = struct.Struct("<Bqq")
AVERAGE_FORMAT: Final = 1

_SECOND_US: Final = 1_000_000
_HUNDREDTH: Final = Decimal("0.01")
_EXACT_BELOW: Final = 1e6
_NEAR_HALF: Final = 1e-6


class Span(NamedTuple):
    """First and last moment (microseconds since 1970) and number of one user's events on one flyer."""

    first_us: int
    last_us: int
    events: int

    def merge(self, other: Span) -> Span:
        """Return the span of both spans' events."""
        return Span(min(self.first_us, other.first_us), max(self.last_us, other.last_us), self.events + other.events)

    @property
    def seconds(self) -> int:
        """Whole seconds from the first to the last event, each floored to its second."""
        return self.last_us // _SECOND_US - self.first_us // _SECOND_US

    @property
    def sessions(self) -> int:
        """Number of pairs of consecutive events."""
        return self.events - 1


UserSpans = dict[tuple[str, str], Span]
"""A user's spans by (flyer_id, merchant_id)."""


def spans_of(events: Iterable[Event]) -> dict[str, UserSpans]:
    """Return each user's spans: the reference in plain Python, one object an event."""
    users: dict[str, UserSpans] = {}
    for event in events:
        if event.event in FLYER_EVENTS and event.flyer_id is not None:
            spans = users.setdefault(event.user_id, {})
            key = (event.flyer_id, event.merchant_id or "")
            span = Span(event.timestamp_us, event.timestamp_us, 1)
            spans[key] = spans[key].merge(span) if key in spans else span
    return users


def totals_of(spans: UserSpans) -> tuple[int, int]:
    """Return (seconds, sessions) of a user overall: a flyer's spans under several merchants merge into one first."""
    flyers: dict[str, Span] = {}
    for (flyer_id, _), span in spans.items():
        flyers[flyer_id] = flyers[flyer_id].merge(span) if flyer_id in flyers else span
    return sum(span.seconds for span in flyers.values()), sum(span.sessions for span in flyers.values())


def average_hours(seconds: int, sessions: int) -> float:
    """Return the average time on flyer in hours, rounded half up to two digits as Spark's ``round`` does.

    Spark divides as doubles, takes the double's shortest decimal text and rounds that half up.
    """
    hours = seconds / sessions / 3600
    hundredths = hours * 100
    below = math.floor(hundredths)
    # Well away from a half both ways agree, and whole hundredths spare a decimal's price on a million users.
    if hours < _EXACT_BELOW and abs(hundredths - below - 0.5) > _NEAR_HALF:
        return (below + (hundredths - below > 0.5)) / 100
    return float(Decimal(repr(hours)).quantize(_HUNDREDTH, ROUND_HALF_UP))


def pack_average(seconds: int, sessions: int) -> bytes:
    """Return the value of one user in an averages hash."""
    return AVERAGE.pack(AVERAGE_FORMAT, seconds, sessions)


def unpack_average(value: bytes) -> tuple[int, int]:
    """Return (seconds, sessions) of a value of an averages hash.

    Raises:
        ValueError: The value is of another format.
    """
    if len(value) != AVERAGE.size or value[0] != AVERAGE_FORMAT:
        raise ValueError(f"average of another format than {AVERAGE_FORMAT}")
    _, seconds, sessions = AVERAGE.unpack(value)
    return seconds, sessions


def pack_spans(spans: UserSpans) -> bytes:
    """Return the value of one user in the spans hash, rows in the order of (flyer_id, merchant_id) as UTF-8."""
    rows = sorted((flyer.encode(), merchant.encode(), span) for (flyer, merchant), span in spans.items())
    return b"".join(
        (
            HEADER.pack(FORMAT, len(rows)),
            *(ROW.pack(*span, len(flyer), len(merchant)) for flyer, merchant, span in rows),
            *(text for flyer, merchant, _ in rows for text in (flyer, merchant)),
        )
    )


def unpack_spans(value: bytes) -> UserSpans:
    """Return the spans of one user, as Python objects: for looking at a few, not for merging many.

    Raises:
        ValueError: The value is of another format.
    """
    version, count = HEADER.unpack_from(value)
    if version != FORMAT:
        raise ValueError(f"spans of format {version}; this version reads format {FORMAT}")
    position = HEADER.size + count * ROW.size
    spans: UserSpans = {}
    for first_us, last_us, events, flyer_bytes, merchant_bytes in ROW.iter_unpack(value[HEADER.size : position]):
        flyer = value[position : position + flyer_bytes].decode()
        position += flyer_bytes
        merchant = value[position : position + merchant_bytes].decode()
        position += merchant_bytes
        spans[flyer, merchant] = Span(first_us, last_us, events)
    if position != len(value):
        raise ValueError("damaged spans: text lengths do not add up")
    return spans
