"""From what was sent to events and digests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.adapters.cloud_events import BATCH_TYPE, Received, Refused, decode
from functions.core.errors import Fault, RequestRefusedError
from functions.core.events import NO_LIMITS, Limits
from functions.core.naming import DIGEST_BYTES, Digests
from functions.ingest.submissions import from_array, from_cloud_events
from functions.ingest.writing import repeats_within

DATA = {"timestamp": "2018-10-01T13:54:59Z", "user_id": "u", "event": "e", "flyer_id": "", "merchant_id": None}
DIGESTS = Digests(b"key")
NAMES = st.tuples(st.text(max_size=5), st.text(max_size=5), st.none() | st.integers(0, 3))


def digest_of(source: str, name: str, position: int | None) -> bytes:
    """Return the digest of an event by itself, or of one of a list."""
    return DIGESTS.of(source, [name])[0] if position is None else DIGESTS.of_list(source, name, 4)[position]


@given(NAMES, NAMES)
def test_digests_are_equal_only_for_equal_names(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    """No two names share a digest by the way their parts are joined."""
    assert (one == other) == (digest_of(*one) == digest_of(*other))
    assert DIGEST_BYTES == len(digest_of(*one))


@given(st.text(max_size=5), st.text(max_size=5), st.integers(1, 3000))
def test_each_event_of_a_list_has_a_digest_of_its_own_with_and_without_the_others(
    source: str, name: str, events: int
) -> None:
    """So one that is sent again by itself is the same as in its list."""
    digests = DIGESTS.of_list(source, name, events)

    assert events == len(set(digests))
    assert digests[-1] == DIGESTS.of_item(source, name, events - 1)
    assert {DIGEST_BYTES} == set(map(len, digests))


def test_the_digests_of_a_list_go_on_behind_the_last_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that begins near the end goes on at the beginning."""
    monkeypatch.setattr(Digests, "_first_of_list", lambda *_: 256**DIGEST_BYTES - 1)

    assert [b"\xff" * DIGEST_BYTES, bytes(DIGEST_BYTES)] == DIGESTS.of_list("/s", "n", 2)


def test_another_store_gives_the_same_name_another_digest() -> None:
    """Who does not know a store's key cannot work out which digest another source's event will have there."""
    other = Digests(b"another key")

    assert DIGESTS.of("/s", ["1"]) != other.of("/s", ["1"])
    assert DIGESTS.of_list("/s", "1", 2)[0] != other.of_list("/s", "1", 2)[0]


def test_an_array_without_a_key_has_no_digests() -> None:
    """Nobody can tell a repeat of an event without a name."""
    submissions = from_array([DATA, DATA], None, NO_LIMITS, DIGESTS)

    assert ([None, None], [None, None]) == (submissions.ids, submissions.digests)


def test_a_refused_event_is_kept_as_it_came() -> None:
    """Those who look at it later see all attributes and the data, each item of a list by itself."""
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    submissions = from_cloud_events(
        [
            Received("1", "/s", "t", [DATA, {"user_id": 7}], attributes),
            Refused("2", (Fault("c", "/p", "r"),), {"id": "2", "extra": True}),
        ],
        NO_LIMITS,
        DIGESTS,
    )

    assert {
        1: {**attributes, "id": "1#1", "data": {"user_id": 7}},
        2: {"id": "2", "extra": True},
    } == {place: refusal.received for place, refusal in submissions.refused.items()}
    assert (3, 1) == (len(submissions), len(submissions.columns))


def test_only_names_count_as_repeated() -> None:
    """The first of equal names is told; what has no name repeats nothing."""
    assert {2: 0, 5: 0, 4: 3} == repeats_within([b"a", None, b"a", b"b", b"b", b"a", None])


def test_a_sender_bound_to_a_source_is_held_to_it() -> None:
    """An event of another source is refused by name; the others are taken."""
    events = [Received(source, source, "t", DATA, {}) for source in ("/mine", "/other")]
    submissions = from_cloud_events(events, NO_LIMITS, DIGESTS, "/mine".__eq__)

    assert [(1, "source_not_allowed")] == [
        (place, refusal.faults[0].code) for place, refusal in submissions.refused.items()
    ]


def test_too_many_events_are_refused_before_any_is_looked_at() -> None:
    """A packed body of a few kilobytes may hold a million, and a look at each would keep all other senders waiting."""
    limits = Limits(max_request_events=2)
    listed = Received("1", "/s", "t", [DATA] * 3, {"id": "1"})

    for decoding in (
        lambda: decode({"content-type": BATCH_TYPE}, b"[{},{},{}]", limits),
        lambda: from_cloud_events([listed], limits, DIGESTS),
        lambda: from_array([DATA] * 3, None, limits, DIGESTS),
    ):
        with pytest.raises(RequestRefusedError, match="at most 2 events"):
            decoding()
