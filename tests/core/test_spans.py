"""Spans: an algebra, a packing, and the number."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.events import Event
from functions.core.spans import (
    COMPUTED,
    NO_SESSION,
    TOTALS_FORMAT,
    Span,
    Totals,
    average_hours,
    pack_totals,
    spans_of,
    totals_of,
    unpack_totals,
)

MOMENTS = st.integers(-(10**15), 4 * 10**15)
GOLDEN = Path(__file__).parent / "golden" / "state"


@st.composite
def a_span(draw: st.DrawFn) -> Span:
    """Draw a span."""
    first, last = sorted((draw(MOMENTS), draw(MOMENTS)))
    return Span(first, last, draw(st.integers(1, 2**32 - 1)))


@given(a_span(), a_span(), a_span())
def test_merging_is_commutative_and_associative(a: Span, b: Span, c: Span) -> None:
    """So order and batching do not matter."""
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(st.lists(MOMENTS, min_size=1, max_size=20), st.randoms())
def test_the_durations_telescope(moments: list[int], order: object) -> None:
    """The sum over consecutive events, each floored to its second, follows from the first and the last alone."""
    shuffled = list(moments)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' random
    span = reduce(Span.merge, (Span(moment, moment, 1) for moment in shuffled))
    pairs = [end // 10**6 - start // 10**6 for start, end in pairwise(sorted(moments))]

    assert (sum(pairs), len(pairs)) == (span.seconds, span.sessions)


COUNTS = st.integers(0, 2**32 - 2)


TOTALS = st.tuples(st.integers(0, 2**40), COUNTS, MOMENTS, MOMENTS)
CLOSED = st.just((None, None, None)) | st.tuples(st.integers(0, 2**40), COUNTS, COUNTS)


@given(st.tuples(TOTALS, CLOSED).map(lambda parts: Totals(*parts[0], *parts[1])))
def test_packed_totals_are_read_back(totals: Totals) -> None:
    """Seconds and sessions, not their rounded quotient, are kept; and whether closed sessions are."""
    assert totals == unpack_totals(pack_totals(totals))


@pytest.mark.parametrize(
    "value",
    [b"", bytes(49), *(bytes([form, *bytes(rest)]) for form, rest in ((1, 44), (2, 16), (2, 48), (3, 44), (4, 48)))],
)
def test_totals_of_another_format_are_refused(value: bytes) -> None:
    """Rather than misread."""
    with pytest.raises(ValueError, match="another format"):
        unpack_totals(value)


@given(st.integers(0, 10**12), st.integers(1, 10**6))
@example(18, 1)
@example(2**53 - 1, 1)
@example(2**53, 2**30)
def test_the_average_stands_ready_in_packed_totals(seconds: int, sessions: int) -> None:
    """As it is shown, or marked as one that is to be computed; bytes 1 to 4."""
    stored = int.from_bytes(pack_totals(Totals(seconds, sessions, 0, 0))[1:5], "little")
    hundredths = round(average_hours(seconds, sessions) * 100)

    assert stored == (hundredths if hundredths < COMPUTED and seconds < 2**53 else COMPUTED)


def test_without_a_session_no_average_stands_ready() -> None:
    """Not even zero."""
    assert int.from_bytes(pack_totals(Totals(0, 0, 0, 0))[1:5], "little") == NO_SESSION


def test_totals_of_no_event_have_no_packed_form() -> None:
    """There is no first moment to write."""
    with pytest.raises(ValueError, match="no event"):
        pack_totals(totals_of({}))


@pytest.mark.parametrize("golden", json.loads((GOLDEN / "totals.json").read_text()), ids=lambda golden: golden["name"])
def test_totals_that_any_version_wrote_are_read(golden: dict[str, Any]) -> None:
    """To the byte, and those of this version are still written so."""
    packed, totals = bytes.fromhex(golden["hex"]), Totals(*golden["totals"])

    assert totals == unpack_totals(packed)
    if packed[0] == TOTALS_FORMAT:
        assert packed == pack_totals(totals)


def rounded(seconds: int, sessions: int) -> float:
    """Round as Spark does, by the letter: the double's shortest text, half up."""
    return float(Decimal(repr(seconds / sessions / 3600)).quantize(Decimal("0.01"), ROUND_HALF_UP))


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_the_average_is_rounded_half_up(seconds: int, sessions: int) -> None:
    """The quick way gives what the exact one does."""
    assert rounded(seconds, sessions) == average_hours(seconds, sessions)


@given(st.integers(0, 10**7), st.integers(1, 1000))
def test_ties_are_rounded_half_up(hundredths: int, sessions: int) -> None:
    """At exactly half a hundredth of an hour, where the two ways could differ: 18 s times an odd number a session."""
    seconds = 18 * (2 * hundredths + 1) * sessions

    assert rounded(seconds, sessions) == average_hours(seconds, sessions)


@pytest.mark.parametrize(
    ("seconds", "hours"), [(17, 0.0), (18, 0.01), (53, 0.01), (54, 0.02), (3600, 1.0), (5418, 1.51)]
)
def test_known_averages(seconds: int, hours: float) -> None:
    """Half a hundredth of an hour is 18 seconds, and goes up."""
    assert hours == average_hours(seconds, 1)


def event(moment_s: float, flyer: str | None, merchant: str | None = "m", name: str = "flyer_open") -> Event:
    """Return an event of one user."""
    return Event(round(moment_s * 10**6), "u", name, flyer, merchant)


def test_a_flyer_under_several_merchants_is_one_flyer_overall() -> None:
    """From the first to the last event, whoever's it was; apart, each merchant has its own part."""
    spans = spans_of([event(0, "f", "a"), event(10, "f", "b"), event(30, "f", "a"), event(35, "f", "b")])["u"]

    assert Totals(35, 3, 0, 35_000_000) == totals_of(spans)
    assert {("f", "a"): (30, 1), ("f", "b"): (25, 1)} == {
        key: (span.seconds, span.sessions) for key, span in spans.items()
    }


def test_only_opens_and_closes_on_a_flyer_count() -> None:
    """Other events and null flyers give no span; an empty id is an id."""
    assert {} == spans_of([event(0, "f", name="shopping_list_open"), event(1, None), event(2, None)])
    assert (5, 1) == totals_of(spans_of([event(0, ""), event(5, "", name="flyer_close")])["u"])[:2]


def test_moments_before_1970_are_floored_downwards() -> None:
    """From -0.5 s to 0.5 s is one whole second, as unix_timestamp has it."""
    assert (1, 1) == totals_of(spans_of([event(-0.5, "f"), event(0.5, "f")])["u"])[:2]
