"""From a request to events: what was sent, decoded or refused, and the digest that tells a repeat. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from functions.adapters.cloud_events import Received, Refused
from functions.core.errors import RequestRefusedError
from functions.core.events import Event, decode_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.core.errors import Fault

DIGEST_BYTES: Final = 12
"""96 bits: among a thousand million ids in a window, the chance that any two collide is below 10^-11."""


class Submission(NamedTuple):
    """One event as sent."""

    id: str | None
    """What the sender calls it; None where it has no name."""
    digest: bytes | None
    """Of (source, id); None where repeats cannot be told."""
    event: Event | None
    """None where it was refused."""
    faults: tuple[Fault, ...] = ()


def from_cloud_events(received: Iterable[Received | Refused]) -> list[Submission]:
    """Return the app events of CloudEvents; one whose data is a list holds many, each named ``id#position``."""
    submissions: list[Submission] = []
    for event in received:
        if isinstance(event, Refused):
            submissions.append(Submission(event.id, None, None, event.faults))
        elif isinstance(event.data, list):
            submissions += (
                _submission(f"{event.id}#{position}", digest_of(event.source, event.id, position), data)
                for position, data in enumerate(event.data)
            )
        else:
            submissions.append(_submission(event.id, digest_of(event.source, event.id), event.data))
    return submissions


def from_array(events: object, idempotency_key: str | None) -> list[Submission]:
    """Return the events of a raw JSON array, as ``/api/process`` takes it.

    Args:
        events: The decoded body.
        idempotency_key: Of the request; with it an array sent again counts once, as CloudEvents do.

    Raises:
        RequestRefusedError: The body is no array.
    """
    if not isinstance(events, list):
        raise RequestRefusedError(
            "not_an_array", "the body must be a JSON array of events; for one event, an array of one"
        )
    if idempotency_key is None:
        return [_submission(None, None, data) for data in events]
    return [
        _submission(f"{idempotency_key}#{position}", digest_of("idempotency-key", idempotency_key, position), data)
        for position, data in enumerate(events)
    ]


def digest_of(source: str, event_id: str, position: int | None = None) -> bytes:
    """Return the digest of an event's name; the length before the source keeps apart what the joined texts do not."""
    name = f"{len(source)}:{source}{event_id}" if position is None else f"{len(source)}:{source}{event_id}\n{position}"
    return hashlib.blake2b(name.encode(), digest_size=DIGEST_BYTES).digest()


def repeats_within(submissions: Sequence[Submission]) -> dict[int, int]:
    """Return the places of events that repeat an earlier one of the same request, each with that one's place."""
    first: dict[bytes, int] = {}
    repeats: dict[int, int] = {}
    for place, submission in enumerate(submissions):
        if submission.event is not None and submission.digest is not None:
            earlier = first.setdefault(submission.digest, place)
            if earlier != place:
                repeats[place] = earlier
    return repeats


def _submission(event_id: str | None, digest: bytes | None, data: object) -> Submission:
    decoded = decode_event(data)
    if isinstance(decoded, Event):
        return Submission(event_id, digest, decoded)
    return Submission(event_id, None, None, decoded)
