"""Openings of many spans at a time: what functions/core/openings.py does one by one, held equal to it by tests."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from functions.core.openings import TAIL_EVENTS
from spark.sorting import sorted_within
from spark.stretches import starts_of, sums_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

_SECOND_US: Final = 1_000_000
_EVER_US: Final = 2**61
_BEFORE, _SETTLED_FIRST, _SETTLED_LAST, _TAIL = range(4)
"""What stands where among equal moments: the settled part in between keeps its place."""


@dataclass(frozen=True, slots=True)
class OpeningColumns:
    """Openings of spans, row by row; the settled part begins where the span does, the tail ends where it does."""

    kept: Bools
    settled: Bools
    """Whether there is a settled part; the following five are 0 where there is none."""
    first_closes: Bools
    last_closes: Bools
    settled_last_us: Ints
    closed_seconds: Ints
    closed_sessions: Ints
    opens: Ints
    late: Ints
    tail_events: Ints
    tail_us: Ints
    """The tails, one after the other."""
    tail_closes: Bools

    @classmethod
    def not_kept(cls, spans: int) -> OpeningColumns:
        """Return those of so many spans that keep none."""
        no, zero = np.zeros(spans, np.bool_), np.zeros(spans, np.int64)
        return cls(no, no, no, no, zero, zero, zero, zero, zero, zero, np.zeros(0, np.int64), np.zeros(0, np.bool_))

    def totals(self) -> tuple[Ints, Ints, Ints]:
        """Return each span's closed seconds, closed sessions and unclosed opens; 0 where they are not kept."""
        spans = len(self.kept)
        row = np.repeat(np.arange(spans), self.tail_events)
        begins = (np.cumsum(self.tail_events) - self.tail_events)[self.tail_events > 0]
        owner = row[begins]
        before_us, before_closes = np.roll(self.tail_us, 1), np.roll(self.tail_closes, 1)
        before_us[begins] = self.settled_last_us[owner]
        before_closes[begins] = self.last_closes[owner] | ~self.settled[owner]  # no open stands before a first event
        closed = np.flatnonzero(self.tail_closes & ~before_closes)
        took = self.tail_us[closed] // _SECOND_US - before_us[closed] // _SECOND_US
        sessions = self.closed_sessions + np.bincount(row[closed], minlength=spans)
        return (
            self.closed_seconds + _summed(row[closed], took, spans),
            sessions,
            self.opens + sums_of(self.tail_events, ~self.tail_closes) - sessions,
        )


@dataclass(frozen=True, slots=True)
class FreshMoments:
    """Events that are new, in the order of their spans."""

    row: Ints
    """Of each event, the place of its span; ascending."""
    at_us: Ints
    is_close: Bools


def merge(
    fresh: FreshMoments, held_row: Ints, held_first_us: Ints, held: OpeningColumns, kept: Bools, lateness_us: int
) -> OpeningColumns:
    """Return the openings of spans with new events.

    Args:
        fresh: The new events.
        held_row: Of each held span, its place among all.
        held_first_us: Where the held spans begin.
        held: The stored openings.
        kept: Of each span, whether it keeps its openings; those that do have some event.
        lateness_us: How far before the latest event of a span that has new ones events are kept one by one.
    """
    settled, late = np.zeros(len(kept), np.bool_), np.zeros(len(kept), np.int64)
    first, last = np.zeros(len(kept), np.int64), np.zeros(len(kept), np.int64)
    settled[held_row] = held.settled
    settled &= kept
    late[held_row] = held.late
    first[held_row] = _moments(held_first_us, held.first_closes)
    last[held_row] = _moments(held.settled_last_us, held.last_closes)

    row, moment = fresh.row, _moments(fresh.at_us, fresh.is_close)
    place = np.full(len(row), _TAIL)
    placed = kept[row]
    if settled.any():
        known = settled[row]
        before = known & (moment <= first[row])
        too_late = known & ~before & (moment < last[row])
        place[before] = _BEFORE
        placed &= ~too_late
        late += np.bincount(row[too_late], minlength=len(kept))
    tail_row = np.repeat(held_row, held.tail_events)
    still = kept[tail_row]
    ends = np.flatnonzero(settled)
    row, key = sorted_within(
        row[placed],
        moment[placed] * 4 + place[placed],
        np.concatenate((tail_row[still], ends, ends)),
        np.concatenate(
            (
                _moments(held.tail_us, held.tail_closes)[still] * 4 + _TAIL,
                first[ends] * 4 + _SETTLED_FIRST,
                last[ends] * 4 + _SETTLED_LAST,
            )
        ),
    )
    carried = np.zeros((3, len(kept)), np.int64)
    carried[:, held_row] = held.closed_seconds, held.closed_sessions, held.opens
    latenesses_us = np.full(len(kept), _EVER_US)
    latenesses_us[fresh.row] = lateness_us
    return _settled(row, key, carried, np.where(kept, late, 0), kept, latenesses_us)


