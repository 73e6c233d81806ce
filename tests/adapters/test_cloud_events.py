"""Decoding CloudEvents: what the specification demands, on inputs where stock libraries fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from functions.adapters.cloud_events import MAX_FAULTS, Received, Refused, decode, new_event
from functions.core.errors import Fault, RequestRefusedError

HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/s",
    "ce-type": "t",
    "content-type": "application/json",
}
EVENT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def decode_one(event: object) -> Received | Refused:
    """Decode one CloudEvent in structured mode."""
    (decoded,) = decode({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())
    return decoded


def codes(decoded: Received | Refused) -> list[tuple[str, str]]:
    """Return code and pointer of each fault; none for an event that was taken."""
    return [] if isinstance(decoded, Received) else [(fault.code, fault.pointer) for fault in decoded.faults]


@pytest.mark.parametrize("encode", [to_binary, to_structured])
def test_events_of_the_cloudevents_library_are_read_back(encode: Any) -> None:
    """Both modes, as an independent encoder writes them."""
    headers, body = encode(
        CloudEvent({"id": "1", "source": "/s", "type": "t", "subject": "x", "myextension": "y"}, {"key": [1, "ü"]})
    )
    (decoded,) = decode({name.lower(): value for name, value in {**HEADERS, **headers}.items()}, body)

    assert isinstance(decoded, Received)
    assert ("1", "/s", "t", {"key": [1, "ü"]}) == decoded[:4]
    assert ("x", "y") == (decoded.attributes["subject"], decoded.attributes["myextension"])


def test_our_own_events_are_read_back() -> None:
    """What we send, we take."""
    headers, body = new_event("t", "/s", {"a": 1}, event_id="7")

    assert [("7", "/s", "t", {"a": 1})] == [event[:4] for event in decode(headers, body)]


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_header_values_are_percent_decoded(text: str) -> None:
    """A percent-encoded attribute is the text it stands for (HTTP binding §3.1.3.2)."""
    encoded = "".join(f"%{byte:02X}" for byte in text.encode())
    (decoded,) = decode({**HEADERS, "ce-id": encoded}, b"{}")

    assert text == decoded.id


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param('"quoted \\" text"', 'quoted " text', id="quoted"),
        pytest.param("Euro%20%E2%82%AC", "Euro €", id="percent"),
        pytest.param("Euro €".encode().decode("latin-1"), "Euro €", id="raw UTF-8 as servers hand it on"),
    ],
)
def test_header_values_are_read_as_they_are_sent(raw: str, text: str) -> None:
    """Quotes and encodings are taken off."""
    (decoded,) = decode({**HEADERS, "ce-subject": raw}, b"{}")

    assert isinstance(decoded, Received)
    assert text == decoded.attributes["subject"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"id": None}, [("missing_attribute", "/ce-id")], id="null id"),
        pytest.param({"id": ""}, [("bad_attribute", "/ce-id")], id="empty id"),
        pytest.param({"id": 7}, [("bad_attribute", "/ce-id")], id="number as id"),
        pytest.param({"source": ["x"]}, [("bad_attribute", "/ce-source")], id="list as source"),
        pytest.param({"specversion": "0.3"}, [("unsupported_version", "/ce-specversion")], id="0.3"),
        pytest.param({"specversion": ["1.0"]}, [("bad_attribute", "/ce-specversion")], id="list as version"),
        pytest.param({"time": "yesterday"}, [("bad_attribute", "/ce-time")], id="time"),
        pytest.param({"myextension": {"a": 1}}, [("bad_attribute", "/ce-myextension")], id="object as extension"),
        pytest.param({"subject": None, "time": None}, [], id="null is absent"),
        pytest.param({"time": "2018-10-01T13:54:59.123456789Z"}, [], id="nanoseconds"),
        pytest.param({"flag": True, "count": 3}, [], id="boolean and integer extensions"),
        pytest.param({"my-extension": "x"}, [("bad_attribute_name", "/ce-my-extension")], id="dash in a name"),
        pytest.param({"myExtension": "x"}, [("bad_attribute_name", "/ce-myExtension")], id="capital in a name"),
        pytest.param({"a/b~c": "x"}, [("bad_attribute_name", "/ce-a~1b~0c")], id="a name that the pointer escapes"),
        pytest.param({"": "x"}, [("bad_attribute_name", "/ce-")], id="no name"),
        pytest.param({"x" * 99 + "-": "x"}, [("bad_attribute_name", "/ce-" + "x" * 64)], id="a long name, cut off"),
        pytest.param({"count": 2**31}, [("bad_attribute", "/ce-count")], id="more than 32 bits"),
        pytest.param({"count": -(2**31)}, [], id="just 32 bits"),
        pytest.param({"subject": "x" * 1025}, [("too_long", "/ce-subject")], id="long"),
        pytest.param({"subject": "x" * 1024}, [], id="just not too long"),
        pytest.param({"subject": "é" * 513}, [("too_long", "/ce-subject")], id="long in bytes"),
        pytest.param({"knativeerrordata": "x" * 8192}, [], id="what a broker puts there"),
        pytest.param({"knativeerrordata": "x" * 8193}, [("too_long", "/ce-knativeerrordata")], id="long extension"),
        pytest.param({"id": "x" * 1025}, [("too_long", "/ce-id")], id="long id"),
        pytest.param({"datacontenttype": "text/plain", "data": "x"}, [("data_not_json", "/data")], id="text data"),
        pytest.param({"datacontenttype": "application/vnd.x+json; a=b", "data": {}}, [], id="a kind of JSON"),
        pytest.param({"data": {}, "data_base64": "e30="}, [("two_payloads", "/data_base64")], id="two payloads"),
        pytest.param({"data_base64": "%%"}, [("bad_base64", "/data_base64")], id="bad base64"),
        pytest.param({"data_base64": 5}, [("bad_base64", "/data_base64")], id="number as base64"),
        pytest.param({"data_base64": "e30"}, [("bad_base64", "/data_base64")], id="unpadded base64"),
        pytest.param({"data_base64": "ew=="}, [("data_not_json", "/data")], id="base64 of no JSON"),
        pytest.param({"id": None, "type": "", "time": 5}, [
            ("missing_attribute", "/ce-id"), ("bad_attribute", "/ce-type"), ("bad_attribute", "/ce-time")
        ], id="all at once"),
    ],
)  # fmt: skip
def test_attributes_are_checked(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each rule of the specification, with the place of the fault."""
    assert expected == codes(decode_one({**EVENT, **change}))


