"""From what was sent to events and digests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from functions.adapters.cloud_events import Received
from functions.ingest.submissions import DIGEST_BYTES, digest_of, from_array, from_cloud_events, repeats_within

DATA = {"timestamp": "2018-10-01T13:54:59Z", "user_id": "u", "event": "e", "flyer_id": "", "merchant_id": None}
NAMES = st.tuples(st.text(max_size=5), st.text(max_size=5), st.none() | st.integers(0, 3))


@given(NAMES, NAMES)
def test_digests_are_equal_only_for_equal_names(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    """No two names share a digest by the way their parts are joined."""
    assert (one == other) == (digest_of(*one) == digest_of(*other))
    assert DIGEST_BYTES == len(digest_of(*one))


def test_an_array_without_a_key_has_no_digests() -> None:
    """Nobody can tell a repeat of an event without a name."""
    assert [(None, None)] * 2 == [event[:2] for event in from_array([DATA, DATA], None)]


def test_only_valid_events_count_as_repeated() -> None:
    """A refused event is no repeat, and has none."""
    good, bad = Received("1", "/s", "t", DATA, {}), Received("1", "/s", "t", {}, {})

    assert {3: 1} == repeats_within(from_cloud_events([bad, good, bad, good]))
