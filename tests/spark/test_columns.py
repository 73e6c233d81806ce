"""By column and one by one give the same, to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.events import Event
from functions.core.packing import pack_events, unpack_events
from functions.core.spans import Span, Totals, pack_spans, pack_totals
from spark import columns

if TYPE_CHECKING:
    from functions.core.spans import UserSpans

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
MOMENTS = st.integers(-(2**62), 2**62)
EVENTS = st.lists(
    st.tuples(MOMENTS, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT).map(lambda row: Event(*row)),
    min_size=1,
    max_size=8,
)
USER_SPANS = st.dictionaries(
    st.tuples(TEXT, TEXT), st.builds(Span, MOMENTS, MOMENTS, st.integers(1, 2**32 - 1)), max_size=4
)


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_log_entries_are_unpacked_alike(batches: list[list[Event]]) -> None:
    """Many entries at once are the events of each, one after the other."""
    entries = [pack_events(batch) for batch in batches]
    unpacked = columns.unpack_log(entries)
    rows = list(zip(*(unpacked[name].to_pylist() for name in columns.EVENT_COLUMNS), strict=True))

    assert [tuple(event) for entry in entries for event in unpack_events(entry)] == rows


@given(st.lists(USER_SPANS, max_size=6))
def test_users_spans_are_unpacked_alike(users: list[UserSpans]) -> None:
    """Many users at once are the spans of each."""
    held = columns.unpack_spans([pack_spans(spans) for spans in users])
    found: list[UserSpans] = [{} for _ in users]
    texts = zip(held.user.tolist(), held.flyer_id.to_pylist(), held.merchant_id.to_pylist(), strict=True)
    spans = zip(held.first_us.tolist(), held.last_us.tolist(), held.events.tolist(), strict=True)
    for (user, flyer, merchant), span in zip(texts, spans, strict=True):
        found[user][flyer, merchant] = Span(*span)

    assert users == found


@given(st.lists(USER_SPANS.filter(bool), min_size=1, max_size=6))
def test_users_spans_are_packed_alike(users: list[UserSpans]) -> None:
    """The bytes are those of the pure function, rows in the same order."""
    values = [pack_spans(spans) for spans in users]

    assert values == columns.pack_spans(columns.unpack_spans(values)).to_pylist()


TOTALS = st.tuples(st.integers(0, 2**40), st.integers(0, 2**32 - 2), MOMENTS, MOMENTS).map(lambda row: Totals(*row))


@given(st.lists(TOTALS, min_size=1))
def test_totals_are_packed_alike(totals: list[Totals]) -> None:
    """The bytes are those of the pure function."""
    packed = columns.TotalsColumns(*(np.array(column, np.int64) for column in list(zip(*totals, strict=True))[:4]))

    assert [pack_totals(one) for one in totals] == columns.pack_totals(packed).to_pylist()


ENTRY = pack_events(unpack_events(pack_events([Event(1, "u", "e", "f", None)])))


@pytest.mark.parametrize("entry", [b"", b"\x02" + ENTRY[1:], ENTRY[:-1], ENTRY + b"x"])
def test_a_damaged_entry_is_refused(entry: bytes) -> None:
    """Rather than misread, with the others."""
    with pytest.raises(ValueError, match="log entry"):
        columns.unpack_log([ENTRY, entry])


SPANS = pack_spans({("f", "m"): Span(1, 2, 2)})


@pytest.mark.parametrize("value", [b"", b"\x02" + SPANS[1:], SPANS[:-1], SPANS + b"x", b"\x01\x09\x00\x00\x00"])
def test_damaged_spans_are_refused(value: bytes) -> None:
    """Rather than misread, with the others."""
    with pytest.raises(ValueError, match="spans"):
        columns.unpack_spans([SPANS, value])