def test_an_id_that_is_at_fault_is_not_repeated() -> None:
    """It may be anything, and of any length."""
    decoded = decode_one({**EVENT, "id": "x" * 2000})

    assert isinstance(decoded, Refused)
    assert decoded.id is None
    assert "1" == decode_one({**EVENT, "type": ""}).id


def test_so_many_faults_are_told_and_no_more() -> None:
    """A body full of wrong attributes does not become a much larger answer."""
    decoded = decode_one({**EVENT, **{f"x{i}": [] for i in range(1000)}})

    assert isinstance(decoded, Refused)
    assert MAX_FAULTS == len(decoded.faults)


def test_base64_data_is_json_too() -> None:
    """data_base64 carries the same JSON as data would."""
    decoded = decode_one({**EVENT, "data_base64": "eyJhIjogMX0="})

    assert isinstance(decoded, Received)
    assert {"a": 1} == decoded.data


def test_a_batch_with_a_broken_event_keeps_the_others() -> None:
    """Each event of a batch is judged by itself, in order."""
    batch = [EVENT, 5, {**EVENT, "id": ""}, {**EVENT, "id": "2"}]
    decoded = decode({"content-type": "application/cloudevents-batch+json; charset=UTF-8"}, json.dumps(batch).encode())

    assert [[], [("not_an_object", "")], [("bad_attribute", "/ce-id")], []] == [codes(event) for event in decoded]


def test_a_binary_event_whose_data_is_no_json_is_refused_by_name() -> None:
    """The event is named, so that its sender can find it."""
    (decoded,) = decode(HEADERS, b"{")

    assert ("1", [("data_not_json", "/data")]) == (decoded.id, codes(decoded))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"id": NaN}', id="NaN"),
        pytest.param(b'{"id": "\xff"}', id="bad UTF-8"),
        pytest.param(b'{"id": "\\ud800"}', id="half a surrogate"),
        pytest.param(b"[" * 200_000, id="deep"),
    ],
)
def test_what_is_no_json_is_refused_without_an_echo(body: bytes) -> None:
    """The refusal says what is wrong and repeats nothing of the body."""
    with pytest.raises(RequestRefusedError, match="the body is not JSON") as refusal:
        decode({"content-type": "application/cloudevents+json"}, body)

    assert (400, "bad_json") == (refusal.value.status, refusal.value.code)


@given(st.binary(max_size=200), st.sampled_from(["application/cloudevents+json", "application/cloudevents-batch+json"]))
def test_any_bytes_are_decoded_or_refused(body: bytes, content_type: str) -> None:
    """No input escapes as another error."""
    try:
        decode({"content-type": content_type}, body)
    except RequestRefusedError:
        return


HEADER = st.text(st.characters(max_codepoint=255), max_size=20)


@given(
    st.dictionaries(st.text("abz09-_%. ", max_size=6).map(lambda name: f"ce-{name}"), HEADER, max_size=5),
    st.fixed_dictionaries({}, optional=dict.fromkeys(HEADERS, HEADER)),
    st.binary(max_size=50),
)
def test_any_headers_are_decoded_or_refused_without_an_echo(
    more: dict[str, str], some: dict[str, str], body: bytes
) -> None:
    """Each fault has a JSON pointer; what a header held is in no reason."""
    marked = {name: f"{value}secret\xe9" for name, value in {**HEADERS, **more, **some}.items()}
    for headers in ({**HEADERS, **more, **some}, marked):
        faults: list[Fault] = []
        try:
            faults = [fault for event in decode(headers, body) if isinstance(event, Refused) for fault in event.faults]
            told = str(faults)
        except RequestRefusedError as refusal:
            told = refusal.message
        assert "secret" not in told
        assert all(not fault.pointer or fault.pointer.startswith("/") for fault in faults)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.sampled_from([*EVENT, "data", "data_base64", "time", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=15,
)


@given(JSON)
def test_any_json_is_decoded_or_refused(value: object) -> None:
    """Valid JSON of any shape is an event, or a refusal with a reason."""
    decoded = decode_one(value)

    assert isinstance(decoded, Received) or decoded.faults
