"""Spans, the whole state: per user, flyer and merchant the first and the last moment and the number of flyer events.

The durations between consecutive events of one (user, flyer) telescope: their sum is ``floor(last) - floor(first)``
in seconds, their number is ``events - 1``. So spans merge by (min, max, +), which is commutative, associative and exact
for late, unordered and split input. docs/algorithm.md has the proof.

A null merchant_id is kept as an empty one: merchants without a name are no merchant's report.

What the report needs of a user stands ready in an averages hash, overall and for each merchant, format 3::

    u8   format = 3
    u32  hundredths                     of an hour: the reference number as it is shown, NO_SESSION or COMPUTED
    i64  seconds, u32 sessions          that it is made from
    i64  first, i64 last                microseconds: the first and the last event on any flyer
    i64  closed seconds, u32 closed sessions, u32 unclosed opens     0, NOT_KEPT and NOT_KEPT where not kept
"""

from __future__ import annotations

import math
import struct
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from functions.core.events import FLYER_CLOSE, FLYER_EVENTS
from functions.core.openings import Moment, Openings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functions.core.events import Event

TOTALS: Final = struct.Struct("<BIqIqqqII")
TOTALS_FORMAT: Final = 3
NO_SESSION: Final = 2**32 - 1
"""In place of hundredths: there is no average."""
COMPUTED: Final = 2**32 - 2
"""In place of hundredths that do not fit (4,900 years), or of a sum that a double does not hold."""
EXACT_SECONDS: Final = 2**53
"""Below it a double is the sum itself."""
NOT_KEPT: Final = 2**32 - 1
"""In place of closed sessions and unclosed opens, where these are not kept."""
_TOTALS_1: Final = struct.Struct("<Bqq")
"""Format 1, which had seconds and sessions only."""
_TOTALS_2: Final = struct.Struct("<BqIqqqII")
"""Format 2, which had no hundredths."""

_SECOND_US: Final = 1_000_000
_HUNDREDTH: Final = Decimal("0.01")
_EXACT_BELOW: Final = 1e6
_NEAR_HALF: Final = 1e-6


class Span(NamedTuple):
    """First and last moment (microseconds since 1970) and number of one user's events on one flyer."""

    first_us: int
    last_us: int
    events: int
    openings: Openings | None = None
    """Of the same events, for the time from open to close; None where these are not kept."""

    def merge(self, other: Span) -> Span:
        """Return the span of both spans' events, without their openings, which have an order."""
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


class Totals(NamedTuple):
    """What a report may show of a user, overall or on one merchant's flyers."""

    seconds: int
    sessions: int
    """Of the reference number: pairs of consecutive events; where there is none, no report lists the user."""
    first_us: int | None
    last_us: int | None
    """First and last flyer event; None where an older version wrote the value, and where there is no event."""
    closed_seconds: int | None = None
    closed_sessions: int | None = None
    """Opens with the closes that follow them; None where these are not kept."""
    unclosed: int | None = None
    """Opens that no close follows."""


def spans_of(events: Iterable[Event], lateness_us: int | None = None) -> dict[str, UserSpans]:
    """Return each user's spans: the reference in plain Python, one object an event."""
    return with_events({}, events, lateness_us)


def with_events(
    held: Mapping[str, UserSpans], events: Iterable[Event], lateness_us: int | None
) -> dict[str, UserSpans]:
    """Return each user's spans with some more events.

    Openings are kept where ``lateness_us`` is given, of those spans all of whose events came so.
    """
    users = {user: dict(spans) for user, spans in held.items()}
    moments: dict[tuple[str, tuple[str, str]], list[Moment]] = {}
    for event in events:
        if event.event in FLYER_EVENTS and event.flyer_id is not None:
            place = event.user_id, (event.flyer_id, event.merchant_id or "")
            moments.setdefault(place, []).append(Moment(event.timestamp_us, event.event == FLYER_CLOSE))
    for (user, key), some in moments.items():
        spans = users.setdefault(user, {})
        before = spans.get(key)
        span = Span(min(some).at_us, max(some).at_us, len(some))
        openings = Openings() if before is None else before.openings
        spans[key] = (span if before is None else before.merge(span))._replace(
            openings=None if lateness_us is None or openings is None else openings.with_events(some, lateness_us)
        )
    return users


def totals_of(spans: UserSpans) -> Totals:
    """Return a user's totals over some spans: a flyer's spans under several merchants merge into one first.

    Openings stay apart by merchant, and only those that are kept count.
    """
    flyers: dict[str, Span] = {}
    for (flyer_id, _), span in spans.items():
        flyers[flyer_id] = flyers[flyer_id].merge(span) if flyer_id in flyers else span
    kept = [span.openings.total for span in spans.values() if span.openings is not None]
    segments = [segment for segment in kept if segment is not None]
    return Totals(
        seconds=sum(span.seconds for span in flyers.values()),
        sessions=sum(span.sessions for span in flyers.values()),
        first_us=min((span.first_us for span in flyers.values()), default=None),
        last_us=max((span.last_us for span in flyers.values()), default=None),
        closed_seconds=sum(segment.closed_seconds for segment in segments) if kept else None,
        closed_sessions=sum(segment.closed_sessions for segment in segments) if kept else None,
        unclosed=sum(segment.unclosed for segment in segments) if kept else None,
    )


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


def stored_hundredths(seconds: int, sessions: int) -> int:
    """Return the average in hundredths of an hour as packed totals have it."""
    if not sessions:
        return NO_SESSION
    if not 0 <= seconds < EXACT_SECONDS:
        return COMPUTED
    return min(round(average_hours(seconds, sessions) * 100), COMPUTED)


def pack_totals(totals: Totals) -> bytes:
    """Return the value of one user in an averages hash.

    Raises:
        ValueError: There is no first or last event.
    """
    if totals.first_us is None or totals.last_us is None:
        raise ValueError("totals of no event have no packed form")
    hundredths = stored_hundredths(totals.seconds, totals.sessions)
    if totals.closed_seconds is None or totals.closed_sessions is None or totals.unclosed is None:
        return TOTALS.pack(TOTALS_FORMAT, hundredths, *totals[:4], 0, NOT_KEPT, NOT_KEPT)
    return TOTALS.pack(TOTALS_FORMAT, hundredths, *totals)


def unpack_totals(value: bytes) -> Totals:
    """Return the totals in a value of an averages hash, of this version's format or of an older one.

    Raises:
        ValueError: The value is of another format.
    """
    if len(value) == TOTALS.size and value[0] == TOTALS_FORMAT:
        return _kept(Totals(*TOTALS.unpack(value)[2:]))
    if len(value) == _TOTALS_2.size and value[0] == 2:
        return _kept(Totals(*_TOTALS_2.unpack(value)[1:]))
    if len(value) == _TOTALS_1.size and value[0] == 1:
        _, seconds, sessions = _TOTALS_1.unpack(value)
        return Totals(seconds, sessions, None, None)
    raise ValueError(f"average of another format than 1 to {TOTALS_FORMAT}")


def _kept(totals: Totals) -> Totals:
    return Totals(*totals[:4]) if totals.unclosed == NOT_KEPT else totals
