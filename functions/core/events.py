"""One app event, and its strict decoding: every fault of an event is gathered, none stops the search for the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from functions.core import timestamps
from functions.core.errors import Fault, RequestRefusedError

FLYER_OPEN: Final = "flyer_open"
FLYER_CLOSE: Final = "flyer_close"
FLYER_EVENTS: Final = (FLYER_OPEN, FLYER_CLOSE)
"""The two kinds of event that carry time on flyer; every other kind is counted and kept, and adds no time."""

FIELDS: Final = ("timestamp", "user_id", "event", "flyer_id", "merchant_id")
NULLABLE_FIELDS: Final = ("flyer_id", "merchant_id")
MAX_FIELD_BYTES: Final = 1024
"""Longest text field in UTF-8, unless set otherwise. The log's format could hold 65,534; ids beyond this are mistakes
or attacks."""
MAX_DEPTH: Final = 16
"""Deepest nesting of an event's data, unless set otherwise; the five fields need a depth of 1."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request and an event of it may be at most."""

    max_field_bytes: int = MAX_FIELD_BYTES
    max_depth: int = MAX_DEPTH
    latest_us: int | None = None
    """Latest timestamp that is believed, microseconds since 1970; None: any."""
    max_request_events: int | None = None
    """Events in one request; None: any number."""

    def check_number(self, events: int) -> None:
        """Let a number of events pass; asked before any of them is looked at, which may take a second.

        Raises:
            RequestRefusedError: They are too many for one request (413).
        """
        if self.max_request_events is not None and events > self.max_request_events:
            raise RequestRefusedError(
                "too_many_events", f"at most {self.max_request_events} events in one request", status=413
            )


NO_LIMITS: Final = Limits()
"""The usual limits, and no latest timestamp."""


class Event(NamedTuple):
    """A decoded app event; ``timestamp_us`` counts microseconds since 1970, UTC."""

    timestamp_us: int
    user_id: str
    event: str
    flyer_id: str | None
    merchant_id: str | None


def decode_event(data: object, limits: Limits = NO_LIMITS) -> Event | tuple[Fault, ...]:
    """Return the event that ``data`` (decoded JSON) describes, or every fault found in it.

    All five fields must be there; ``flyer_id`` and ``merchant_id`` may be null. Other fields are ignored, so that apps
    can add some before this code knows them.
    """
    if not isinstance(data, dict):
        return (Fault("not_an_object", "", f"an event is a JSON object with {', '.join(FIELDS)}; got {_kind(data)}"),)
    faults: list[Fault] = []
    texts: list[str | None] = []
    if is_deeper(data, limits.max_depth):
        faults.append(Fault("too_deep", "", f"an event's data may be nested {limits.max_depth} deep at most"))
    for name in FIELDS:
        value = data.get(name, _MISSING)
        if isinstance(value, str):
            try:
                # In ASCII a character is a byte, and nothing needs to be encoded to be counted.
                size_bytes = len(value) if value.isascii() else len(value.encode())
            except UnicodeEncodeError:
                faults.append(Fault("not_unicode", f"/{name}", "must be Unicode text, without lone surrogates"))
            else:
                if size_bytes > limits.max_field_bytes:
                    faults.append(Fault("too_long", f"/{name}", f"at most {limits.max_field_bytes} bytes of UTF-8"))
            texts.append(value)
        elif value is None and name in NULLABLE_FIELDS:
            texts.append(None)
        elif value is _MISSING:
            faults.append(Fault("missing", f"/{name}", "this field is required" + _hint(name)))
        else:
            faults.append(Fault("wrong_type", f"/{name}", f"must be a string, not {_kind(value)}" + _hint(name)))
    moment_us = 0
    timestamp = data.get("timestamp")
    if isinstance(timestamp, str):
        try:
            moment_us = timestamps.parse_us(timestamp)
        except (ValueError, OverflowError):
            faults.append(Fault("bad_timestamp", "/timestamp", f"must be {timestamps.WANTED}"))
        else:
            if limits.latest_us is not None and moment_us > limits.latest_us:
                latest = timestamps.format_us(limits.latest_us)
                faults.append(Fault("in_the_future", "/timestamp", f"no later than {latest} is believed just now"))
    if faults:
        return tuple(faults)
    return Event(moment_us, *texts[1:])  # type: ignore[arg-type]  # nulls only where they may be: checked above


def is_deeper(value: object, depth: int) -> bool:
    """Tell whether decoded JSON is nested deeper than this; an object or array of plain values has depth 1."""
    if isinstance(value, dict):
        return depth < 1 or any(is_deeper(inner, depth - 1) for inner in value.values() if isinstance(inner, _NESTS))
    if isinstance(value, list):
        return depth < 1 or any(is_deeper(inner, depth - 1) for inner in value if isinstance(inner, _NESTS))
    return False


_NESTS: Final = (dict, list)
_MISSING: Final = object()


def _hint(name: str) -> str:
    if name == "timestamp":
        return f": {timestamps.WANTED}"
    return ': send "" or null where there is none' if name in NULLABLE_FIELDS else ""


def _kind(value: object) -> str:
    """Name the JSON type of a decoded value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
