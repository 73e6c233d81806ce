"""Recorded events from a file: JSON array, NDJSON or CSV, as CloudEvents with stable ids.

A record that is a CloudEvent keeps its name. Any other gets the file's name as source and its place and content as id,
so that the same file sent again counts once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from functions.core import event_types
from functions.core.errors import RequestRefusedError
from functions.core.events import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

FORMATS: Final = ("json", "ndjson", "csv")
_BOM: Final = b"\xef\xbb\xbf"


class BadRecord(NamedTuple):
    """A record that cannot be read."""

    place: str
    reason: str


def read_events(
    stream: BinaryIO, source: str, record_format: str | None = None
) -> Iterator[dict[str, Any] | BadRecord]:
    """Yield the CloudEvents of a file; bad records are yielded too, with their place, and do not end the reading.

    Args:
        stream: Buffered, so that its beginning can be looked at.
        source: Of records that are no CloudEvents.
        record_format: One of FORMATS; unset: from the first character. A JSON array is read as a whole, the others
            record by record.

    Raises:
        RequestRefusedError: The file as a whole cannot be read.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(_Raw(stream))
    if buffered.peek(3)[:3] == _BOM:
        buffered.read(3)
    reader = {"json": _read_json, "ndjson": _read_ndjson, "csv": _read_csv}[record_format or _detect(buffered)]
    for number, (place, record) in enumerate(reader(buffered)):
        if isinstance(record, BadRecord):
            yield record
        elif not isinstance(record, dict):
            yield BadRecord(place, "an event is a JSON object")
        elif "specversion" in record:
            yield record
        else:
            yield _named(record, source, number)


class _Raw(io.RawIOBase):
    """Any readable object as a raw stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _detect(stream: io.BufferedReader) -> str:
    beginning = stream.peek(4096).lstrip()[:1]
    return {b"[": "json", b"{": "ndjson", b"": "ndjson"}.get(beginning, "csv")


def _named(record: dict[str, Any], source: str, number: int) -> dict[str, Any]:
    content = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "specversion": "1.0",
        "id": f"{number}-{content}",
        "source": source,
        "type": event_types.APP_EVENT,
        "data": record,
    }


def _read_json(stream: io.BufferedReader) -> Iterator[tuple[str, Any]]:
    try:
        records = msgspec.json.decode(stream.read())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RequestRefusedError("bad_json", f"the file is not JSON: {e}") from e
    if not isinstance(records, list):
        raise RequestRefusedError("not_an_array", "a JSON file must hold an array of events; one a line is NDJSON")
    for number, record in enumerate(records):
        yield f"record {number + 1}", record


def _read_ndjson(stream: io.BufferedReader) -> Iterator[tuple[str, Any]]:
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(stream, 1):
        if line.strip():
            place = f"line {number}"
            try:
                yield place, decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                yield place, BadRecord(place, f"not JSON: {e}")


def _read_csv(stream: io.BufferedReader) -> Iterator[tuple[str, Any]]:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="strict", newline="")
    rows = csv.DictReader(text)
    try:
        missing = [name for name in FIELDS if name not in (rows.fieldnames or [])]
        if missing:
            raise RequestRefusedError(
                "bad_header", f"the first line must name the columns {', '.join(FIELDS)}; missing: {', '.join(missing)}"
            )
        for row in rows:
            place = f"line {rows.line_num}"
            if None in row or None in row.values():
                yield place, BadRecord(place, "another number of fields than the first line")
            else:
                yield place, dict(row)
    except (UnicodeDecodeError, csv.Error) as e:
        raise RequestRefusedError("bad_csv", f"the file is not CSV in UTF-8: {e}") from e
