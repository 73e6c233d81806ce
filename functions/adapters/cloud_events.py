"""CloudEvents over HTTP: strict decoding of the three content modes, and the events that we send.

Decoding is our own, since cloudevents 1.12 has no batch mode, guesses at payloads and accepts what the specification
forbids; building is the library's. Rules are from the CloudEvents 1.0.2 specification, its JSON format and its HTTP
protocol binding. Trigger and ingest both decode with this.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent

from functions.core import timestamps
from functions.core.errors import Fault, RequestRefusedError
from functions.core.events import NO_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

BATCH_TYPE: Final = "application/cloudevents-batch+json"
STRUCTURED_TYPE: Final = "application/cloudevents+json"
REQUIRED: Final = ("specversion", "id", "source", "type")
KNOWN: Final = frozenset({*REQUIRED, "datacontenttype", "dataschema", "subject", "time"})
EXTENSION_TIMES: Final = 8
"""So many times as long may other attributes be: brokers put what a failed delivery was answered into one."""
MAX_FAULTS: Final = 16
"""Of one event that are told: what is wrong with more attributes than that is no event."""

_TEXTS: Final = frozenset({"datacontenttype", "dataschema", "subject"})
_ATTRIBUTE_NAME: Final = re.compile(r"[a-z0-9]+")
_INTEGERS: Final = range(-(2**31), 2**31)

_decode_json: Final = msgspec.json.Decoder().decode


class Received(NamedTuple):
    """A CloudEvent with valid attributes; its data is decoded JSON (None where there is none)."""

    id: str
    source: str
    type: str
    data: object
    attributes: Mapping[str, object]
    """Every attribute, extensions included, null ones left out."""


class Refused(NamedTuple):
    """A CloudEvent that breaks the specification, or whose data is not JSON."""

    id: str | None
    faults: tuple[Fault, ...]
    received: object = None
    """The event as it came, in the form of the JSON format; data that is not JSON is left as text or bytes."""


def decode(headers: Mapping[str, str], body: bytes, limits: Limits = NO_LIMITS) -> list[Received | Refused]:
    """Return the CloudEvents of a request, in their order.

    Args:
        headers: By lower-case name.
        body: The whole body.
        limits: Of events in a request, and of an attribute: the longest field; of extensions `EXTENSION_TIMES` as long.

    Raises:
        RequestRefusedError: The request is no CloudEvent, or its body cannot be read as what its headers say it is.
    """
    media_type, _, parameters = headers.get("content-type", "").lower().partition(";")
    media_type = media_type.strip()
    _check_charset(parameters)
    if media_type.startswith("application/cloudevents"):
        if media_type == BATCH_TYPE:
            batch = decode_json(body)
            if not isinstance(batch, list):
                raise RequestRefusedError(
                    "not_a_batch", f"the body of {BATCH_TYPE} must be a JSON array of CloudEvents"
                )
            limits.check_number(len(batch))
            return [_from_json(event, limits.max_field_bytes) for event in batch]
        if media_type == STRUCTURED_TYPE:
            return [_from_json(decode_json(body), limits.max_field_bytes)]
        raise RequestRefusedError(
            "unsupported_format", f"CloudEvents come as {STRUCTURED_TYPE}, {BATCH_TYPE}, or in ce- headers", status=415
        )
    if "ce-specversion" in headers or "ce-id" in headers:
        return [_from_headers(headers, media_type, body, limits.max_field_bytes)]
    raise RequestRefusedError(
        "not_a_cloudevent",
        "send a CloudEvent: its attributes in headers ce-specversion, ce-id, ce-source and ce-type, or the whole "
        f"event as {STRUCTURED_TYPE}, or many as {BATCH_TYPE}",
        status=400 if media_type in {"", "application/json"} else 415,
    )


def decode_json(body: bytes) -> Any:
    """Return the JSON value of a body.

    Raises:
        RequestRefusedError: The body is not JSON in UTF-8.
    """
    try:
        return _decode_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RequestRefusedError("bad_json", f"the body is not JSON in UTF-8: {_where(e)}") from e


def new_event(
    event_type: str, source: str, data: object, *, event_id: str | None = None, traceparent: str | None = None
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a CloudEvent in structured mode; without an id it gets a random one.

    Its ``traceparent`` stands in the event, for who takes it from a broker, and in the header, for the first hop.
    """
    attributes = {"type": event_type, "source": source}
    if traceparent is not None:
        attributes["traceparent"] = traceparent
    if event_id is not None:
        attributes["id"] = event_id
    headers, body = to_structured(CloudEvent(attributes, data))
    return {**headers, **({} if traceparent is None else {"traceparent": traceparent})}, body


class _Traced(msgspec.Struct, gc=False):
    traceparent: str | None = None


_decode_traced: Final = msgspec.json.Decoder(_Traced).decode
_decode_all_traced: Final = msgspec.json.Decoder(list[_Traced]).decode


def traceparents_of(content_type: str, body: bytes) -> list[str]:
    """Return where the events of a structured or batched request say that they began; reads nothing else of them."""
    try:
        if content_type.startswith(BATCH_TYPE):
            events = _decode_all_traced(body)
        elif content_type.startswith(STRUCTURED_TYPE):
            events = [_decode_traced(body)]
        else:
            return []
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return []
    return [event.traceparent for event in events if event.traceparent is not None]


def _check_charset(parameters: str) -> None:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in {"utf-8", "utf8", "us-ascii"}:
            raise RequestRefusedError("unsupported_charset", "JSON is sent in UTF-8", status=415)


