"""Many varints at a time: numbers in seven bits a byte, as functions/core/span_packing.py has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_MORE: Final = np.uint8(0x80)
_SEVEN_BITS: Final = np.uint64(0x7F)
_SEVEN: Final = np.uint64(7)
_MOST_BYTES: Final = 10


def encode(numbers: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the numbers' bytes, joined, and how many each takes."""
    sizes = np.ones(len(numbers), np.uint8)
    longer = np.flatnonzero(numbers > _SEVEN_BITS)
    left, further = numbers[longer], []
    while len(longer):
        byte = left.astype(np.uint8) | _MORE
        left >>= _SEVEN
        further.append((longer, byte, left.astype(np.uint8)))
        sizes[longer] = len(further) + 1
        more = np.flatnonzero(left > _SEVEN_BITS)  # by place: half the time that it takes by truth
        longer, left = longer[more], left[more]
    starts = np.cumsum(sizes, dtype=np.int64)
    packed = np.empty(int(starts[-1]) if len(starts) else 0, np.uint8)
    starts -= sizes
    packed[starts] = numbers.astype(np.uint8)
    for place, (some, byte, next_byte) in enumerate(further):
        at = starts[some] + place
        packed[at] = byte
        packed[at + 1] = next_byte  # where more follow, written again
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
