"""Between the store's packed bytes and columns: many entries and many users at a time, no object per event or span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa

from functions.core import packing, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

EVENT_COLUMNS: Final = ("timestamp_us", *packing.TEXT_COLUMNS)
SPAN_COLUMNS: Final = ("user", "flyer_id", "merchant_id", "first_us", "last_us", "events")

_ROW: Final = np.dtype(
    [("first_us", "<i8"), ("last_us", "<i8"), ("events", "<u4"), ("flyer_bytes", "<u2"), ("merchant_bytes", "<u2")]
)
_NO_SPANS: Final = pl.DataFrame(
    schema={
        "user": pl.UInt32,
        "flyer_id": pl.String,
        "merchant_id": pl.String,
        "first_us": pl.Int64,
        "last_us": pl.Int64,
        "events": pl.Int64,
    }
)
_AVERAGE: Final = np.dtype([("format", "u1"), ("seconds", "<i8"), ("sessions", "<i8")])


def unpack_log(entries: Iterable[bytes]) -> dict[str, pa.Array]:
    """Return the events of many log entries as Arrow arrays: int64 microseconds and four large_string columns.

    Raises:
        ValueError: An entry is damaged or of another format.
    """
    moments: list[memoryview] = []
    lengths: list[list[memoryview]] = [[], [], [], []]
    texts: list[list[memoryview]] = [[], [], [], []]
    for entry in entries:
        count, text_bytes = packing.read_header(entry)
        view = memoryview(entry)
        at = packing.HEADER.size
        moments.append(view[at : at + 8 * count])
        at += 8 * count
        for column in range(4):
            lengths[column].append(view[at : at + 2 * count])
            at += 2 * count
        for column in range(4):
            texts[column].append(view[at : at + text_bytes[column]])
            at += text_bytes[column]
    times = np.frombuffer(b"".join(moments), "<i8")
    columns: dict[str, pa.Array] = {"timestamp_us": pa.array(times)}
    for name, column_lengths, column_texts in zip(packing.TEXT_COLUMNS, lengths, texts, strict=True):
        sizes = np.frombuffer(b"".join(column_lengths), "<u2")
        columns[name] = _strings(sizes, sizes == packing.NULL_LENGTH, b"".join(column_texts))
    return columns


def unpack_spans(values: Sequence[bytes]) -> pl.DataFrame:
    """Return the spans of many users, each user's packed value at its place in ``values``; ``user`` is that place.

    Raises:
        ValueError: A value is damaged or of another format.
    """
    if not values:
        return _NO_SPANS
    joined = np.frombuffer(b"".join(values), "u1")
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    ends = np.cumsum(sizes)
    starts = ends - sizes
    if np.any(sizes < spans.HEADER.size) or np.any(joined[starts] != spans.FORMAT):
        raise ValueError(f"damaged spans, or spans of another format than {spans.FORMAT}")
    counts = np.ascontiguousarray(joined[starts[:, None] + np.arange(1, 5)]).view("<u4").ravel().astype(np.int64)
    total = int(counts.sum())
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    row_starts = np.repeat(starts + spans.HEADER.size, counts) + within * _ROW.itemsize
    texts_start = starts + spans.HEADER.size + counts * _ROW.itemsize
    if np.any(texts_start > ends):
        raise ValueError("damaged spans: fewer rows than the header says")
    rows = np.ascontiguousarray(joined[row_starts[:, None] + np.arange(_ROW.itemsize)]).view(_ROW).ravel()
    marks = np.zeros(len(joined) + 1, np.int8)
    np.add.at(marks, texts_start, 1)
    np.add.at(marks, ends, -1)
    text = joined[np.cumsum(marks[:-1], dtype=np.int8).astype(bool)].tobytes()
    text_sizes = np.column_stack((rows["flyer_bytes"], rows["merchant_bytes"])).ravel()
    if int(text_sizes.sum(dtype=np.int64)) != len(text):
        raise ValueError("damaged spans: text lengths do not add up")
    both = _series("", _strings(text_sizes, None, text))
    return pl.DataFrame(
        {
            "user": np.repeat(np.arange(len(values), dtype=np.uint32), counts),
            "flyer_id": both.gather_every(2),
            "merchant_id": both.gather_every(2, 1),
            "first_us": rows["first_us"].copy(),
            "last_us": rows["last_us"].copy(),
            "events": rows["events"].astype(np.int64),
        }
    )


def pack_spans(frame: pl.DataFrame) -> list[bytes]:
    """Return each user's packed spans, in the order of ``user``; the frame is sorted by SPAN_COLUMNS' first three."""
    flyer, merchant = frame["flyer_id"], frame["merchant_id"]
    rows = np.empty(len(frame), _ROW)
    for name in ("first_us", "last_us", "events"):
        rows[name] = frame[name].to_numpy()
    rows["flyer_bytes"] = flyer.str.len_bytes().to_numpy()
    rows["merchant_bytes"] = merchant.str.len_bytes().to_numpy()
    text = _joined_text(flyer + merchant)
    row_bytes = rows.tobytes()
    row_ends = np.flatnonzero(np.diff(frame["user"].to_numpy(), append=-1)) + 1
    text_ends = np.cumsum(rows["flyer_bytes"].astype(np.int64) + rows["merchant_bytes"])[row_ends - 1]
    values: list[bytes] = []
    row = at = 0
    for row_end, text_end in zip(row_ends.tolist(), text_ends.tolist(), strict=True):
        header = spans.HEADER.pack(spans.FORMAT, row_end - row)
        values.append(header + row_bytes[row * _ROW.itemsize : row_end * _ROW.itemsize] + text[at:text_end])
        row, at = row_end, text_end
    return values


def pack_averages(seconds: pl.Series, sessions: pl.Series) -> list[bytes]:
    """Return the packed averages of many users."""
    rows = np.empty(len(seconds), _AVERAGE)
    rows["format"] = spans.AVERAGE_FORMAT
    rows["seconds"] = seconds.to_numpy()
    rows["sessions"] = sessions.to_numpy()
    packed = rows.tobytes()
    return [packed[at : at + _AVERAGE.itemsize] for at in range(0, len(packed), _AVERAGE.itemsize)]


def hundredths_of_hours(seconds: pl.Series, sessions: pl.Series) -> npt.NDArray[np.float64]:
    """Return what the report shows for many users, in hundredths of an hour, as ``core.spans.average_hours`` has it."""
    exact: npt.NDArray[np.float64] = seconds.to_numpy() / sessions.to_numpy() / 3600 * 100
    below: npt.NDArray[np.float64] = np.floor(exact)
    shown: npt.NDArray[np.float64] = below + (exact - below > 0.5)
    near_half: npt.NDArray[np.bool_] = (np.abs(exact - below - 0.5) < 1e-5) | (exact > 1e7)
    for place in np.flatnonzero(near_half).tolist():
        shown[place] = round(spans.average_hours(seconds[place], sessions[place]) * 100)
    return shown


def events_frame(columns: dict[str, pa.Array]) -> pl.DataFrame:
    """Return Arrow columns as a Polars frame."""
    return pl.DataFrame([_series(name, column) for name, column in columns.items()])


def _strings(sizes: npt.NDArray[np.uint16], null: npt.NDArray[np.bool_] | None, text: bytes) -> pa.Array:
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


def _joined_text(texts: pl.Series) -> bytes:
    """Return the UTF-8 of all texts, joined."""
    array = texts.rechunk().to_arrow()
    if array.type != pa.large_string():
        array = array.cast(pa.large_string())
    _, offsets, text = array.buffers()
    if text is None:
        return b""
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return bytes(memoryview(text)[bounds[0] : bounds[-1]])


def _series(name: str, array: pa.Array) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)  # noqa: S101  # an array becomes a series
    return series.alias(name)
