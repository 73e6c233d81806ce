"""The log's format: the events of one write for one shard, packed by column into one byte string.

Format 1, little endian throughout::

    u8   format = 1
    u32  events                      n
    u32  bytes of user_id, event, flyer_id, merchant_id   (four numbers)
    i64  timestamp, microseconds     n of them
    u16  byte length of user_id      n of them; then event, flyer_id, merchant_id likewise; 0xFFFF is null
    ...  UTF-8 of user_id            all joined; then event, flyer_id, merchant_id likewise

By column, since a reader then joins the same column of many entries and has an Arrow buffer, with no object per event
(spark/columns.py). The golden files in tests/core/golden hold this format still.
"""

from __future__ import annotations

import struct
import sys
from array import array
from contextlib import suppress
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Final

from functions.core.event_columns import EventColumns, picked
from functions.core.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT: Final = 1
HEADER: Final = struct.Struct("<BI4I")
NULL_LENGTH: Final = 0xFFFF
TEXT_COLUMNS: Final = ("user_id", "event", "flyer_id", "merchant_id")


def pack_parts(events: EventColumns, parts: Sequence[Sequence[int]]) -> list[bytes]:
    """Return a log entry for each part of these events.

    Each column is put in order, measured and encoded once, and then cut: a shard's part of a write is often a few
    events, and what is done for each part would cost more than what is done for each event.

    Args:
        events: The events.
        parts: The places of each entry's events among them, in the entry's order.

    Raises:
        UnicodeEncodeError: A text has a lone surrogate; `functions.core.events.decode_event` refuses such events.
    """
    order = tuple(chain.from_iterable(parts))
    bounds = tuple(pairwise(accumulate(map(len, parts), initial=0)))
    moments = _little_endian(array("q", picked(events.moments_us, order)))
    (users, user), (names, name), (flyers, flyer), (merchants, merchant) = (
        _pack_texts(picked(texts, order), bounds)
        for texts in (events.user_ids, events.events, events.flyer_ids, events.merchant_ids)
    )
    entries = []
    for (start, end), *texts in zip(bounds, user, name, flyer, merchant, strict=True):
        from_, to = 2 * start, 2 * end
        lengths = users[from_:to], names[from_:to], flyers[from_:to], merchants[from_:to]
        header = HEADER.pack(FORMAT, end - start, *map(len, texts))
        entries.append(b"".join((header, moments[8 * start : 8 * end], *lengths, *texts)))
    return entries


def pack_events(events: Iterable[Event]) -> bytes:
    """Return the log entry that holds these events, in their order."""
    columns = EventColumns.of(events)
    (entry,) = pack_parts(columns, [range(len(columns))])
    return entry


def unpack_events(entry: bytes) -> list[Event]:
    """Return the events of a log entry, as Python objects: for looking at a few, not for folding many.

    Raises:
        ValueError: The entry is of another format, or is damaged.
    """
    count, text_bytes = read_header(entry)
    offset = HEADER.size
    moments = struct.unpack_from(f"<{count}q", entry, offset)
    offset += 8 * count
    lengths = [struct.unpack_from(f"<{count}H", entry, offset + 2 * count * column) for column in range(4)]
    offset += 8 * count
    columns: list[list[str | None]] = []
    for column_lengths, column_bytes in zip(lengths, text_bytes, strict=True):
        if sum(length for length in column_lengths if length != NULL_LENGTH) != column_bytes:
            raise ValueError("damaged log entry: text lengths do not add up")
        texts: list[str | None] = []
        position = offset
        for length in column_lengths:
            if length == NULL_LENGTH:
                texts.append(None)
            else:
                texts.append(entry[position : position + length].decode())
                position += length
        columns.append(texts)
        offset += column_bytes
    return [Event(*row) for row in zip(moments, *columns, strict=True)]


def count_of(entry: bytes) -> int:
    """Return the number of events that a log entry says it has, without checking anything."""
    return int.from_bytes(entry[1:5], "little")


def read_header(entry: bytes) -> tuple[int, tuple[int, int, int, int]]:
    """Return the number of events in a log entry, and the bytes of each of its text columns.

    Raises:
        ValueError: The entry is of another format, or its size is not what its header says.
    """
    if len(entry) < HEADER.size:
        raise ValueError("damaged log entry: shorter than its header")
    version, count, user, event, flyer, merchant = HEADER.unpack_from(entry)
    if version != FORMAT:
        raise ValueError(f"log entry of format {version}; this version reads format {FORMAT}")
    if len(entry) != HEADER.size + 16 * count + user + event + flyer + merchant:
        raise ValueError("damaged log entry: its size is not what its header says")
    return count, (user, event, flyer, merchant)


def _pack_texts(
    texts: Sequence[str | None], bounds: Sequence[tuple[int, int]]
) -> tuple[bytes | bytearray, list[bytes]]:
    """Return the lengths of texts, and the UTF-8 of each part joined."""
    with suppress(TypeError, ValueError):  # a null, or a text of more than 255 characters
        joined = ["".join(texts[start:end]) for start, end in bounds]  # type: ignore[arg-type]  # as said
        short = bytes(map(len, texts))  # type: ignore[arg-type]  # as said
        if all(map(str.isascii, joined)):  # characters are bytes, and nothing is encoded text by text
            wide = bytearray(2 * len(texts))
            wide[::2] = short
            return wide, list(map(str.encode, joined))
    encoded = [b"" if text is None else text.encode() for text in texts]
    lengths = array(
        "H", [NULL_LENGTH if text is None else len(utf8) for text, utf8 in zip(texts, encoded, strict=True)]
    )
    return _little_endian(lengths), [b"".join(encoded[start:end]) for start, end in bounds]


def _little_endian(values: array[int]) -> bytes:
    if sys.byteorder == "big":  # pragma: no cover  # no such machine at hand
        values.byteswap()
    return values.tobytes()