def _settled(row: Ints, key: Ints, carried: Ints, late: Ints, kept: Bools, lateness_us: Ints) -> OpeningColumns:
    """Return what becomes of all that is placed, in order: the earlier part settled, the tail kept."""
    if not len(row):
        return OpeningColumns.not_kept(len(kept))
    at_us, closes, place = key >> 3, (key >> 2 & 1).astype(np.bool_), key & 3
    starts = starts_of(row)
    sizes = np.diff(starts, append=len(row))
    owner = row[starts]
    horizon_us = at_us[starts + sizes - 1] - lateness_us[owner]
    # What is settled comes first: where the first event is not, none is, and there is nothing to look at.
    begun = (at_us[starts] < horizon_us) | (sizes > TAIL_EVENTS) | (place[starts] <= _SETTLED_LAST)
    begins, some = starts[begun], owner[begun]
    stretch, event = np.repeat(np.flatnonzero(begun), sizes[begun]), np.flatnonzero(np.repeat(begun, sizes))
    events_on = (starts + sizes)[stretch] - event
    done = (at_us[event] < horizon_us[stretch]) | (events_on > TAIL_EVENTS) | (place[event] <= _SETTLED_LAST)
    event, of = event[done], np.searchsorted(begins, event[done], "right") - 1
    events = np.bincount(of, minlength=len(some))
    closed = closes[event] & ~closes[event - 1] & (place[event - 1] != _SETTLED_FIRST) & (event > begins[of])
    took = np.where(closed, at_us[event] // _SECOND_US - at_us[event - 1] // _SECOND_US, 0)
    opened = ~closes[event] & ((place[event] == _BEFORE) | (place[event] == _TAIL))
    sums = [_summed(of, column, len(some)) for column in (took, closed, opened)]
    ends = begins + events - 1
    tail_events = sizes.copy()
    tail_events[begun] -= events
    tail = np.ones(len(row), np.bool_)
    tail[event] = False

    columns = OpeningColumns.not_kept(len(kept))
    return dataclasses.replace(
        columns,
        kept=kept,
        late=late,
        settled=_spread(columns.settled, some, True),
        first_closes=_spread(columns.settled, some, closes[begins]),
        last_closes=_spread(columns.settled, some, closes[ends]),
        settled_last_us=_spread(columns.late, some, at_us[ends]),
        closed_seconds=_spread(columns.late, some, sums[0] + carried[0][some]),
        closed_sessions=_spread(columns.late, some, sums[1] + carried[1][some]),
        opens=_spread(columns.late, some, sums[2] + carried[2][some]),
        tail_events=_spread(columns.late, owner, tail_events),
        tail_us=at_us[tail],
        tail_closes=closes[tail],
    )


def _moments(at_us: Ints, is_close: Bools) -> Ints:
    """Return events as numbers in the order that counts; microseconds reach to the year 9999, far from the limit."""
    return at_us * 2 + is_close


def _spread(zeros: npt.NDArray[Any], places: Ints, values: Any) -> npt.NDArray[Any]:
    """Return values at their places, zero elsewhere."""
    spread = zeros.copy()
    spread[places] = values
    return spread


def _summed(row: Ints, values: npt.NDArray[Any], rows: int) -> Ints:
    """Return the sums of values by row; doubles are exact far beyond what these come to."""
    return np.bincount(row, values, rows).astype(np.int64)
