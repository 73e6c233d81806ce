"""Records of rejected events: read as they were written, without credentials, and found by whom they name."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.credentials import HIDDEN
from functions.core.errors import Fault
from functions.core.quarantine import digest_of, group_of, mentions, new_record, packed, unpacked

FAULTS = (Fault("missing", "/event", "this field is required"),)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab 1/_é"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=15,
)


@given(JSON)
def test_a_record_is_read_as_it_was_written(received: object) -> None:
    """Any JSON at all."""
    record = new_record(FAULTS, received, event_id="1", source="/s", position=3, key="app")

    assert record == unpacked(packed(record))
    assert (received, False) == (record.received, record.changed)


@pytest.mark.parametrize(
    "received",
    [
        {"id": "1", "authorization": "whatever"},
        {"data": {"Password": "hunter2"}},
        {"data": [{"api-key": "abc"}, {"accessToken": 5}, {"session_cookie": ["a", "b"]}]},
        {"subject": "Bearer abcdefghijklmnop0123456789"},
        {"source": "https://ann:hunter2@shop.example/x"},
        {"data": "key=ftw_0123456789abcdefghij"},
        "ftr_0123456789abcdefghij",
    ],
)
def test_credentials_are_taken_out(received: Any) -> None:
    """By their names and by their looks; the record says that something was."""
    record = new_record(FAULTS, received)
    text = packed(record).decode()

    assert record.changed
    assert HIDDEN in text
    for secret in ("whatever", "hunter2", "abc", "0123456789", ":5"):
        assert secret not in text


@pytest.mark.parametrize(
    "received",
    [
        {"user_id": "ftp_ann", "event": "token_shown", "flyer_id": "basic flyer", "merchant_id": "Bearer & Sons"},
        {"tokens": 3, "key": "k", "keyboard": "qwertz", "authorization": None},
    ],
)
def test_what_is_none_stays(received: Any) -> None:
    """Names of users and flyers are not touched, whatever they begin with."""
    assert received == new_record(FAULTS, received).received


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"data": {"user_id": "ann"}}, True),
        ({"data": {"user_id": ["ann"]}}, True),
        ({"data": {"ann": 1}}, True),
        ({"data": '{"user_id": "ann", '}, True),
        ({"data_base64": base64.b64encode(json.dumps({"user_id": "ann"}).encode()).decode()}, True),
        ({"data_base64": base64.b64encode(b'\xff"ann"').decode()}, True),
        ({"subject": "users/ann/flyers"}, True),
        ({"data": {"user_id": "anna", "x": "joann", "y": "ann1"}}, False),
        ({"data": {"user_id": None, "flag": True}}, False),
        (["ann"], True),
        (None, False),
    ],
)
def test_an_event_names_a_user_or_not(event: object, named: bool) -> None:
    """Exactly, inside a longer text, as a name, packed; but not as a part of another's id."""
    assert named == mentions(event, "ann")


def test_a_moment_names_nobody() -> None:
    """A user called 42 is not in every timestamp that has this number."""
    assert not mentions({"timestamp": "2026-03-02T08:42:00Z", "time": "2026-03-02 08:42:00.42+01:00"}, "42")
    assert mentions({"text": "2026-03-02T08:42:00Z by 42"}, "42")
    assert mentions({"n": 42}, "42")


def test_any_id_can_be_looked_for() -> None:
    """What would mean something in a pattern means itself; the empty id is only found as itself."""
    assert mentions({"user_id": "a.*(b"}, "a.*(b")
    assert not mentions({"user_id": "axxb"}, "a.*b")
    assert not mentions({"user_id": "ann"}, "")
    assert mentions({"user_id": ""}, "")


def test_an_event_is_told_by_itself_and_its_name() -> None:
    """Not by the words of its fault, which may have the time in it, nor by the key that it came with."""
    late = (Fault("in_the_future", "/timestamp", "no later than now"),)
    one = digest_of(new_record(FAULTS, {"a": 1}, event_id="1", source="/s"))

    assert one == digest_of(new_record(late, {"a": 1}, event_id="1", source="/s", key="app"))
    for other in (
        new_record(FAULTS, {"a": 2}, event_id="1", source="/s"),
        new_record(FAULTS, {"a": 1}, event_id="2", source="/s"),
        new_record(FAULTS, {"a": 1}, event_id="1", source="/t"),
        new_record(FAULTS, {"a": 1}, event_id="1", source="/s", position=0),
        new_record(FAULTS, {"a": 1}, event_id="1", source="/s", raw=True),
    ):
        assert one != digest_of(other)


def test_a_share_is_a_keys_or_a_mistakes() -> None:
    """Where there are keys, they tell the senders apart; else the mistakes do."""
    assert "key:app" == group_of(new_record(FAULTS, {}, key="app"))
    assert "fault:missing:/event" == group_of(new_record(FAULTS, {}))
    assert "fault:bad_attribute_name:" == group_of(new_record((Fault("bad_attribute_name", "/ce-x-1", "r"),), {}))


def test_what_cannot_be_written_down_says_so() -> None:
    """Nested too deeply."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]

    with pytest.raises((ValueError, RecursionError)):
        packed(new_record(FAULTS, deep))
