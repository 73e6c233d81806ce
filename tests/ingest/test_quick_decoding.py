"""The quick way takes nothing that the strict way refuses, and makes the same of what it takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.adapters import cloud_events
from functions.core.events import NO_LIMITS, Limits
from functions.core.naming import Digests
from functions.ingest.quick_decoding import quick_array, quick_batch, quick_binary, quick_structured
from functions.ingest.submissions import Submissions, from_array, from_cloud_events

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = {"timestamp": "2018-10-01T13:54:59Z", "user_id": "u", "event": "e", "flyer_id": "", "merchant_id": None}
EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": DATA}
DIGESTS = Digests(b"key")
STRUCTURED = {"content-type": cloud_events.STRUCTURED_TYPE}
BATCH = {"content-type": cloud_events.BATCH_TYPE}

# Near what is right: right values, with some that are wrong in one way.
TIMES = st.sampled_from([
    "2018-10-01T13:54:59Z", "2018-10-01T13:54:59.9999999Z", "2018-10-01T13:54:59.123Z", "2018-10-01t13:54:59z",
    "2018-10-01T13:54:59+05:30", "2018-10-01T13:54:59", "2018-12-31T23:59:60Z", "2018-10-01T24:00:00Z", "x", "",
    "2018-W10-1T08:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2018-13-01T13:54:59Z",
    "2018-10-01T13:54:59Z\n2018-10-01T13:54:59Z", "\uff12018-10-01T13:54:59Z", "2018-10-01T13:54:59.Z",
])  # fmt: skip
TEXTS = st.text(max_size=4) | st.sampled_from(["x" * 256, "x" * 257, "€" * 400, "x" * 1025])
ANYTHING = st.none() | st.booleans() | st.integers() | st.lists(TEXTS, max_size=2) | TEXTS
WRONG = st.dictionaries(st.sampled_from([*DATA, "more"]), ANYTHING, max_size=1)
DATAS = st.builds(lambda time, user, wrong: {**DATA, "timestamp": time, "user_id": user, **wrong}, TIMES, TEXTS, WRONG)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        [*EVENT, "time", "subject", "datacontenttype", "traceparent", "dataschema", "extra", "data_base64"]
    ),
    ANYTHING | TIMES | st.sampled_from(["application/json", "text/plain", "1.0", "0.3"]),
    max_size=2,
)
EVENTS = st.builds(
    lambda data, wrong: {**EVENT, "data": data, **wrong}, DATAS | st.lists(DATAS, max_size=2), ATTRIBUTES
)
LIMITS = st.sampled_from([NO_LIMITS, Limits(latest_us=1_538_402_100_000_000), Limits(max_field_bytes=300)])


def content(submissions: Submissions) -> tuple[Any, ...]:
    """Return all that writing and answering look at."""
    columns = submissions.columns
    return (
        list(submissions.ids),
        list(zip(columns.moments_us, columns.user_ids, columns.events, strict=True)),
        list(zip(columns.flyer_ids, columns.merchant_ids, strict=True)),
        list(submissions.digests),
        submissions.refused,
    )


def strictly(headers: Mapping[str, str], body: bytes, limits: Limits) -> tuple[Any, ...]:
    """Return what the strict way makes of CloudEvents."""
    return content(from_cloud_events(cloud_events.decode(headers, body), limits, DIGESTS))


@given(st.lists(EVENTS, max_size=3), LIMITS)
def test_a_batch_taken_quickly_is_the_same_taken_strictly(events: list[dict[str, Any]], limits: Limits) -> None:
    """Whatever is in the batch."""
    body = json.dumps(events).encode()
    if (quick := quick_batch(body, limits, DIGESTS)) is not None:
        assert content(quick) == strictly(BATCH, body, limits)


@given(EVENTS, LIMITS)
def test_an_event_taken_quickly_is_the_same_taken_strictly(event: dict[str, Any], limits: Limits) -> None:
    """Whatever is in the event."""
    body = json.dumps(event).encode()
    if (quick := quick_structured(body, limits, DIGESTS)) is not None:
        assert content(quick) == strictly(STRUCTURED, body, limits)


HEADERS = st.dictionaries(
    st.sampled_from(
        ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-x", "ce-subject", "content-type"]
    ),
    TEXTS | st.sampled_from(["1.0", "%41", '"q"', "ü", "application/json", "text/plain"]),
)


@given(HEADERS, DATAS | st.lists(DATAS, max_size=2) | ANYTHING, LIMITS)
def test_a_binary_event_taken_quickly_is_the_same_taken_strictly(
    changed: dict[str, str], data: object, limits: Limits
) -> None:
    """Whatever is in its headers and its data."""
    right = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/s",
        "ce-type": "t",
        "content-type": "application/json",
    }
    headers, body = {**right, **changed}, json.dumps(data).encode()
    if (quick := quick_binary(headers, body, limits, DIGESTS)) is not None:
        assert content(quick) == strictly(headers, body, limits)


@given(st.lists(DATAS, max_size=3), st.none() | TEXTS, LIMITS)
def test_an_array_taken_quickly_is_the_same_taken_strictly(
    events: list[dict[str, Any]], key: str | None, limits: Limits
) -> None:
    """With a key and without."""
    body = json.dumps(events).encode()
    if (quick := quick_array(body, key, limits, DIGESTS)) is not None:
        assert content(quick) == content(from_array(events, key, limits, DIGESTS))


@pytest.mark.parametrize("data", [DATA, [DATA, DATA]], ids=["one", "list"])
def test_what_senders_usually_send_is_taken_quickly(data: object) -> None:
    """Or the tests above would hold for nothing."""
    event = {**EVENT, "time": "2018-10-01T13:54:59.123Z", "datacontenttype": "application/json", "data": data}
    headers = {f"ce-{name}": "1.0" for name in ("specversion", "id", "source", "type")}

    assert quick_structured(json.dumps(event).encode(), NO_LIMITS, DIGESTS) is not None
    assert quick_batch(json.dumps([EVENT, EVENT]).encode(), NO_LIMITS, DIGESTS) is not None
    assert quick_array(json.dumps([DATA]).encode(), None, NO_LIMITS, DIGESTS) is not None
    assert (
        quick_binary({**headers, "content-type": "application/json"}, json.dumps(data).encode(), NO_LIMITS, DIGESTS)
        is not None
    )
