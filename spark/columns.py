"""Between the store's packed bytes and columns: log entries, totals, and what a commit takes; no object per event.

A user's spans are a subject of their own (spark/span_columns.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from functions.adapters.redis_arguments import PackedArguments
from functions.core import packing, spans
from spark import buffers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

EVENT_COLUMNS: Final = ("timestamp_us", *packing.TEXT_COLUMNS)

_ENTRY: Final = np.dtype([("format", "u1"), ("events", "<u4"), ("text_bytes", "<u4", 4)])
_ENTRY_SEGMENTS: Final = 10
"""Of a log entry: its header, the moments, the lengths of four columns, their texts."""
_TOTALS: Final = np.dtype(
    [
        ("format", "u1"),
        ("hundredths", "<u4"),
        ("seconds", "<i8"),
        ("sessions", "<u4"),
        ("first_us", "<i8"),
        ("last_us", "<i8"),
        ("closed_seconds", "<i8"),
        ("closed_sessions", "<u4"),
        ("unclosed", "<u4"),
    ]
)


@dataclass(frozen=True, slots=True)
class TotalsColumns:
    """The totals of many users, or of many users at merchants, as ``functions.core.spans.Totals`` has them."""

    seconds: Ints
    sessions: Ints
    first_us: Ints
    last_us: Ints
    closed_seconds: Ints
    closed_sessions: Ints
    """This and the next are ``NOT_KEPT`` where they are not."""
    unclosed: Ints

    def take(self, some: npt.NDArray[Any]) -> TotalsColumns:
        """Return some of the rows: by place, or where true."""
        return TotalsColumns(*(getattr(self, name)[some] for name in self.__slots__))

    def differ(self, others: TotalsColumns) -> npt.NDArray[np.bool_]:
        """Tell which rows are not what the others' are."""
        differs = np.zeros(len(self.seconds), np.bool_)
        for name in self.__slots__:
            differs |= getattr(self, name) != getattr(others, name)
        return differs


def unpack_log(entries: Sequence[bytes]) -> dict[str, pa.Array]:
    """Return the events of many log entries as Arrow arrays: int64 microseconds and four large_string columns.

    Raises:
        ValueError: An entry is damaged or of another format.
    """
    joined, starts, sizes = buffers.joined(entries)
    if len(sizes) and sizes.min() < _ENTRY.itemsize:
        raise ValueError("damaged log entry: shorter than its header")
    headers = buffers.headers(joined, starts, _ENTRY)
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
    cut = buffers.Segments(joined, segments)
    columns: dict[str, pa.Array] = {"timestamp_us": pa.array(np.frombuffer(cut.gathered(1), "<i8"))}
    for number, name in enumerate(packing.TEXT_COLUMNS):
        lengths = np.frombuffer(cut.gathered(2 + number), "<u2")
        columns[name] = buffers.strings(lengths, lengths == packing.NULL_LENGTH, cut.gathered(6 + number))
    return columns


def pack_totals(totals: TotalsColumns) -> pa.Array:
    """Return the packed totals of many users, or of many users at merchants."""
    rows = np.empty(len(totals.seconds), _TOTALS)
    rows["format"] = spans.TOTALS_FORMAT
    rows["hundredths"] = hundredths_of(totals.seconds, totals.sessions)
    for name in totals.__slots__:
        rows[name] = getattr(totals, name)
    return buffers.fixed(rows)


def hundredths_of(seconds: Ints, sessions: Ints) -> Ints:
    """Return averages in hundredths of an hour as ``functions.core.spans.stored_hundredths`` does.

    In whole numbers but where a half is met. There the average as a double decides, whose shortest text is rounded: it
    is the half's own double, whose text is the half, or one beside it, whose text is on the same side.
    """
    units = 36 * np.maximum(sessions, 1)
    hundredths, beyond = np.divmod(seconds + 18 * sessions, units)
    met = np.flatnonzero(beyond == 0)
    below = seconds[met] / np.maximum(sessions[met], 1) / 3600 < (2 * hundredths[met] - 1) / 200
    hundredths[met] -= below
    hundredths[(seconds < 0) | (seconds >= spans.EXACT_SECONDS) | (hundredths > spans.COMPUTED)] = spans.COMPUTED
    hundredths[sessions == 0] = spans.NO_SESSION
    return hundredths


