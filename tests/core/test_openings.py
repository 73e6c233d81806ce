"""From open to close: pairs in order, segments that join, and the same number whatever the order and the batches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.openings import TAIL_EVENTS, Moment, Openings, Segment, segment_of

SECOND_US = 1_000_000
MOMENTS = st.builds(Moment, st.integers(-20, 20).map(lambda halves: halves * 500_000), st.booleans())
SOME = st.lists(MOMENTS, min_size=1, max_size=12)


def by_the_letter(moments: list[Moment]) -> tuple[int, int, int]:
    """Return closed seconds, closed sessions and unclosed opens, as the definition says."""
    pairs = list(pairwise(sorted(moments)))
    closed = [(open_, close) for open_, close in pairs if not open_.is_close and close.is_close]
    opens = sum(not moment.is_close for moment in moments)
    seconds = sum(close.at_us // SECOND_US - open_.at_us // SECOND_US for open_, close in closed)
    return seconds, len(closed), opens - len(closed)


def numbers_of(segment: Segment | None) -> tuple[int, int, int]:
    """Return the same three of a segment."""
    assert segment is not None
    return segment.closed_seconds, segment.closed_sessions, segment.unclosed


@pytest.mark.parametrize(
    ("events", "numbers"),
    [
        ("o0 c60", (60, 1, 0)),
        ("o0 o10 c60", (50, 1, 1)),  # the first open is unclosed
        ("o0 c60 c90", (60, 1, 0)),  # the second close has no open
        ("c0 o10", (0, 0, 1)),
        ("o5 c5", (0, 1, 0)),  # at equal times the open comes first
        ("c5 o5", (0, 1, 0)),
        ("o0 o0 c0 c0", (0, 1, 1)),
        ("o0.9 c1.1", (1, 1, 0)),  # each floored to its second
        ("o-0.5 c0.5", (1, 1, 0)),
        ("o0 c60 o100 c160", (120, 2, 0)),
    ],
)
def test_what_a_closed_session_is(events: str, numbers: tuple[int, int, int]) -> None:
    """Closed seconds, closed sessions, unclosed opens."""
    moments = [Moment(round(float(event[1:]) * SECOND_US), event[0] == "c") for event in events.split()]

    assert numbers == numbers_of(segment_of(moments)) == by_the_letter(moments)


@given(SOME)
def test_a_segment_is_what_the_definition_says(moments: list[Moment]) -> None:
    """Of events in any order."""
    assert by_the_letter(moments) == numbers_of(segment_of(moments))


@given(SOME, st.data())
def test_segments_in_order_join_to_the_segment_of_all(moments: list[Moment], data: st.DataObject) -> None:
    """Cut anywhere, joined in any grouping: associative, and exact across the seam."""
    ordered = sorted(moments)
    one, other = sorted((data.draw(st.integers(0, len(ordered))), data.draw(st.integers(0, len(ordered)))))
    parts = [segment_of(part) for part in (ordered[:one], ordered[one:other], ordered[other:]) if part]
    left = right = None
    for part in parts:
        left = part if left is None else left.then(part)  # type: ignore[arg-type]  # none is empty
    for part in reversed(parts):
        right = part if right is None else part.then(right)  # type: ignore[union-attr]

    assert left == right == segment_of(ordered)


def test_segments_that_overlap_do_not_join() -> None:
    """Rather than something that is not the number."""
    one, other = segment_of([Moment(0, False), Moment(10, True)]), segment_of([Moment(5, False)])
    assert one is not None
    assert other is not None
    with pytest.raises(ValueError, match="overlap"):
        one.then(other)


@given(st.lists(SOME, min_size=1, max_size=5), st.integers(0, 10))
def test_within_the_lateness_order_and_batches_do_not_matter(batches: list[list[Moment]], lateness_s: int) -> None:
    """Each event at most so much before the latest one of earlier batches: the numbers of all at once, none late."""
    openings, latest_us = Openings(), None
    taken: list[Moment] = []
    for batch in batches:
        least_us = -(10**9) if latest_us is None else latest_us - lateness_s * SECOND_US
        some = [moment for moment in batch if moment.at_us >= least_us]
        openings = openings.with_events(some, lateness_s * SECOND_US)
        taken += some
        latest_us = max(moment.at_us for moment in taken)

    assert by_the_letter(taken) == numbers_of(openings.total)
    assert 0 == openings.late


@given(st.lists(SOME, min_size=1, max_size=5), st.integers(0, 10))
def test_beyond_it_an_event_is_late_and_left_out(batches: list[list[Moment]], lateness_s: int) -> None:
    """The numbers are those of all events but the late ones, which are counted: nothing is guessed."""
    openings = Openings()
    taken: list[Moment] = []
    for batch in batches:
        settled = openings.settled
        late = [moment for moment in batch if settled and settled.first < moment < settled.last]
        before = openings.late
        openings = openings.with_events(batch, lateness_s * SECOND_US)
        assert len(late) == openings.late - before
        for moment in late:
            batch.remove(moment)
        taken += batch
        assert sorted(openings.tail) == list(openings.tail)
        assert openings.tail[-1] == max(taken)

    assert by_the_letter(taken) == numbers_of(openings.total)


@given(SOME, SOME)
def test_history_before_everything_is_placed_whenever_it_comes(old: list[Moment], new: list[Moment]) -> None:
    """However late: nothing of it lies within what is settled."""
    new = [moment._replace(at_us=moment.at_us + 3600 * SECOND_US) for moment in new]
    openings = Openings().with_events(new, 0).with_events(old, 0)

    assert by_the_letter(old + new) == numbers_of(openings.total)
    assert 0 == openings.late


def test_the_tail_is_bounded() -> None:
    """By events as well as by time; in order, as these come, the numbers are exact all the same."""
    moments = [Moment(number * SECOND_US, bool(number % 2)) for number in range(1000)]
    openings = Openings()
    for start in range(0, 1000, 10):
        openings = openings.with_events(moments[start : start + 10], 10**15)
        assert len(openings.tail) <= TAIL_EVENTS

    assert (500, 500, 0) == numbers_of(openings.total)
