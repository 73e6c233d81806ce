"""Spans as tables, to be compared: those in the state, and those that the archive's events give.

The latter are computed by other means than the fold's: Arrow's grouping, and one sort of all events of a span. So what
the fold does wrong does not go wrong here too.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from functions.core.events import FLYER_CLOSE, FLYER_EVENTS
from spark import span_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

SPANS: Final = pa.schema(
    [
        ("user", pa.large_binary()),
        ("flyer_id", pa.large_string()),
        ("merchant_id", pa.large_string()),
        *((name, pa.int64()) for name in ("first_us", "last_us", "events")),
        ("kept", pa.int64()),  # 1 where the time from open to close is; else this and the following are 0
        *((name, pa.int64()) for name in ("closed_seconds", "closed_sessions", "unclosed")),
        ("late", pa.int64()),  # events that it leaves out
    ]
)
_SECOND_US: Final = 1_000_000
_MOST_KEYS: Final = 2**62
_FLYER_EVENTS: Final = pa.array(sorted(FLYER_EVENTS))
_TEXTS: Final = {"user": pa.large_binary(), "flyer_id": pa.large_string(), "merchant_id": pa.large_string()}
_ROWS: Final = pa.schema(
    [
        *((name, pa.dictionary(pa.int32(), kind)) for name, kind in _TEXTS.items()),
        *((name, pa.int64()) for name in ("first_us", "last_us", "events")),
        ("is_close", pa.bool_()),
    ]
)


def spans_of(held: Mapping[bytes, bytes]) -> pa.Table:
    """Return packed spans by user as a table.

    Raises:
        ValueError: A value is damaged or of another format.
    """
    spans = span_columns.unpack_spans(list(held.values()))
    closed_seconds, closed_sessions, unclosed = spans.openings.totals()
    names = pa.array(list(held), pa.large_binary())
    columns: list[Any] = [names.take(pa.array(spans.user)), spans.flyer_id, spans.merchant_id]
    columns += [spans.first_us, spans.last_us, spans.events, spans.openings.kept.astype(np.int64)]
    columns += [closed_seconds, closed_sessions, unclosed, spans.openings.late]
    return pa.table(columns, schema=SPANS)


def part_of(user: bytes, parts: int) -> int:
    """Return in which of some parts a user is, whose shard follows from the same CRC-32's lower bits."""
    return zlib.crc32(user) // 65536 % parts


class ArchivedRows:
    """What a shard's archive has of some users: events, and the spans of which history may consist, row by row."""

    def __init__(self, part: int = 0, parts: int = 1) -> None:
        """Take the users of one part of several."""
        self._part, self._parts = part, parts
        self._tables = [_ROWS.empty_table()]

    def add(self, table: pa.Table, *, is_history: bool) -> None:
        """Add rows of a file."""
        rows = _history(table) if is_history else _flyer_events(table)
        user = rows["user"].combine_chunks()
        if self._parts > 1:
            mine = [part_of(name, self._parts) == self._part for name in user.dictionary.to_pylist()]
            rows = rows.filter(pa.array(np.array(mine, np.bool_)[user.indices.to_numpy()]))
        self._tables.append(rows)

    def spans(self, users: Collection[bytes] | None = None) -> pa.Table:
        """Return the spans of all users, or of some, all events in order of time."""
        rows = pa.concat_tables(self._tables).unify_dictionaries().combine_chunks()
        self._tables = [rows]
        if users is not None:
            user = _one(rows["user"])
            some = pc.is_in(user.dictionary, value_set=pa.array(list(users), pa.large_binary()))
            rows = rows.filter(pa.array(some.to_numpy(zero_copy_only=False)[user.indices.to_numpy()]))
        return _spans_of_rows(rows)


def _flyer_events(table: pa.Table) -> pa.Table:
    event, flyer_id = table["event"].cast(pa.string()), table["flyer_id"]
    table = table.filter(pc.and_(pc.is_in(event, value_set=_FLYER_EVENTS), pc.is_valid(flyer_id)))
    moment = table["timestamp"].cast(pa.int64())
    is_close = pc.equal(table["event"].cast(pa.string()), FLYER_CLOSE)
    return _rows(table, moment, moment, pa.repeat(pa.scalar(1, pa.int64()), len(table)), is_close)


def _history(table: pa.Table) -> pa.Table:
    return _rows(table, *(table[name] for name in ("first_us", "last_us", "events", "is_close")))


def _rows(table: pa.Table, *numbers: pa.ChunkedArray) -> pa.Table:
    texts = [table["user_id"], table["flyer_id"], pc.fill_null(table["merchant_id"], "")]
    encoded = [
        text.cast(pa.large_string()).cast(kind).combine_chunks().dictionary_encode()
        for text, kind in zip(texts, _TEXTS.values(), strict=True)
    ]
    return pa.table([*encoded, *numbers], schema=_ROWS)


def _spans_of_rows(rows: pa.Table) -> pa.Table:
    """Return the spans that some rows make, with the time from open to close where each row is one event."""
    if not len(rows):
        return SPANS.empty_table()
    user, flyer, merchant = (_one(rows[name]) for name in _TEXTS)
    moment, is_close = rows["first_us"].to_numpy(), pc.fill_null(rows["is_close"], False).to_numpy()
    key = keys_of(user, flyer, merchant)
    order = np.lexsort((moment * 2 + is_close, key))  # at equal times an open before a close
    key, moment, is_close = key[order], moment[order], is_close[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    closed = is_close & ~np.roll(is_close, 1)
    closed[starts] = False
    second = moment // _SECOND_US
    took = np.where(closed, second - np.roll(second, 1), 0)
    kept = np.minimum.reduceat(rows["is_close"].is_valid().to_numpy()[order].astype(np.int64), starts)
    sessions = np.add.reduceat(closed.astype(np.int64), starts)
    opens = np.add.reduceat((~is_close).astype(np.int64), starts)
    places = pa.array(order[starts])
    columns: list[Any] = [text.take(places).dictionary_decode() for text in (user, flyer, merchant)]
    columns += [
        np.minimum.reduceat(moment, starts),
        np.maximum.reduceat(rows["last_us"].to_numpy()[order], starts),
        np.add.reduceat(rows["events"].to_numpy()[order], starts),
        kept,
        kept * np.add.reduceat(took, starts),
        kept * sessions,
        kept * (opens - sessions),
        np.zeros(len(starts), np.int64),
    ]
    return pa.table(columns, schema=SPANS)


def keys_of(*texts: pa.DictionaryArray) -> Ints:
    """Return a number for each row, the same where all its texts are."""
    key, keys = np.zeros(len(texts[0]), np.int64), 1
    for text in texts:
        if keys * len(text.dictionary) >= _MOST_KEYS:
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            keys = len(key)
        key = key * len(text.dictionary) + text.indices.to_numpy()
        keys *= len(text.dictionary)
    return key


def _one(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return a column as one array: its chunks share a dictionary."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
