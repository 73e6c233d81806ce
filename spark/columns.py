"""Between the store's packed bytes and columns: many entries and many users at a time, no object per event or span.

Packed values stand one after the other in one buffer; Arrow cuts it into segments by their offsets and gathers every
n-th of them, which copies memory and looks at nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from functions.adapters.redis_shard import PackedPairs
from functions.core import packing, spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

EVENT_COLUMNS: Final = ("timestamp_us", *packing.TEXT_COLUMNS)

_ENTRY: Final = np.dtype([("format", "u1"), ("events", "<u4"), ("text_bytes", "<u4", 4)])
_ENTRY_SEGMENTS: Final = 10
"""Of a log entry: its header, the moments, the lengths of four columns, their texts."""
_VALUE: Final = np.dtype([("format", "u1"), ("spans", "<u4")])
_VALUE_SEGMENTS: Final = 3
"""Of a user's spans: its header, the rows, the texts."""
_ROW: Final = np.dtype(
    [("first_us", "<i8"), ("last_us", "<i8"), ("events", "<u4"), ("flyer_bytes", "<u2"), ("merchant_bytes", "<u2")]
)
_TOTALS: Final = np.dtype(
    [
        ("format", "u1"),
        ("seconds", "<i8"),
        ("sessions", "<u4"),
        ("first_us", "<i8"),
        ("last_us", "<i8"),
        ("closed_seconds", "<i8"),
        ("closed_sessions", "<u4"),
        ("unclosed", "<u4"),
    ]
)
_PAIR_HEADER: Final = np.dtype([("type", "u1"), ("bytes", ">u4")])
_MSGPACK_TEXT: Final = 0xDB


@dataclass(frozen=True, slots=True)
class HeldSpans:
    """The stored spans of many users, row by row; ``user`` is the place of the user's value."""

    user: Ints
    flyer_id: pa.Array
    merchant_id: pa.Array
    first_us: Ints
    last_us: Ints
    events: Ints


@dataclass(frozen=True, slots=True)
class TotalsColumns:
    """The totals of many users, or of many users at merchants, as ``functions.core.spans.Totals`` has them."""

    seconds: Ints
    sessions: Ints
    first_us: Ints
    last_us: Ints

    def take(self, some: npt.NDArray[Any]) -> TotalsColumns:
        """Return some of the rows: by place, or where true."""
        return TotalsColumns(self.seconds[some], self.sessions[some], self.first_us[some], self.last_us[some])

    def differ(self, others: TotalsColumns) -> npt.NDArray[np.bool_]:
        """Tell which rows are not what the others' are."""
        differs: npt.NDArray[np.bool_] = (
            (self.seconds != others.seconds)
            | (self.sessions != others.sessions)
            | (self.first_us != others.first_us)
            | (self.last_us != others.last_us)
        )
        return differs


def unpack_log(entries: Sequence[bytes]) -> dict[str, pa.Array]:
    """Return the events of many log entries as Arrow arrays: int64 microseconds and four large_string columns.

    Raises:
        ValueError: An entry is damaged or of another format.
    """
    joined, starts, sizes = _joined(entries)
    if len(sizes) and sizes.min() < _ENTRY.itemsize:
        raise ValueError("damaged log entry: shorter than its header")
    headers = _headers(joined, starts, _ENTRY)
    events, text_bytes = headers["events"].astype(np.int64), headers["text_bytes"].astype(np.int64)
    damaged = (headers["format"] != packing.FORMAT) | (
        sizes != _ENTRY.itemsize + 16 * events + text_bytes.sum(axis=1, dtype=np.int64)
    )
    if damaged.any():
        packing.read_header(entries[int(np.argmax(damaged))])  # raises, and says what is wrong
    segments = np.empty((len(entries), _ENTRY_SEGMENTS), np.int64)
    segments[:, 0] = _ENTRY.itemsize
    segments[:, 1] = 8 * events
    segments[:, 2:6] = 2 * events[:, None]
    segments[:, 6:] = text_bytes
    cut = _Segments(joined, segments)
    columns: dict[str, pa.Array] = {"timestamp_us": pa.array(np.frombuffer(cut.gathered(1), "<i8"))}
    for number, name in enumerate(packing.TEXT_COLUMNS):
        lengths = np.frombuffer(cut.gathered(2 + number), "<u2")
        columns[name] = _strings(lengths, lengths == packing.NULL_LENGTH, cut.gathered(6 + number))
    return columns


def unpack_spans(values: Sequence[bytes]) -> HeldSpans:
    """Return the spans of many users.

    Raises:
        ValueError: A value is damaged or of another format.
    """
    joined, starts, sizes = _joined(values)
    if len(sizes) and sizes.min() < _VALUE.itemsize:
        raise ValueError("damaged spans: shorter than their header")
    headers = _headers(joined, starts, _VALUE)
    if np.any(headers["format"] != spans.FORMAT):
        raise ValueError(f"damaged spans, or spans of another format than {spans.FORMAT}")
    counts = headers["spans"].astype(np.int64)
    segments = np.empty((len(values), _VALUE_SEGMENTS), np.int64)
    segments[:, 0] = _VALUE.itemsize
    segments[:, 1] = counts * _ROW.itemsize
    segments[:, 2] = sizes - segments[:, 0] - segments[:, 1]
    if len(sizes) and segments[:, 2].min() < 0:
        raise ValueError("damaged spans: fewer rows than the header says")
    cut = _Segments(joined, segments)
    rows = np.frombuffer(cut.gathered(1), _ROW)
    user = np.repeat(np.arange(len(values)), counts)
    text_sizes = np.column_stack((rows["flyer_bytes"], rows["merchant_bytes"])).ravel()
    by_user = np.bincount(user, rows["flyer_bytes"].astype(np.int64) + rows["merchant_bytes"], len(values))
    if np.any(by_user != segments[:, 2]):
        raise ValueError("damaged spans: text lengths do not add up")
    texts = _strings(text_sizes, None, cut.gathered(2))
    return HeldSpans(
        user=user,
        flyer_id=texts.take(pa.array(np.arange(0, len(texts), 2))),
        merchant_id=texts.take(pa.array(np.arange(1, len(texts), 2))),
        first_us=rows["first_us"].astype(np.int64),
        last_us=rows["last_us"].astype(np.int64),
        events=rows["events"].astype(np.int64),
    )


