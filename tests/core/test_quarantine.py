"""Records of rejected events: read as they were written, without credentials, and found by whom they name."""

from __future__ import annotations

import base64
import json
import time
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
        {"data": {"note": 'he sent {"password": "hunter2", "x": 1'}},
        {"data": "user=ann&password=hunter2"},
        {"data": "Authorization: Basic hunter2hunter2\r\nCookie: a=whatever"},
        {"data": '{\\"secrets\\": [\\"hunter2\\", \\"abc\\"]}'},
        {"data": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-whatever"},
        {"source": "/hook?x=1&access_token=hunter2"},
        {"data_base64": base64.b64encode(b'{"user_id": 1, "password": "hunter2"}').decode()},
        {"data_base64": base64.b64encode(b"\xff password=hunter2").decode()},
    ],
)
def test_credentials_are_taken_out(received: Any) -> None:
    """By their names and by their looks; the record says that something was."""
    record = new_record(FAULTS, received)
    text = packed(record).decode()
    if isinstance(record.received, dict) and "data_base64" in record.received:
        text += str(base64.b64decode(record.received["data_base64"]))

    assert record.changed
    assert HIDDEN in text
    for secret in ("whatever", "hunter2", "abc", "0123456789", ":5"):
        assert secret not in text


@pytest.mark.parametrize(
    "received",
    [
        {"user_id": "ftp_ann", "event": "token_shown", "flyer_id": "basic flyer", "merchant_id": "Bearer & Sons"},
        {"tokens": 3, "key": "k", "keyboard": "qwertz", "authorization": None},
        {"id": "token:5", "source": "/secret=s", "data": {"user_id": "cookie:7", "note": "10:30, a=b, no tokens: 3"}},
        {"data_base64": base64.b64encode(b'{"user_id": "ann"}').decode()},
        {"data_base64": "no base64"},
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


def test_names_and_places_are_kept_without_credentials_too() -> None:
    """The event's id and source as they stand beside it, and what a fault points at."""
    faults = (Fault("bad_attribute_name", "/ce-some-long-token", "only lower-case letters"),)
    record = new_record(
        faults, {}, event_id="by some-long-token", source="https://ann:hunter2@shop.example", token="some-long-token"
    )

    assert record.changed
    assert "some-long-token" not in packed(record).decode()
    assert "hunter2" not in packed(record).decode()


@pytest.mark.parametrize(
    "unit", ["a-", "passwd", "password: ", "?a", "eyJaaaaaaaa.", '"password":"', "password={", "&token"]
)
def test_no_text_takes_long_to_look_through(unit: str) -> None:
    """Ten times as long a one takes some ten times as long, whatever it is made of."""

    def took_s(times: int) -> float:
        started_s = time.process_time()
        new_record(FAULTS, {"data": unit * times})
        return time.process_time() - started_s

    shorter_s = min(took_s(5_000) for _ in range(3))
    assert min(took_s(50_000) for _ in range(3)) < 40 * max(shorter_s, 0.0005)


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