def _from_headers(
    headers: Mapping[str, str], media_type: str, body: bytes, max_attribute_bytes: int
) -> Received | Refused:
    attributes: dict[str, object] = {}
    faults: list[Fault] = []
    for name, value in headers.items():
        if name.startswith("ce-") and name != "ce-datacontenttype":  # content-type says that in this mode
            try:
                attributes[name[3:]] = _header_text(value)
            except UnicodeDecodeError:
                faults.append(Fault("bad_attribute", _pointer(name[3:]), "must be UTF-8, percent-encoded"))
    if content_type := headers.get("content-type"):
        attributes["datacontenttype"] = content_type
    faults += _faults_of(attributes, max_attribute_bytes)
    data: object = None
    if media_type and not _is_json(media_type):
        faults.append(_NOT_JSON)
    elif body:
        data = _payload(body, faults)
    return _result(attributes, data, faults, {**attributes, **_as_sent(data, body)} if faults else None)


def _as_sent(data: object, body: bytes) -> dict[str, object]:
    """Return what came in the body, in the terms of the JSON format, for those who look at a refused event."""
    if data is not None or not body:
        return {"data": data}
    try:
        return {"data": body.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(body).decode()}


def _header_text(value: str) -> str:
    """Decode a header's value: quotes off, then percent-encoding (HTTP binding §3.1.3.2)."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if value.isascii() and "%" not in value:
        return value
    # Servers hand us header bytes as Latin-1; senders that do not encode put UTF-8 there.
    return unquote_to_bytes(value.encode("latin-1", "replace")).decode()


def _from_json(event: object, max_attribute_bytes: int) -> Received | Refused:
    if not isinstance(event, dict):
        return Refused(None, (Fault("not_an_object", "", "a CloudEvent is a JSON object"),), event)
    data, encoded = event.get("data"), event.get("data_base64")
    attributes = {
        name: value for name, value in event.items() if value is not None and name not in {"data", "data_base64"}
    }
    faults = _faults_of(attributes, max_attribute_bytes)
    content_type = attributes.get("datacontenttype")
    if isinstance(content_type, str) and not _is_json(content_type.lower().partition(";")[0].strip()):
        faults.append(_NOT_JSON)
    elif encoded is not None:
        if data is not None:
            faults.append(Fault("two_payloads", "/data_base64", "send data or data_base64, not both"))
        else:
            data = _base64_payload(encoded, faults)
    return _result(attributes, data, faults, event)


def _result(attributes: dict[str, object], data: object, faults: list[Fault], received: object) -> Received | Refused:
    event_id = attributes.get("id")
    if faults:
        named = isinstance(event_id, str) and all(fault.pointer != "/ce-id" for fault in faults)
        return Refused(str(event_id) if named else None, tuple(faults[:MAX_FAULTS]), received)
    return Received(str(event_id), str(attributes["source"]), str(attributes["type"]), data, attributes)


def _faults_of(attributes: Mapping[str, object], max_bytes: int) -> list[Fault]:
    """Return what is wrong with the attributes (specification, "Context Attributes")."""
    faults: list[Fault] = []
    for name in REQUIRED:
        value = attributes.get(name)
        if value is None:
            faults.append(Fault("missing_attribute", f"/ce-{name}", "a CloudEvent needs this attribute"))
        elif not isinstance(value, str) or not value:
            faults.append(Fault("bad_attribute", f"/ce-{name}", "must be a string that is not empty"))
        elif name == "specversion" and value != "1.0":
            faults.append(Fault("unsupported_version", "/ce-specversion", 'only "1.0" is supported'))
    for name, value in attributes.items():
        if name in REQUIRED:
            continue
        if not _ATTRIBUTE_NAME.fullmatch(name):
            faults.append(Fault("bad_attribute_name", _pointer(name), "only lower-case letters a-z and digits"))
        elif isinstance(value, dict | list | float) or (isinstance(value, int) and value not in _INTEGERS):
            reason = "must be a string, a boolean or an integer of 32 bits"
            faults.append(Fault("bad_attribute", _pointer(name), reason))
        elif name in _TEXTS and not isinstance(value, str):
            faults.append(Fault("bad_attribute", _pointer(name), "must be a string"))
        elif name == "time" and not _is_time(value):
            faults.append(Fault("bad_attribute", "/ce-time", f"must be {timestamps.WANTED}"))
    for name, value in attributes.items():
        limit_bytes = max_bytes if name in KNOWN else EXTENSION_TIMES * max_bytes
        if isinstance(value, str) and len(value) > limit_bytes // 4 and len(value.encode()) > limit_bytes:
            faults.append(Fault("too_long", _pointer(name), f"at most {limit_bytes} bytes of UTF-8"))
    return faults


def _pointer(name: str) -> str:
    """Return the JSON pointer of an attribute (RFC 6901 §3); of a name that is none, the beginning."""
    return "/ce-" + name[:64].replace("~", "~0").replace("/", "~1")


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and timestamps.parse_us(value) is not None
    except (ValueError, OverflowError):
        return False


def _is_json(media_type: str) -> bool:
    return media_type in {"application/json", "text/json"} or media_type.endswith("+json")


_NOT_JSON: Final = Fault("data_not_json", "/data", "data must be application/json")


def _payload(body: bytes, faults: list[Fault]) -> object:
    try:
        return decode_json(body)
    except RequestRefusedError as e:
        faults.append(Fault("data_not_json", "/data", e.message.replace("the body", "the data")))
        return None


def _base64_payload(encoded: object, faults: list[Fault]) -> object:
    try:
        if not isinstance(encoded, str):
            raise ValueError("not a string")  # noqa: TRY004, TRY301  # told like the other mistakes, below
        return _payload(base64.b64decode(encoded, validate=True), faults)
    except (ValueError, binascii.Error):
        faults.append(Fault("bad_base64", "/data_base64", "must be a string in base64"))
        return None


def _where(error: Exception) -> str:
    """Say what is wrong with a JSON text, without any of its content."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return str(error)[:120]
