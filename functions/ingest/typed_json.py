"""JSON of well-formed requests, typed: one step from a body to light rows, which dies at what does not fit. Pure.

functions/ingest/quick_decoding.py goes on from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A character takes four bytes of UTF-8 at most; where the limit is nearer, the strict way counts.
Text = Annotated[str, msgspec.Meta(max_length=256)]
LONGEST_BYTES: Final = 4 * 256
LONGEST_NAME: Final = 256
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_JsonTypes = Literal["application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"]


class Data(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An app event."""

    timestamp: str
    user_id: Text
    event: Text
    flyer_id: Text | None
    merchant_id: Text | None


class OneEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A CloudEvent in a batch."""

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: Name
    data: Data
    datacontenttype: _JsonTypes | None = None
    time: str | None = None
    subject: Name | None = None
    traceparent: Name | None = None
    tracestate: Name | None = None


class OneOrMany(OneEvent, forbid_unknown_fields=True, gc=False):
    """A CloudEvent that came by itself, which may hold a list."""

    data: Data | list[Data]  # type: ignore[assignment]  # wider, and nobody has one for the other


decode_data: Final = msgspec.json.Decoder(Data | list[Data]).decode
decode_array: Final = msgspec.json.Decoder(list[Data]).decode
decode_one: Final = msgspec.json.Decoder(OneOrMany).decode

MOST_TEXTS: Final = 64
"""Of a kind that are kept; where senders have more, those of the kind are decoded as any text."""


class BatchDecoder:
    """Decodes batches of CloudEvents, with the texts that they have in common kept from batch to batch.

    Source, type and the event's name are a few that come again and again. To look one up costs less than to make it, to
    hold it and to drop it for each event.
    """

    def __init__(self) -> None:
        self._known: dict[str, set[str] | None] = {"source": set(), "type": set(), "event": set()}  # None: too many
        self._decode: Callable[[bytes], list[OneEvent]] = msgspec.json.Decoder(list[OneEvent]).decode
        self._decode_known: Callable[[bytes], list[OneEvent]] | None = None

    def decode(self, body: bytes) -> list[OneEvent]:
        """Return the events of a batch.

        Raises:
            DecodeError: Something does not fit.
        """
        if self._decode_known is not None:
            try:
                return self._decode_known(body)
            except msgspec.ValidationError:  # another text than those known, or nothing that fits
                pass
        events = self._decode(body)
        self._learn(events)
        return events

    def _learn(self, events: Sequence[OneEvent]) -> None:
        """Keep the texts of a batch; each time this is called there are new ones, so it is not called often."""
        for name, met in (
            ("source", {event.source for event in events}),
            ("type", {event.type for event in events}),
            ("event", {event.data.event for event in events}),
        ):
            known = self._known[name]
            if known is not None:
                self._known[name] = known | met if len(known | met) <= MOST_TEXTS else None
        data = msgspec.defstruct("Known", self._fields("event"), bases=(Data,))
        whole: Any = msgspec.defstruct(
            "KnownEvent", [*self._fields("source", "type"), ("data", data)], bases=(OneEvent,)
        )
        self._decode_known = msgspec.json.Decoder(list[whole]).decode

    def _fields(self, *names: str) -> list[tuple[str, Any]]:
        return [(name, Literal[*sorted(known)]) for name in names if (known := self._known[name])]
