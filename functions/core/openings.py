"""From an open to the close that follows it: exact for events up to a set lateness, never guessed.

Of one user on one flyer of one merchant, put the events in order of time, at equal times an open before a close. An
open directly followed by a close is a closed session, of ``floor(close) - floor(open)`` seconds. An open followed by
another open, or by nothing, is unclosed. A close that does not directly follow an open adds nothing.

Unlike the reference number this does not follow from first, last and count: an event that comes late may part an open
from its close. So the latest events are kept one by one, in the **tail**; what lies further back is **settled** to a
segment. Segments that do not overlap join exactly: two, in order, are one whose pairs are both's and the one across the
seam.
"""

from __future__ import annotations

import itertools
from functools import reduce
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

TAIL_EVENTS: Final = 60
"""Most events that are kept one by one, however little time they span; the earlier ones are settled."""

_SECOND_US: Final = 1_000_000


class Moment(NamedTuple):
    """One event; tuples compare in the order that counts: by time, then an open before a close."""

    at_us: int
    is_close: bool


class Segment(NamedTuple):
    """What a stretch of events in order amounts to."""

    first: Moment
    last: Moment
    opens: int
    closed_sessions: int = 0
    closed_seconds: int = 0

    @property
    def unclosed(self) -> int:
        """Opens that no close follows, among them the last event where it is an open."""
        return self.opens - self.closed_sessions

    def then(self, later: Segment) -> Segment:
        """Return the segment of this one's events and of those that come after them: associative.

        Raises:
            ValueError: The other one's events do not all come after these.
        """
        if later.first < self.last:
            raise ValueError("segments overlap")
        closes = not self.last.is_close and later.first.is_close
        across_s = later.first.at_us // _SECOND_US - self.last.at_us // _SECOND_US if closes else 0
        return Segment(
            self.first,
            later.last,
            self.opens + later.opens,
            self.closed_sessions + later.closed_sessions + closes,
            self.closed_seconds + later.closed_seconds + across_s,
        )


def segment_of(moments: Iterable[Moment]) -> Segment | None:
    """Return the segment of events in any order; None of none."""
    return _joined(Segment(moment, moment, int(not moment.is_close)) for moment in sorted(moments))


def _joined(segments: Iterable[Segment | None]) -> Segment | None:
    some = [segment for segment in segments if segment is not None]
    return reduce(Segment.then, some) if some else None


class Openings(NamedTuple):
    """The events of one user on one flyer of one merchant, the earlier ones settled."""

    settled: Segment | None = None
    tail: tuple[Moment, ...] = ()
    """In order; none before the settled part's last event."""
    late: int = 0
    """Events that came when their place was settled: counted, and left out."""

    def with_events(self, moments: Iterable[Moment], lateness_us: int) -> Openings:
        """Return these and more events, in any order.

        Exact as long as no event is more than ``lateness_us`` before the latest one that came in an earlier call, and
        no more than ``TAIL_EVENTS`` came since. Events before all others are always placed: history, after today's.
        """
        settled, late = self.settled, self.late
        tail = list(self.tail)
        if settled is None:
            tail += moments
        else:
            before: list[Moment] = []
            for moment in moments:
                if moment <= settled.first:
                    before.append(moment)
                elif moment < settled.last:
                    late += 1
                else:
                    tail.append(moment)
            settled = _joined((segment_of(before), settled))
        if not tail:
            return Openings(settled, (), late)
        tail.sort()
        horizon_us = tail[-1].at_us - lateness_us
        done = sum(1 for _ in itertools.takewhile(lambda moment: moment.at_us < horizon_us, tail))
        done = max(done, len(tail) - TAIL_EVENTS)
        return Openings(_joined((settled, segment_of(tail[:done]))), tuple(tail[done:]), late)

    @property
    def total(self) -> Segment | None:
        """All of it as one segment; None of no event."""
        return _joined((self.settled, segment_of(self.tail)))
