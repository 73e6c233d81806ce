"""Rejected events as they are kept: the record of one, and what can be asked of it. Pure.

A record is JSON, format 1. Credentials are taken out before it is one: see functions/core/credentials.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.core.credentials import hide_in_identifier, hide_in_json
from functions.core.errors import Fault  # noqa: TC001  # msgspec reads the types of Record
from functions.core.events import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT: Final = 1
DIGEST_BYTES: Final = 12


class Record(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A rejected event."""

    format: int
    faults: tuple[Fault, ...]
    """All that was wrong with it."""
    received: Any
    """The event as it came, without credentials: a CloudEvent in its JSON format, or an item of a raw array."""
    event_id: str | None = None
    """What the sender was told that it is called; of a list's item ``id#position``. None where it has no name."""
    source: str | None = None
    """Of the CloudEvent; None where it has none, as items of a raw array."""
    position: int | None = None
    """In the list that it came in as a part of; None where it came by itself."""
    key: str | None = None
    """Name of the write key that it came with; None where none was asked for."""
    raw: bool = False
    """Whether it is an item of a raw array, and no CloudEvent."""
    changed: bool = False
    """Whether some credential was taken out."""


def new_record(
    faults: Sequence[Fault],
    received: object,
    *,
    event_id: str | None = None,
    source: str | None = None,
    position: int | None = None,
    key: str | None = None,
    raw: bool = False,
    token: str | None = None,
) -> Record:
    """Return the record of an event that was just rejected.

    Args:
        faults: All that was wrong with it.
        received: The event as it came.
        event_id: What the sender was told that it is called.
        source: Of the CloudEvent.
        position: In the list that it came in.
        key: Name of the write key that it came with.
        raw: Whether it is an item of a raw array.
        token: That key itself, which is taken out wherever it stands.

    Raises:
        RecursionError: It is nested too deeply to be kept.
    """
    shown = hide_in_json(received, token)
    id_shown = event_id and hide_in_identifier(event_id, token)
    source_shown = source and hide_in_identifier(source, token)
    told = tuple(replace(each, pointer=hide_in_identifier(each.pointer, token)) for each in faults)
    changed = (shown, id_shown, source_shown) != (received, event_id, source)
    return Record(FORMAT, told, shown, id_shown, source_shown, position, key, raw, changed)


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Record).decode


def packed(record: Record) -> bytes:
    """Return a record as it is stored.

    Raises:
        ValueError: It cannot be: nested too deeply, or with a number that nobody can write down.
    """
    try:
        return _encode(record)
    except (msgspec.MsgspecError, OverflowError, RecursionError) as e:
        raise ValueError(f"the event cannot be kept: {type(e).__name__}") from None


def unpacked(value: bytes) -> Record:
    """Return a stored record.

    Raises:
        ValueError: It is none of this format.
    """
    record = _decode(value)
    if record.format != FORMAT:
        raise ValueError(f"a record of format {record.format}; this version of flyertime reads {FORMAT}")
    return record


def digest_of(record: Record) -> bytes:
    """Return what tells an event that came before: itself and its name, not when or with what words it failed."""
    named = (record.received, record.event_id, record.source, record.position, record.raw)
    return hashlib.blake2b(_encode(named), digest_size=DIGEST_BYTES).digest()


def group_of(record: Record) -> str:
    """Return whose share of the quarantine an event takes: its key's, or, where there are none, that of its fault.

    So neither an app nor a mistake of an app that is on many devices, each with a source of its own, fills all of it.
    """
    if record.key is not None:
        return f"key:{record.key}"
    fault = record.faults[0]
    return f"fault:{fault.code}:{fault.pointer if fault.pointer in _PLACES else ''}"


_PLACES: Final = frozenset([*(f"/{name}" for name in FIELDS), "/data", "/ce-id", "/ce-source", "/ce-type", "/ce-time"])
"""Where most mistakes are; names that senders make up tell no two mistakes apart."""


def mentions(event: object, user_id: str) -> bool:
    """Tell whether an event names a user: as some text or number in it, as a name of a field, or inside a longer text.

    Within texts the id must stand apart from letters and digits around it. Rather one event too many than one too few.
    """
    pattern = re.compile(rf"(?<![^\W_]){re.escape(user_id)}(?![^\W_])")
    return any(
        text == user_id or (user_id and not _is_moment(text) and pattern.search(text)) for text in _texts_of(event)
    )


def _texts_of(value: object) -> Iterator[str]:
    """Yield every text and number in decoded JSON, names of fields too, and what is packed in base64."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name == "data_base64" and isinstance(inner, str):
                yield from _packed_texts(inner)
            yield from _texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_of(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _packed_texts(encoded: str) -> Iterator[str]:
    try:
        data = base64.b64decode(encoded)
    except (ValueError, binascii.Error):
        return
    try:
        yield from _texts_of(msgspec.json.decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        yield data.decode("utf-8", "replace")


_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ][\d:.Zz+-]*")


def _is_moment(text: str) -> bool:
    """Tell whether a text is a timestamp, which names nobody, whatever numbers are in it."""
    return _MOMENT.fullmatch(text) is not None
