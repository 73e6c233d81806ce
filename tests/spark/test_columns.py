"""By column and one by one give the same, to the byte."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.adapters.redis_arguments import PackedArguments
from functions.core.events import Event
from functions.core.packing import pack_events, unpack_events
from functions.core.spans import NOT_KEPT, Totals, pack_totals, stored_hundredths
from spark import columns

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
MOMENTS = st.integers(-(2**62), 2**62)
EVENTS = st.lists(
    st.tuples(MOMENTS, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT).map(lambda row: Event(*row)),
    min_size=1,
    max_size=8,
)


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_log_entries_are_unpacked_alike(batches: list[list[Event]]) -> None:
    """Many entries at once are the events of each, one after the other."""
    entries = [pack_events(batch) for batch in batches]
    unpacked = columns.unpack_log(entries)
    rows = list(zip(*(unpacked[name].to_pylist() for name in columns.EVENT_COLUMNS), strict=True))

    assert [tuple(event) for entry in entries for event in unpack_events(entry)] == rows


COUNTS = st.integers(0, 2**32 - 2)
TOTALS = st.tuples(st.integers(0, 2**40), COUNTS, MOMENTS, MOMENTS, st.integers(0, 2**40), COUNTS, COUNTS)


@given(st.lists(TOTALS | TOTALS.map(lambda row: (*row[:4], 0, NOT_KEPT, NOT_KEPT)), min_size=1))
def test_totals_are_packed_alike(totals: list[tuple[int, ...]]) -> None:
    """The bytes are those of the pure function, whether closed sessions are kept or not."""
    packed = columns.TotalsColumns(*(np.array(column, np.int64) for column in zip(*totals, strict=True)))
    alike = [Totals(*row) if row[-1] != NOT_KEPT else Totals(*row[:4]) for row in totals]

    assert [pack_totals(one) for one in alike] == columns.pack_totals(packed).to_pylist()


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 1000)), min_size=1))
def test_averages_are_rounded_alike_where_a_half_is_met(halves: list[tuple[int, int]]) -> None:
    """There a double decides; an odd half, and one second beside it."""
    totals = [(18 * (2 * half + 1) * count + beside, count) for half, count in halves for beside in (0, 1)]
    seconds, sessions = (np.array(column, np.int64) for column in zip(*totals, strict=True))

    assert [stored_hundredths(*one) for one in totals] == columns.hundredths_of(seconds, sessions).tolist()


@pytest.mark.parametrize("seconds", [-1, 2**53 - 1, 2**53, 2**62])
def test_averages_that_no_double_holds_are_left_to_be_computed(seconds: int) -> None:
    """By both."""
    stored = columns.hundredths_of(np.array([seconds]), np.array([2**31]))

    assert [stored_hundredths(seconds, 2**31)] == stored.tolist()


BYTES = st.binary(max_size=3)
PAIRS = st.integers(0, 3).flatmap(lambda size: st.tuples(BYTES, st.binary(min_size=size, max_size=size)))
ALIKE = st.lists(st.tuples(st.binary(min_size=3, max_size=3), st.binary(min_size=2, max_size=2)), min_size=1)


@given(st.lists(PAIRS) | ALIKE, st.data())
def test_names_and_values_are_packed_as_arguments_alike(pairs: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """Whether all are of one size or not; each pack has the rows between its bounds."""
    bound = data.draw(st.integers(0, len(pairs)))
    names, values = (
        pa.array([pair[place] for pair in [(b"", b""), *pairs]], pa.large_binary())[1:] for place in (0, 1)
    )
    packs = columns.pack_pairs(names, values, [0, bound, len(pairs)])
    for pack, some in zip(packs, (pairs[:bound], pairs[bound:]), strict=True):
        alike = PackedArguments.of(itertools.chain(*some))
        assert (pack.count, bytes(pack.resp)) == (alike.count, alike.resp)


def test_names_are_packed_as_many_as_are_asked_for_at_once() -> None:
    """The rest in the last pack; none make no pack that asks for nothing."""
    names = pa.array([b"a", b"bb", b"c"], pa.large_binary())
    packs = columns.pack_names(names, 2)
    assert [[b"a", b"bb"], [b"c"]] == [pack.texts() for pack in packs]
    assert columns.pack_names(names[:0], 2) == []


ENTRY = pack_events(unpack_events(pack_events([Event(1, "u", "e", "f", None)])))


@pytest.mark.parametrize("entry", [b"", b"\x02" + ENTRY[1:], ENTRY[:-1], ENTRY + b"x"])
def test_a_damaged_entry_is_refused(entry: bytes) -> None:
    """Rather than misread, with the others."""
    with pytest.raises(ValueError, match="log entry"):
        columns.unpack_log([ENTRY, entry])
