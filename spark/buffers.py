"""Bytes of many values at a time, by their offsets.

Values stand one after the other in one buffer; Arrow cuts it into segments by their offsets and gathers every n-th of
them, which copies memory and looks at nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


class Segments:
    """One buffer in segments, row after row of equally many."""

    def __init__(self, joined: bytes, sizes: Ints) -> None:
        offsets = np.zeros(sizes.size + 1, np.int64)
        np.cumsum(sizes.ravel(), out=offsets[1:])
        self._all = binary(offsets, pa.py_buffer(joined))
        self._width = sizes.shape[1]

    def gathered(self, column: int) -> memoryview:
        """Return one segment of each row, joined."""
        some = self._all.take(pa.array(np.arange(column, len(self._all), self._width)))
        return memoryview(some.buffers()[2] or b"")[: int(offsets(some)[-1])]


def joined(values: Sequence[bytes]) -> tuple[bytes, Ints, Ints]:
    """Return the values in one buffer, with their starts and sizes."""
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    return b"".join(values), np.cumsum(sizes) - sizes, sizes


def headers(joined: bytes, starts: Ints, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the header at each start."""
    places = starts[:, None] + np.arange(dtype.itemsize)
    return np.ascontiguousarray(np.frombuffer(joined, "u1")[places]).view(dtype).ravel()


def strings(sizes: npt.NDArray[Any], null: npt.NDArray[np.bool_] | None, text: memoryview) -> pa.Array:
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


def fixed(rows: npt.NDArray[Any]) -> pa.Array:
    """Return rows of equally many bytes as binary values."""
    return binary(np.arange(len(rows) + 1) * rows.dtype.itemsize, pa.py_buffer(rows))


def binary(offsets: Ints, data: pa.Buffer) -> pa.Array:
    """Return what a buffer holds between each two offsets, as binary values."""
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), data])


def join(*columns: pa.Array) -> pa.Array:
    """Return each row's values joined; the result begins at its buffers' beginning."""
    return pc.binary_join_element_wise(*columns, pa.scalar(b"", pa.large_binary()))


def parts(values: pa.Array, head_bytes: Ints) -> tuple[pa.Array, pa.Array]:
    """Return the first so many bytes of each value, and the rest of each."""
    bounds = offsets(values)
    cuts = np.empty(2 * len(values) + 1, np.int64)
    cuts[::2], cuts[1::2] = bounds, bounds[:-1] + head_bytes
    halves = binary(cuts, values.buffers()[2] or pa.py_buffer(b""))
    places = np.arange(0, 2 * len(values), 2)
    return halves.take(pa.array(places)), halves.take(pa.array(places + 1))


def as_strings(values: pa.Array) -> pa.Array:
    """Return binary values as the UTF-8 that they are, without looking at any of them."""
    return pa.Array.from_buffers(pa.large_string(), len(values), values.buffers(), offset=values.offset)


def offsets(values: pa.Array) -> Ints:
    """Return where in its buffer each value begins, and where the last one ends."""
    offsets: Ints = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    return offsets
