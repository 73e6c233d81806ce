"""Merging by column and one by one give the same: spans, their openings, and all totals, round after round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from functions.core.events import Event
from functions.core.report_summary import Summary
from functions.core.span_packing import pack_spans
from functions.core.spans import pack_totals, spans_of, totals_of, with_events
from spark import columns, span_columns
from spark.merging import PartialSpans, merge
from spark.summing import ALL
from tests.kept_summaries import plain_summary

if TYPE_CHECKING:
    from functions.core.spans import UserSpans
    from spark.merging import Merged

SECOND_US = 1_000_000
MOMENTS_US = st.integers(0, 60).map(lambda halves: halves * 500_000) | st.integers(-(10**14), 4 * 10**15)
EVENTS = st.lists(
    st.builds(
        Event,
        MOMENTS_US,
        st.sampled_from(["u", "v", "ü"]),
        st.sampled_from(["flyer_open", "flyer_close"]),
        st.sampled_from(["f", "g"]),
        st.sampled_from(["", "m", None]),
    ),
    min_size=1,
    max_size=12,
)
MANY_ON_ONE_FLYER = st.integers(1, 150).map(
    lambda number: [
        Event(second * SECOND_US, "u", "flyer_close" if second % 3 else "flyer_open", "f", "m")
        for second in range(number)
    ]
)


def merged(held: dict[str, bytes], events: list[Event], lateness_us: int | None) -> tuple[list[str], Merged]:
    """Merge events into packed spans as a fold does; return the users too."""
    users = sorted({event.user_id for event in events})
    stored = [(place, held[user]) for place, user in enumerate(users) if user in held]
    held_spans = span_columns.unpack_spans([value for _, value in stored])
    places = np.array([place for place, _ in stored], np.int64)
    moments = np.array([event.timestamp_us for event in events], np.int64)
    fresh = PartialSpans(
        pa.array([event.user_id for event in events], pa.large_string()),
        pa.array([event.flyer_id for event in events], pa.large_string()),
        pa.array([event.merchant_id or "" for event in events], pa.large_string()),
        moments,
        moments,
        np.ones(len(events), np.int64),
        np.array([event.event == "flyer_close" for event in events], np.int8),
    )
    held_spans = span_columns.HeldSpans(
        places[held_spans.user] if len(places) else held_spans.user,
        held_spans.flyer_id,
        held_spans.merchant_id,
        held_spans.first_us,
        held_spans.last_us,
        held_spans.events,
        held_spans.openings,
    )
    user = np.array([users.index(event.user_id) for event in events], np.int64)
    return users, merge(user, len(users), fresh, held_spans, lateness_us, {ALL, b"m", b"nobody"})


@given(
    st.lists(EVENTS | MANY_ON_ONE_FLYER, min_size=1, max_size=4),
    st.lists(st.none() | st.sampled_from([0, 5 * SECOND_US, 10**16]), min_size=4, max_size=4),
)
def test_merging_by_column_is_merging_one_by_one(rounds: list[list[Event]], latenesses: list[int | None]) -> None:
    """In any rounds, with openings kept or not, with events that are late: state and totals to the byte."""
    expected: dict[str, UserSpans] = {}
    stored: dict[str, bytes] = {}
    overall: dict[str, bytes] = {}
    of_merchant: dict[str, bytes] = {}
    summaries = {ALL: Summary(), b"m": Summary()}
    for events, lateness_us in zip(rounds, latenesses, strict=False):
        late_before = late_of(expected)
        expected = with_events(expected, events, lateness_us)
        users, result = merged(stored, events, lateness_us)
        stored.update(zip(users, span_columns.pack_spans(result.spans).to_pylist(), strict=True))
        changed = [users[place] for place in result.changed]
        overall.update(zip(changed, columns.pack_totals(result.totals).to_pylist(), strict=True))
        merchant_users = [users[place] for place in result.merchant_user]
        assert set(result.merchant_names) <= {"m"}
        of_merchant.update(zip(merchant_users, columns.pack_totals(result.merchant_totals).to_pylist(), strict=True))

        for name, change in result.sums.items():
            rest = summaries[name].without(change.before)
            assert rest is not None
            rest.merge(change.after)
            summaries[name] = rest
        assert {ALL: plain_summary([*overall.values()]), b"m": plain_summary([*of_merchant.values()])} == summaries
        assert {*([ALL] if changed else []), *(name.encode() for name in result.merchant_names)} == result.sums.keys()

        assert {user: pack_spans(spans) for user, spans in expected.items()} == stored
        assert {user: pack_totals(totals_of(spans)) for user, spans in expected.items()} == overall
        assert of_merchant_m(expected) == of_merchant
        assert late_of(expected) - late_before == result.late or lateness_us is None


def of_merchant_m(users: dict[str, UserSpans]) -> dict[str, bytes]:
    """Return each user's packed totals on one merchant's flyers."""
    own = {user: {key: span for key, span in spans.items() if key[1] == "m"} for user, spans in users.items()}
    return {user: pack_totals(totals_of(spans)) for user, spans in own.items() if spans}


def late_of(users: dict[str, UserSpans]) -> int:
    """Return how many events were late."""
    return sum(span.openings.late for spans in users.values() for span in spans.values() if span.openings)


@given(st.lists(EVENTS, min_size=1, max_size=4), st.randoms())
def test_within_the_lateness_order_and_batches_do_not_matter(rounds: list[list[Event]], order: object) -> None:
    """The same events shuffled into other rounds give the same totals: those of all at once."""
    everything = [event for events in rounds for event in events]
    order.shuffle(everything)  # type: ignore[attr-defined]  # hypothesis' random
    stored: dict[str, bytes] = {}
    for start in range(0, len(everything), 7):
        users, result = merged(stored, everything[start : start + 7], 10**16)
        stored.update(zip(users, span_columns.pack_spans(result.spans).to_pylist(), strict=True))

    assert {user: pack_spans(spans) for user, spans in spans_of(everything, 10**16).items()} == stored