def pack_spans(held: HeldSpans) -> pa.Array:
    """Return each user's packed spans, in the order of ``user``; rows are in the order of (user, flyer, merchant)."""
    rows = np.empty(len(held.user), _ROW)
    for name in ("first_us", "last_us", "events"):
        rows[name] = getattr(held, name)
    rows["flyer_bytes"] = pc.binary_length(held.flyer_id).to_numpy(zero_copy_only=False)
    rows["merchant_bytes"] = pc.binary_length(held.merchant_id).to_numpy(zero_copy_only=False)
    row_bounds = np.append(np.flatnonzero(np.diff(held.user, prepend=-1)), len(held.user))
    texts = _join(_as_binary(held.flyer_id), _as_binary(held.merchant_id))
    text_offsets = _offsets(texts)[row_bounds]
    headers = np.empty(len(row_bounds) - 1, _VALUE)
    headers["format"] = spans.FORMAT
    headers["spans"] = np.diff(row_bounds)
    return _join(
        _fixed(headers),
        _binary(row_bounds * _ROW.itemsize, pa.py_buffer(rows)),
        _binary(text_offsets, texts.buffers()[2] or pa.py_buffer(b"")),
    )


def pack_totals(totals: TotalsColumns) -> pa.Array:
    """Return the packed totals of many users, or of many users at merchants."""
    rows = np.empty(len(totals.seconds), _TOTALS)
    rows["format"] = spans.TOTALS_FORMAT
    for name in ("seconds", "sessions", "first_us", "last_us"):
        rows[name] = getattr(totals, name)
    rows["closed_seconds"] = 0
    rows["closed_sessions"] = rows["unclosed"] = spans.NOT_KEPT
    return _fixed(rows)


def pack_pairs(names: pa.Array, values: pa.Array, bounds: Sequence[int] | None = None) -> list[PackedPairs]:
    """Return names and values as the commit takes them: one pack for the rows between each two of the bounds."""
    joined = _join(_lengths(names), names, _lengths(values), values)
    bounds = [0, len(joined)] if bounds is None else bounds
    at = _offsets(joined)[list(bounds)].tolist()
    body = memoryview(joined.buffers()[2] or b"")
    return [
        PackedPairs(end - start, bytes(body[at[number] : at[number + 1]]))
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
    ]


class _Segments:
    """One buffer in segments, row after row of equally many."""

    def __init__(self, joined: bytes, sizes: Ints) -> None:
        offsets = np.zeros(sizes.size + 1, np.int64)
        np.cumsum(sizes.ravel(), out=offsets[1:])
        self._all = _binary(offsets, pa.py_buffer(joined))
        self._width = sizes.shape[1]

    def gathered(self, column: int) -> memoryview:
        """Return one segment of each row, joined."""
        some = self._all.take(pa.array(np.arange(column, len(self._all), self._width)))
        return memoryview(some.buffers()[2] or b"")[: int(_offsets(some)[-1])]


def _joined(values: Sequence[bytes]) -> tuple[bytes, Ints, Ints]:
    """Return the values in one buffer, with their starts and sizes."""
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    return b"".join(values), np.cumsum(sizes) - sizes, sizes


def _headers(joined: bytes, starts: Ints, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    places = starts[:, None] + np.arange(dtype.itemsize)
    return np.ascontiguousarray(np.frombuffer(joined, "u1")[places]).view(dtype).ravel()


def _strings(sizes: npt.NDArray[np.uint16], null: npt.NDArray[np.bool_] | None, text: memoryview) -> pa.Array:
    """Return texts that stand joined in one buffer as an Arrow array, without looking at any of them."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    validity = None
    if null is not None and null.any():
        sizes = np.where(null, np.uint16(0), sizes)
        validity = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    np.cumsum(sizes, dtype=np.int64, out=offsets[1:])
    if offsets[-1] != len(text):
        raise ValueError("damaged log entry: text lengths do not add up")
    return pa.Array.from_buffers(pa.large_string(), len(sizes), [validity, pa.py_buffer(offsets), pa.py_buffer(text)])


def _lengths(values: pa.Array) -> pa.Array:
    """Return what goes before each value in MessagePack: that a text of so many bytes follows."""
    headers = np.empty(len(values), _PAIR_HEADER)
    headers["type"] = _MSGPACK_TEXT
    headers["bytes"] = np.diff(_offsets(values))
    return _fixed(headers)


def _fixed(rows: npt.NDArray[Any]) -> pa.Array:
    """Return rows of equally many bytes as binary values."""
    return _binary(np.arange(len(rows) + 1) * rows.dtype.itemsize, pa.py_buffer(rows))


def _binary(offsets: Ints, data: pa.Buffer) -> pa.Array:
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), data])


def _join(*columns: pa.Array) -> pa.Array:
    """Return each row's values joined; the result begins at its buffers' beginning."""
    return pc.binary_join_element_wise(*columns, pa.scalar(b"", pa.large_binary()))


def _as_binary(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.large_binary())


def _offsets(values: pa.Array) -> Ints:
    offsets: Ints = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    return offsets
