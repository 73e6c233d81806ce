"""Made-up events: always the same for a seed, and as untidy as real ones."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.adapters.cloud_events import Received, decode
from functions.core.events import Event, decode_event
from functions.core.timestamps import parse_us
from functions.local.generating import Crowd, generate
from functions.local.replaying import _encode


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_the_same_seed_makes_the_same_events(seed: int, count: int) -> None:
    """Seeded means seeded, and there are as many different events as asked for."""
    events = list(generate(seed, count))

    assert events == list(generate(seed, count))
    assert count == len({event["id"] for event in events})


def test_every_event_is_one_that_ingest_takes() -> None:
    """Nothing made up is refused."""
    for event in generate(1, 300):
        (received,) = decode(*_encode([event], "structured"))
        assert isinstance(received, Received)
        assert isinstance(decode_event(received.data), Event)


def test_repeats_disorder_and_late_arrivals_occur_about_as_often_as_told() -> None:
    """The shares are those of the crowd."""
    crowd = Crowd(duplicate_share=0.1, disordered_share=0.2, late_share=0.05)
    events = list(generate(7, 5000, crowd))
    moments_us = [parse_us(event["time"]) for event in events]
    latest_us = 0
    behind = Counter[str]()
    for moment_us in moments_us:
        behind["late"] += latest_us - moment_us > 3600 * 1_000_000
        behind["disordered"] += latest_us - moment_us > 1_000_000
        latest_us = max(latest_us, moment_us)

    assert 0.08 < len(events) / 5000 - 1 < 0.12
    assert 0.03 < behind["late"] / len(events) < 0.07
    assert behind["disordered"] > 0.15 * len(events)


def test_a_tidy_crowd_is_in_order() -> None:
    """Without disorder each event arrives within a second of its time."""
    crowd = Crowd(duplicate_share=0, disordered_share=0, late_share=0)
    moments_us = [parse_us(event["time"]) for event in generate(3, 500, crowd)]

    assert all(later - earlier > -1_000_000 for earlier, later in pairwise(moments_us))


@pytest.mark.parametrize(("users", "merchants"), [(1, 1), (50, 3)])
def test_there_are_no_more_users_and_merchants_than_told(users: int, merchants: int) -> None:
    """The crowd bounds who and what occurs."""
    events = [event["data"] for event in generate(5, 400, Crowd(users=users, merchants=merchants))]

    assert len({event["user_id"] for event in events}) <= users
    assert len({event["merchant_id"] for event in events} - {""}) <= merchants
