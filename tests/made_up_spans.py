"""Users' spans of every awkward kind, for what packs and merges them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from functions.core.events import Event
from functions.core.spans import Span, with_events

if TYPE_CHECKING:
    from functions.core.spans import UserSpans

TEXT = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.integers(0, 30).map("flyer-{}".format)
    | st.integers(0, 30).map("flyer-of-the-season-{}".format)
)
MOMENTS_US = st.integers(-(10**15), 4 * 10**15) | st.integers(-50, 50).map(lambda tens: tens * 10_000_000)


@st.composite
def user_spans(draw: st.DrawFn, max_size: int = 6) -> UserSpans:
    """Draw a user's spans; where their openings are kept, what some batches of events make of them."""
    spans: UserSpans = {}
    unit_us = draw(st.sampled_from([1, 1000, 1_000_000]))
    for key in draw(st.lists(st.tuples(TEXT, TEXT), max_size=max_size, unique=True)):
        if draw(st.booleans()):
            first_us, last_us = sorted((draw(MOMENTS_US) // unit_us * unit_us, draw(MOMENTS_US) // unit_us * unit_us))
            spans[key] = Span(first_us, last_us, draw(st.integers(1, 2**32 - 1)))
            continue
        held: dict[str, UserSpans] = {}
        for _ in range(draw(st.integers(1, 3))):
            names = st.sampled_from(["flyer_open", "flyer_close"])
            event = st.builds(
                Event, MOMENTS_US.map(lambda us: us // unit_us * unit_us), st.just("u"), names, st.just(""), st.just("")
            )
            batch = draw(st.lists(event, min_size=1, max_size=draw(st.sampled_from([3, 70]))))
            held = with_events(held, batch, draw(st.sampled_from([0, 10**7, 10**16])))
        spans[key] = held["u"]["", ""]
    return spans
