"""Summaries as they are kept in the store."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from functions.core.report_summary import Summary
from functions.core.summary_packing import pack_counts, pack_summary, unpack_summary

COUNTS = st.integers(0, 2**53)


def packed(summary: Summary, version: int) -> bytes:
    """Return a summary packed; it can be."""
    kept = pack_summary(summary, version)
    assert kept is not None
    return kept


@given(
    st.builds(
        Summary,
        users=COUNTS,
        sessions=COUNTS,
        seconds=COUNTS,
        closed_sessions=COUNTS,
        unclosed=COUNTS,
        not_kept_users=COUNTS,
        hundredths=st.dictionaries(st.integers(0, 2**40), st.integers(1, 2**40)).map(Counter),
    ),
    st.integers(0, 2**60),
)
def test_a_summary_comes_back_with_its_version(summary: Summary, version: int) -> None:
    """And can be added to, as one that was just made."""
    unpacked = unpack_summary(packed(summary, version))

    assert (summary, version) == unpacked
    unpacked[0].merge(Summary(hundredths=Counter({7: 1})))
    assert summary.hundredths[7] + 1 == unpacked[0].hundredths[7]


@given(st.binary())
def test_what_is_no_summary_is_none(kept: bytes) -> None:
    """Whatever it is."""
    assert unpack_summary(kept) is None


def test_a_summary_of_another_format_is_none() -> None:
    """It is made anew, by whoever needs it."""
    fields = [*msgspec.msgpack.decode(packed(Summary(), 1)[2:])]

    assert unpack_summary(b"1:" + msgspec.msgpack.encode([fields[0] + 1, *fields[1:]])) is None
    assert unpack_summary(b"1:" + msgspec.msgpack.encode([*fields, 0])) is None
    assert unpack_summary(b":" + msgspec.msgpack.encode(fields)) is None
    assert unpack_summary(b"-1:" + msgspec.msgpack.encode(fields)) is None
    assert unpack_summary(b"1:" + msgspec.msgpack.encode(fields)) == (Summary(), 1)


def test_a_sum_of_more_than_64_bits_is_not_kept() -> None:
    """The one below it is."""
    assert (Summary(seconds=2**64 - 1), 7) == unpack_summary(packed(Summary(seconds=2**64 - 1), 7))
    assert pack_counts(Summary(seconds=2**64)) is None
    assert pack_summary(Summary(seconds=2**64), 7) is None
