"""Recorded events from files of all kinds, good and bad."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from functions.core.errors import RequestRefusedError
from functions.local.reading import BadRecord, read_events

RAW = {"timestamp": "2018-10-01T13:54:59Z", "user_id": "ü", "event": "flyer_open", "flyer_id": "", "merchant_id": "m"}
CLOUD_EVENT = {"specversion": "1.0", "id": "7", "source": "/app", "type": "t", "data": RAW}
CSV = "timestamp,user_id,event,flyer_id,merchant_id\n2018-10-01T13:54:59Z,ü,flyer_open,,m\n"


def read(content: str | bytes, record_format: str | None = None) -> list[dict[str, Any] | BadRecord]:
    """Read all of a file."""
    data = content.encode() if isinstance(content, str) else content
    return list(read_events(io.BytesIO(data), "/file", record_format))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps([RAW]), id="JSON array"),
        pytest.param("  \n" + json.dumps([RAW], indent=2), id="indented"),
        pytest.param(json.dumps(RAW), id="NDJSON without an end of line"),
        pytest.param(json.dumps(RAW) + "\r\n\r\n", id="NDJSON with Windows ends and an empty line"),
        pytest.param(CSV, id="CSV"),
        pytest.param(CSV.replace("\n", "\r\n"), id="CSV with Windows ends"),
        pytest.param(b"\xef\xbb\xbf" + CSV.encode(), id="CSV with a byte order mark, as Excel writes it"),
    ],
)
def test_every_kind_of_file_gives_the_same_event(content: str | bytes) -> None:
    """The kind is seen from the content; the name follows from source, place and content."""
    (event,) = read(content)

    assert isinstance(event, dict)
    assert (RAW, "/file", "0-") == (event["data"], event["source"], event["id"][:2])


def test_a_cloud_event_keeps_its_name() -> None:
    """What has a name already is sent under it."""
    assert [CLOUD_EVENT] == read(json.dumps(CLOUD_EVENT))


def test_the_same_file_gives_the_same_names() -> None:
    """Sent twice it counts once; the same event twice in one file is two events."""
    content = json.dumps([RAW, RAW])
    names = [event["id"] for event in read(content) if isinstance(event, dict)]

    assert names == [event["id"] for event in read(content) if isinstance(event, dict)]
    assert 2 == len(set(names))


def test_bad_lines_are_named_and_the_others_read() -> None:
    """A broken line costs one record."""
    good = json.dumps(RAW)
    events = read(f"{good}\n{{broken\n[1]\n{good}\n")

    assert ["line 2", "line 3"] == [event.place for event in events if isinstance(event, BadRecord)]
    assert 2 == sum(isinstance(event, dict) for event in events)


def test_a_csv_row_of_another_length_is_named() -> None:
    """Neither too few nor too many fields pass for an event."""
    events = read(CSV + "1,2\n1,2,3,4,5,6\n")

    assert ["line 3", "line 4"] == [event.place for event in events if isinstance(event, BadRecord)]


@pytest.mark.parametrize(
    ("content", "record_format", "code"),
    [
        pytest.param("user_id,event\n1,2\n", None, "bad_header", id="columns missing"),
        pytest.param(b"timestamp,user_id,event,flyer_id,merchant_id\n\xff,,,,\n", "csv", "bad_csv", id="no UTF-8"),
        pytest.param("[1,", None, "bad_json", id="cut off"),
        pytest.param("{}", "json", "not_an_array", id="object where an array should be"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(content: str | bytes, record_format: str | None, code: str) -> None:
    """One error for the file, with a code."""
    with pytest.raises(RequestRefusedError) as refusal:
        read(content, record_format)

    assert code == refusal.value.code


def test_an_empty_file_has_no_events() -> None:
    """Nothing is no mistake."""
    assert [] == read("")
