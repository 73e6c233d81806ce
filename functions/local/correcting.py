"""Correcting a rejected event: what is changed in it, whether it would be taken now, and what is sent. Pure."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.adapters import cloud_events
from functions.adapters.cloud_events import STRUCTURED_TYPE, Refused
from functions.core.errors import RequestRefusedError
from functions.core.event_types import APP_EVENT
from functions.core.events import Event, Limits, decode_event
from functions.core.naming import ARRAY_SOURCE, POSITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.adapters.redis_quarantine import Entry
    from functions.core.errors import Fault

ENTRY_SOURCE: Final = "/flyertime/quarantine"
"""Source of an event that never had a name: its id is then that of its entry."""
WHOLE: Final = ("/data", "/data_base64")
_ATTRIBUTE: Final = "/ce-"
_INDEX: Final = re.compile(r"0|[1-9][0-9]*")


def event_of(entry: Entry) -> Any:
    """Return the event as it is now: corrected where somebody did, else as it came."""
    return entry.record.received if entry.fixed is None else entry.fixed


def with_value(event: object, pointer: str, value: object, *, raw: bool) -> Any:
    """Return an event with one value set.

    Args:
        event: A CloudEvent in its JSON format, or an item of a raw array.
        pointer: As faults have it: into the event's data, or ``/ce-NAME`` for an attribute; ``/data`` for all the data.
        value: What to set.
        raw: Whether it is an item of a raw array, which has no attributes.

    Raises:
        RequestRefusedError: There is no such place.
    """
    changed: Any = copy.deepcopy(event)
    if raw:
        return _set_in(changed, pointer, value, pointer)
    if not isinstance(changed, dict):
        raise _no_place(pointer, "the event is no object: give it whole, with --file or --edit")
    if pointer.startswith(_ATTRIBUTE):
        changed[_unescaped(pointer[len(_ATTRIBUTE) :])] = value
    elif pointer in WHOLE:
        for name in ("data", "data_base64"):
            changed.pop(name, None)
        changed[pointer[1:]] = value
    elif not isinstance(changed.get("data"), dict | list):
        raise _no_place(pointer, "the event's data is no object: set all of it, as --set-json /data={…}")
    else:
        changed["data"] = _set_in(changed["data"], pointer, value, pointer)
    return changed


def without_value(event: object, pointer: str, *, raw: bool) -> Any:
    """Return an event without one value; the pointer is that of `with_value`.

    Raises:
        RequestRefusedError: There is no such value.
    """
    changed: Any = copy.deepcopy(event)
    place = changed
    if not raw and isinstance(changed, dict):
        if pointer.startswith(_ATTRIBUTE):
            pointer_in, place = "/" + pointer[len(_ATTRIBUTE) :], changed
        elif pointer in WHOLE:
            pointer_in, place = pointer, changed
        else:
            pointer_in, place = pointer, changed.get("data")
    else:
        pointer_in = pointer
    *path, last = _parts(pointer_in)
    for part in path:
        place = _step(place, part, pointer)
    if isinstance(place, dict) and last in place:
        del place[last]
    elif isinstance(place, list) and _INDEX.fullmatch(last) and int(last) < len(place):
        del place[int(last)]
    else:
        raise _no_place(pointer, "there is nothing")
    return changed


def faults_of(event: object, limits: Limits, *, raw: bool) -> tuple[Fault, ...]:
    """Return what is wrong with an event, by the rules that ingest has; nothing where it would be taken.

    Raises:
        RequestRefusedError: It is so wrong that it cannot even be sent.
    """
    data = event
    if not raw:
        body = msgspec.json.encode(event)
        (decoded,) = cloud_events.decode({"content-type": STRUCTURED_TYPE}, body, limits)
        if isinstance(decoded, Refused):
            return decoded.faults
        data = decoded.data
        if isinstance(data, list):
            return tuple(fault for item in data for fault in _item_faults(item, limits))
    return _item_faults(data, limits)


def _item_faults(data: object, limits: Limits) -> tuple[Fault, ...]:
    taken = decode_event(data, limits)
    return () if isinstance(taken, Event) else taken


def check_name(entry: Entry, event: object) -> None:
    """Check that a corrected event is still called what it was, so that it counts once, however it is sent.

    Raises:
        RequestRefusedError: It has another id or source.
    """
    if entry.record.raw or not isinstance(event, dict) or not isinstance(entry.record.received, dict):
        return
    wrong = {fault.pointer for fault in entry.record.faults}
    for name in ("id", "source"):
        was = entry.record.received.get(name)
        if was is not None and f"/ce-{name}" not in wrong and event.get(name) != was:
            raise RequestRefusedError(
                "name_changed", f"{entry.id}: an event keeps its {name}, so that it counts once: leave it as it was"
            )


def to_send(entry: Entry) -> dict[str, Any]:
    """Return the CloudEvent that is sent for an entry: of the same name as the one that came, so that it counts once.

    Raises:
        RequestRefusedError: It is no object.
    """
    event, record = event_of(entry), entry.record
    if record.raw:
        named = {"source": ENTRY_SOURCE, "id": entry.id}
        if record.event_id is not None and record.position is not None:
            named = {"source": ARRAY_SOURCE, "id": record.event_id}
            return {"specversion": "1.0", "type": APP_EVENT, **named, POSITION: record.position, "data": event}
        return {"specversion": "1.0", "type": APP_EVENT, **named, "data": event}
    if not isinstance(event, dict):
        raise RequestRefusedError("not_an_object", f"{entry.id} is no object: correct it with --file or --edit")
    return event if record.position is None else {**event, POSITION: record.position}


def goes_alone(event: object) -> bool:
    """Tell whether an event may be answered for by another number of verdicts than one: its data may be a list."""
    return isinstance(event, dict) and (isinstance(event.get("data"), list) or "data_base64" in event)


def _set_in(value: Any, pointer: str, new: object, whole: str) -> Any:
    """Set a value inside decoded JSON, in place; return the JSON, which is another one for the empty pointer."""
    if not pointer:
        return new
    *path, last = _parts(pointer)
    place = value
    for part in path:
        place = _step(place, part, whole)
    if isinstance(place, dict):
        place[last] = new
    elif isinstance(place, list) and _INDEX.fullmatch(last) and int(last) < len(place):
        place[int(last)] = new
    else:
        raise _no_place(whole, "there is no object to set it in")
    return value


def _step(place: Any, part: str, pointer: str) -> Any:
    if isinstance(place, dict) and part in place:
        return place[part]
    if isinstance(place, list) and _INDEX.fullmatch(part) and int(part) < len(place):
        return place[int(part)]
    raise _no_place(pointer, f"there is no {part[:40]!r}")


def _parts(pointer: str) -> Sequence[str]:
    if not pointer.startswith("/"):
        raise RequestRefusedError("bad_pointer", f"{pointer[:60]!r} is no JSON pointer, such as /user_id or /ce-id")
    return [_unescaped(part) for part in pointer[1:].split("/")]


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _no_place(pointer: str, why: str) -> RequestRefusedError:
    return RequestRefusedError("no_such_place", f"{pointer[:60]}: {why}")
