"""Decoding an app event: all faults, or an event that can be packed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.events import FIELDS, MAX_FIELD_BYTES, Event, Limits, decode_event
from functions.core.packing import pack_events, unpack_events
from functions.core.shards import shard_of

DATA = {
    "timestamp": "1970-01-01T00:00:01Z",
    "user_id": "u",
    "event": "flyer_open",
    "flyer_id": "f",
    "merchant_id": "m",
}


def codes(data: object) -> set[tuple[str, str]]:
    """Return code and pointer of each fault; none for an event."""
    decoded = decode_event(data)
    return set() if isinstance(decoded, Event) else {(fault.code, fault.pointer) for fault in decoded}


def test_an_event_is_decoded() -> None:
    """All five fields, the timestamp as microseconds; others are passed over."""
    assert Event(1_000_000, "u", "flyer_open", "f", "m") == decode_event({**DATA, "app_version": 7})


@pytest.mark.parametrize("field", ["flyer_id", "merchant_id"])
def test_flyer_and_merchant_may_be_null_or_empty(field: str) -> None:
    """Null is no flyer; empty is a value like any other."""
    for value in (None, ""):
        decoded = decode_event({**DATA, field: value})
        assert isinstance(decoded, Event)
        assert value == decoded._asdict()[field]


def test_every_missing_field_is_named() -> None:
    """All of them at once."""
    assert {("missing", f"/{field}") for field in FIELDS} == codes({})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"timestamp": None}, {("wrong_type", "/timestamp")}),
        ({"timestamp": 1538400000}, {("wrong_type", "/timestamp")}),
        ({"timestamp": "yesterday"}, {("bad_timestamp", "/timestamp")}),
        ({"timestamp": "9999-12-31T23:59:59-23:00"}, {("bad_timestamp", "/timestamp")}),
        ({"user_id": None}, {("wrong_type", "/user_id")}),
        ({"user_id": 7, "event": True}, {("wrong_type", "/user_id"), ("wrong_type", "/event")}),
        ({"flyer_id": ["f"], "merchant_id": {}}, {("wrong_type", "/flyer_id"), ("wrong_type", "/merchant_id")}),
        ({"user_id": "x" * (MAX_FIELD_BYTES + 1)}, {("too_long", "/user_id")}),
        ({"user_id": "€" * (MAX_FIELD_BYTES // 3 + 1)}, {("too_long", "/user_id")}),
        ({"user_id": "x" * 2000, "timestamp": "x"}, {("too_long", "/user_id"), ("bad_timestamp", "/timestamp")}),
        (
            {"user_id": "\ud800", "flyer_id": "\udfff" * 600},
            {("not_unicode", "/user_id"), ("not_unicode", "/flyer_id")},
        ),
    ],
)
def test_every_fault_has_its_code_and_place(change: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    """The sender finds the field without guessing."""
    assert expected == codes({**DATA, **change})


def test_texts_up_to_the_limit_are_taken() -> None:
    """The limit counts bytes of UTF-8."""
    assert set() == codes({**DATA, "user_id": "x" * MAX_FIELD_BYTES, "event": "€" * (MAX_FIELD_BYTES // 3)})


def test_an_event_from_the_future_is_refused() -> None:
    """Up to the latest moment that is believed it is taken; without one, any is."""
    limits = Limits(latest_us=1_000_000)

    assert isinstance(decode_event(DATA, limits), Event)
    late = decode_event({**DATA, "timestamp": "1970-01-01T00:00:01.000001Z"}, limits)
    assert [("in_the_future", "/timestamp")] == [(fault.code, fault.pointer) for fault in late]  # type: ignore[union-attr]  # a refusal
    assert set() == codes({**DATA, "timestamp": "9999-12-31T23:59:59Z"})


def test_fields_that_we_pass_over_are_not_nested_without_end() -> None:
    """The event itself is the first level."""
    for depth, expected in ((2, set()), (3, {("too_deep", "")})):
        value: object = "x"
        for level in range(depth):
            value = [value] if level % 2 else {"a": value}
        decoded = decode_event({**DATA, "more": value}, Limits(max_depth=3))
        assert expected == (set() if isinstance(decoded, Event) else {(f.code, f.pointer) for f in decoded})


@pytest.mark.parametrize("data", [None, [], "text", 5, True, [DATA]])
def test_what_is_no_object_is_refused_as_a_whole(data: object) -> None:
    """The fault says what an event is and what came."""
    assert {("not_an_object", "")} == codes(data)


ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates, too: a decoder of JSON may let them through


@given(st.dictionaries(st.sampled_from([*FIELDS, "x"]), st.none() | st.booleans() | st.integers() | ANY_TEXT))
def test_anything_is_an_event_or_has_faults(data: dict[str, Any]) -> None:
    """And an event always has a shard and can be packed."""
    decoded = decode_event({**DATA, **data})
    if isinstance(decoded, Event):
        assert shard_of(decoded.user_id, 4) < 4
        assert [decoded] == unpack_events(pack_events([decoded]))
    else:
        assert decoded


def test_reasons_repeat_nothing_of_what_was_sent() -> None:
    """A refusal is safe to log and to show."""
    decoded = decode_event({**DATA, "timestamp": "hunter2", "user_id": ["hunter2"]})

    assert not isinstance(decoded, Event)
    assert "hunter2" not in str(decoded)
