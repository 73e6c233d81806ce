"""Many varints at a time: numbers in seven bits a byte, as functions/core/span_packing.py has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_MORE: Final = np.uint8(0x80)
_SEVEN_BITS: Final = np.uint64(0x7F)
_MOST_BYTES: Final = 10
_FIRST_OF_SIZE: Final = np.array([1 << 7 * size for size in range(1, _MOST_BYTES)], np.uint64)


def encode(numbers: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the numbers' bytes, joined, and how many each takes."""
    sizes = np.ones(len(numbers), np.int64)
    for first in _FIRST_OF_SIZE[: int(np.searchsorted(_FIRST_OF_SIZE, numbers.max(initial=0), "right"))]:
        sizes += numbers >= first
    ends = np.cumsum(sizes)
    packed = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    at, left = ends - sizes, numbers
    while len(left):
        longer = left > _SEVEN_BITS
        packed[at] = (left & _SEVEN_BITS).astype(np.uint8) | longer * _MORE
        some = np.flatnonzero(longer)
        at, left = at[some] + 1, left[some] >> np.uint64(7)
    return packed, sizes


def decode(packed: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the numbers in joined bytes, and where each one ends, behind its last byte.

    Raises:
        ValueError: The last one is cut short, or one has too many bytes.
    """
    ends = np.flatnonzero(packed < _MORE) + 1
    if len(packed) and (not len(ends) or ends[-1] != len(packed)):
        raise ValueError("damaged spans: a number is cut short")
    starts = np.concatenate((np.zeros(min(1, len(ends)), np.int64), ends[:-1]))
    sizes = ends - starts
    if len(sizes) and sizes.max() > _MOST_BYTES:
        raise ValueError("damaged spans: a number of too many bytes")
    numbers = (packed[starts] & np.uint8(0x7F)).astype(np.uint64)
    some = np.arange(len(starts))
    for place in range(1, _MOST_BYTES):
        some = some[sizes[some] > place]
        if not len(some):
            break
        byte = (packed[starts[some] + place] & np.uint8(0x7F)).astype(np.uint64)
        numbers[some] |= byte << np.uint64(7 * place)
    return numbers, ends
