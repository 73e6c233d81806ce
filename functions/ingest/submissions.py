"""From a request to events: what was sent, decoded or refused, and the digests that tell repeats. Pure.

The strict way: it finds every fault. functions/ingest/quick_decoding.py is the way of requests that have none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from functions.adapters.cloud_events import Received, Refused
from functions.core.errors import Fault, RequestRefusedError
from functions.core.event_columns import EventColumns
from functions.core.events import Event, Limits, decode_event
from functions.core.naming import (
    ARRAY_SOURCE,
    MAX_KEY_CHARACTERS,
    POSITION,
    Digests,
    ListIds,
    item_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Refusal(NamedTuple):
    """An event that will never be taken as it is."""

    faults: tuple[Fault, ...]
    received: object
    """The event as it came, decoded: a CloudEvent in the form of its JSON format, or an item of a raw array.

    Of a CloudEvent in binary mode it has the attributes and the data, and nothing else of the request's headers.
    """
    source: str | None = None
    """Of the CloudEvent, where it has one."""
    position: int | None = None
    """In the list that it came in; None where it came by itself."""


@dataclass(slots=True)
class Submissions:
    """The events of one request, those that can be taken by column."""

    ids: Sequence[str | None]
    """What the sender calls each event, refused ones among them; None where it has no name."""
    columns: EventColumns
    """Those that can be taken."""
    digests: Sequence[bytes | None]
    """Of (source, id) of each that can be taken; None where repeats cannot be told."""
    refused: dict[int, Refusal] = field(default_factory=dict)
    """By place among all."""

    def __len__(self) -> int:
        """Return the number of events, refused ones among them."""
        return len(self.ids)


class _Gathering:
    """Submissions in the making."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.ids: list[str | None] = []
        self._columns = EventColumns()
        self._digests: list[bytes | None] = []
        self._refused: dict[int, Refusal] = {}

    def refuse(self, event_id: str | None, refusal: Refusal) -> None:
        self._refused[len(self.ids)] = refusal
        self.ids.append(event_id)

    def take(
        self,
        event_id: str | None,
        digest: bytes | None,
        data: object,
        received: object,
        source: str | None = None,
        position: int | None = None,
    ) -> None:
        decoded = decode_event(data, self._limits)
        if isinstance(decoded, Event):
            self.ids.append(event_id)
            self._columns.append(decoded)
            self._digests.append(digest)
        else:
            self.refuse(event_id, Refusal(decoded, received, source, position))

    def submissions(self) -> Submissions:
        return Submissions(self.ids, self._columns, self._digests, self._refused)


def from_cloud_events(
    received: Iterable[Received | Refused],
    limits: Limits,
    digests: Digests,
    may_send: Callable[[str], bool] | None = None,
) -> Submissions:
    """Return the app events of CloudEvents; one whose data is a list holds many, each named ``id#position``.

    Args:
        received: The CloudEvents.
        limits: What a request and an event may be at most.
        digests: Makes the store's.
        may_send: Whether the sender may send events of a source; None: of any.

    Raises:
        RequestRefusedError: A list holds more events than a request may.
    """
    gathering = _Gathering(limits)
    for event in received:
        if isinstance(event, Refused):
            source = event.received.get("source") if isinstance(event.received, dict) else None
            known = source if isinstance(source, str) else None
            gathering.refuse(event.id, Refusal(event.faults, event.received, known))
            continue
        whole = {**event.attributes, "data": event.data}
        place = event.attributes.get(POSITION)
        if may_send is not None and not may_send(event.source):
            fault = Fault("source_not_allowed", "/ce-source", "this write key is bound to another source")
            gathering.refuse(event.id, Refusal((fault,), whole, event.source))
        elif place is not None:
            item = item_of(event.id, place)
            if item is None or isinstance(event.data, list):
                fault = Fault("bad_attribute", f"/ce-{POSITION}", "must be the number after # in the event's id")
                gathering.refuse(event.id, Refusal((fault,), whole, event.source))
            else:
                name, position = item
                digest = digests.of_item(event.source, name, position)
                gathering.take(event.id, digest, event.data, whole, event.source, position)
        elif isinstance(event.data, list):
            limits.check_number(len(event.data))
            ids = ListIds(event.id, len(event.data))
            names = digests.of_list(event.source, event.id, len(event.data))
            for position, (event_id, digest, data) in enumerate(zip(ids, names, event.data, strict=True)):
                received_item = {**event.attributes, "id": event_id, "data": data}
                gathering.take(event_id, digest, data, received_item, event.source, position)
        else:
            (digest,) = digests.of(event.source, (event.id,))
            gathering.take(event.id, digest, event.data, whole, event.source)
    return gathering.submissions()


def from_array(events: object, idempotency_key: str | None, limits: Limits, digests: Digests) -> Submissions:
    """Return the events of a raw JSON array, as ``/api/process`` takes it.

    Args:
        events: The decoded body.
        idempotency_key: Of the request; with it an array sent again counts once, as CloudEvents do.
        limits: What an event may be at most.
        digests: Makes the store's.

    Raises:
        RequestRefusedError: The body is no array.
    """
    if not isinstance(events, list):
        raise RequestRefusedError(
            "not_an_array", "the body must be a JSON array of events; for one event, an array of one"
        )
    if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_KEY_CHARACTERS:
        raise RequestRefusedError(
            "bad_idempotency_key", f"Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters"
        )
    limits.check_number(len(events))
    gathering = _Gathering(limits)
    ids: Sequence[str | None] = [None] * len(events)
    names: Sequence[bytes | None] = [None] * len(events)
    if idempotency_key is not None:
        ids = ListIds(idempotency_key, len(events))
        names = digests.of_list(ARRAY_SOURCE, idempotency_key, len(events))
    for position, (event_id, digest, data) in enumerate(zip(ids, names, events, strict=True)):
        gathering.take(event_id, digest, data, data, position=position)
    return gathering.submissions()