def unpack_totals(values: Sequence[bytes]) -> TotalsColumns:
    """Return the totals in packed values, all of this version's format."""
    rows = np.frombuffer(b"".join(values), _TOTALS)
    return TotalsColumns(*(rows[name].astype(np.int64) for name in TotalsColumns.__slots__))


def hundredths_in(values: Sequence[bytes]) -> Ints:
    """Return the hundredths of an hour in packed values, all of this version's format."""
    return np.frombuffer(b"".join(values), _TOTALS)["hundredths"].astype(np.int64)


def pack_arguments(*columns: pa.Array) -> pa.Array:
    """Return each row's values as arguments of a command, one after the other; `pack_pairs` takes what is needed."""
    sizes = [np.diff(buffers.offsets(column)) for column in columns]
    if len(columns[0]) and all(some[0] and (some == some[0]).all() for some in sizes):
        return _pack_alike(columns, [int(some[0]) for some in sizes])
    parts = [part for column, some in zip(columns, sizes, strict=True) for part in (_lengths(some), column)]
    return pc.binary_join_element_wise(*parts, _NO_TEXT, _LINE_END)


def _pack_alike(columns: Sequence[pa.Array], sizes: Sequence[int]) -> pa.Array:
    """Return the same where each column's values are of one size, and so the rows are: a fifth of the work."""
    heads = [b"%b\r\n" % _head(size) for size in sizes]
    fields = [
        (f"{name}{number}", f"V{some}")
        for number, (head, size) in enumerate(zip(heads, sizes, strict=True))
        for name, some in (("head", len(head)), ("text", size), ("end", 2))
    ]
    blank = b"".join(head + bytes(size) + b"\r\n" for head, size in zip(heads, sizes, strict=True))
    rows = np.full(len(columns[0]), np.frombuffer(blank, fields), fields)
    for number, (column, size) in enumerate(zip(columns, sizes, strict=True)):
        start = int(buffers.offsets(column)[0])
        rows[f"text{number}"] = np.frombuffer(column.buffers()[2], f"V{size}", len(column), start)
    return buffers.fixed(rows)


def pack_pairs(names: pa.Array, values: pa.Array, bounds: Sequence[int] | None = None) -> list[PackedArguments]:
    """Return names and values as the commit takes them: one pack for the rows between each two of the bounds."""
    return _packs([names, values], [0, len(names)] if bounds is None else bounds)


def pack_names(names: pa.Array, most: int) -> list[PackedArguments]:
    """Return names as the store is asked for them, at most so many in a pack."""
    return _packs([names], [*range(0, len(names), most), len(names)])


def _packs(columns: Sequence[pa.Array], bounds: Sequence[int]) -> list[PackedArguments]:
    packed = pack_arguments(*columns)
    at = buffers.offsets(packed)[list(bounds)].tolist()
    body = memoryview(packed.buffers()[2] or b"")
    return [
        PackedArguments(len(columns) * (end - start), body[at[number] : at[number + 1]])
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
    ]


_NO_TEXT: Final = pa.scalar(b"", pa.large_binary())
_LINE_END: Final = pa.scalar(b"\r\n", pa.large_binary())


def _lengths(sizes: Ints) -> pa.Array:
    """Return what goes before each value in the store's protocol."""
    lengths = pa.array(sizes).dictionary_encode()
    return pa.array(list(map(_head, lengths.dictionary.to_pylist())), pa.large_binary()).take(lengths.indices)


def _head(size: int) -> bytes:
    """Return what says that a text of so many bytes follows; a line ends after it."""
    return b"$%d" % size
