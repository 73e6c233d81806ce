"""Many users' packed totals in Arrow's columns: put in order, rounded and written as text without an object a user.

What functions/core/report_rows.py and report_texts.py do in Python, for the columns that most ask for, at a fraction
of the time where there are many users. Imported only then: it takes 0.1 s and 40 MB. Arrow's kernels let go of Python's
lock, so other requests are served meanwhile where this runs in a thread of its own.
"""

from __future__ import annotations

import sys
from array import array
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from functions.adapters import arrow_kernels as kernels
from functions.adapters.redis_regular import Regular
from functions.core.report_rows import is_current
from functions.core.report_summary import Summary
from functions.core.report_texts import around_hours
from functions.core.spans import COMPUTED, NO_SESSION, NOT_KEPT, TOTALS, TOTALS_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.adapters.redis_report import Averages
    from functions.core.report_texts import TextEncoder

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own holds on to tens of megabytes that the rest could use

_HUNDREDTHS: Final = (1, 5, pa.uint32())
_SECONDS: Final = (5, 13, pa.int64())
_SESSIONS: Final = (13, 17, pa.uint32())
_CLOSED_SESSIONS: Final = (41, 45, pa.uint32())
_UNCLOSED: Final = (45, 49, pa.uint32())
"""Where they stand in packed totals; see functions/core/spans.py."""

_MOST_SECONDS: Final = 2**60
"""With more, sums might not fit into 64 bits."""


def _array_of(texts: Sequence[bytes]) -> Any:
    """Return texts as an array.

    By its buffers, since `pa.array` and `pa.scalar` import Pandas where it is installed, to see what they are given.
    """
    offsets = pa.py_buffer(array("i", [0, *accumulate(map(len, texts))]))
    return pa.Array.from_buffers(pa.binary(), len(texts), [None, offsets, pa.py_buffer(b"".join(texts))])


def _numbers_of(numbers: Sequence[int]) -> Any:
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(array("q", numbers))])


_KEY_BYTES: Final = 8
_DIGIT_BITS: Final = 11
"""Of a key, that are sorted by at a time: Arrow counts where numbers are below 4,096."""
_CHECKED_ROWS: Final = 8_192
"""Ids that are looked at together, how they are written: a copy of all would be as much memory again."""
_FEW_KEYS: Final = 16_384
"""So many at most are put in order by comparing; of more, digits take less time."""
_FEW_ALIKE: Final = 16
"""Where more than one of so many ids are alike in their keys, all are put in order by the whole."""

_NOTHING: Final = _array_of([b""])[0]
_UNKNOWN = _numbers_of([NOT_KEPT])[0]


class Shape(NamedTuple):
    """What is to be known of packed rows to unpack them."""

    rows: int
    id_bytes: int
    """Of each id; 0: they differ in length."""
    plain: dict[str, bool]
    """Whether ids are written as they are, by the encoders that have been asked."""


class SortedRows:
    """Users and their averages, in the order of the ids' bytes."""

    def __init__(self, ids: Any, places: Any, hundredths: Sequence[int], plain: dict[str, bool] | None = None) -> None:
        """Take ids in their order, and for each the place of its average among all different ones."""
        self._ids = ids
        self._places = places
        self._hundredths = hundredths
        self._plain = {} if plain is None else plain
        self._after: Any = None
        """What stands between an id and the next, by the averages' places; None: ids are not written as they are."""
        self._before: bytes | None = None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size_bytes(self) -> int:
        """The memory that they take."""
        return int(self._ids.nbytes + self._places.nbytes) + 8 * len(self._hundredths)

    def text(self, encoder: TextEncoder, start: int, rows: int, lead: bytes = b"") -> bytes:
        """Return what the encoder, always the same one, makes of some rows' ids and averages, behind a lead.

        There are some, and the end is as if none came behind them.
        """
        if self._before is None:
            self._prepare(encoder)
        ids, places = self._ids.slice(start, rows), self._places.slice(start, rows)
        if self._after is None:
            return lead + encoder.text([ids.to_pylist(), [*map(self._hundredths.__getitem__, places.to_pylist())]])
        joined = kernels.joined(_of_any_length(ids), kernels.take(self._after, places), _NOTHING)
        before = encoder.around[0]
        return b"".join((lead, before, _text_of(joined, len(encoder.separator) + len(before))))

    def packed(self, pack: Callable[[bytes | memoryview], bytes]) -> tuple[Shape, list[bytes]]:
        """Return the rows in little memory, of which `unpacked` makes them again."""
        id_bytes, ends = 0, b""
        if pa.types.is_fixed_size_binary(self._ids.type):
            id_bytes = self._ids.type.byte_width
        else:
            ends = pack(self._ids.buffers()[1].slice(0, 4 * (len(self) + 1)).to_pybytes())
        places = self._places.buffers()[1].slice(0, len(self) * self._places.type.bit_width // 8).to_pybytes()
        pieces = [pack(_text_of(self._ids)), ends, places, array("q", self._hundredths).tobytes()]
        return Shape(len(self), id_bytes, self._plain), pieces

    def _prepare(self, encoder: TextEncoder) -> None:
        """Find out whether ids are written as they are, and what then stands between them."""
        self._before, between, last = encoder.around
        name = type(encoder).__name__
        if name not in self._plain:
            parts = [self._ids.slice(start, _CHECKED_ROWS) for start in range(0, len(self), _CHECKED_ROWS)]
            self._plain[name] = all(encoder.writes_as_they_are(*_joined(part), len(part)) for part in parts)
        if self._plain[name]:
            texts = around_hours(between, last + encoder.separator + self._before)
            self._after = _array_of([*map(texts.__getitem__, self._hundredths)])


def unpacked(shape: Shape, pieces: Sequence[bytes], unpack: Callable[[bytes], bytes]) -> SortedRows:
    """Return the rows that were packed."""
    text, ends, places, averages = pieces
    buffer = pa.py_buffer(unpack(text))
    if shape.id_bytes:
        ids = pa.FixedSizeBinaryArray.from_buffers(pa.binary(shape.id_bytes), shape.rows, [None, buffer])
    else:
        ids = pa.Array.from_buffers(pa.binary(), shape.rows, [None, pa.py_buffer(unpack(ends)), buffer])
    hundredths = array("q", averages)
    numbers = pa.Array.from_buffers(_place_type(len(hundredths)), shape.rows, [None, pa.py_buffer(places)])
    return SortedRows(ids, numbers, hundredths, shape.plain)


def _place_type(count: int) -> Any:
    return pa.uint16() if count <= 1 << 16 else pa.uint32()


def order_of(ids: Any) -> Any:
    """Return the places of ids in the order of their bytes.

    Where all have the same length mostly by eight bytes as a number, which takes a third of the time: the first ones in
    which they differ. Who is alike in these is put in order by the whole.
    """
    length = ids.type.byte_width if pa.types.is_fixed_size_binary(ids.type) else 0
    if length < _KEY_BYTES or len(ids) < 2:
        return kernels.places_in_order(ids)
    start = 0
    keys = _keys_of(ids, start)
    least, most = _bytes_of_bounds(keys)
    if least[0] == most[0]:
        if least == most:
            least, most = kernels.bounds(ids)
        alike_bytes = next((n for n, (a, b) in enumerate(zip(least, most, strict=True)) if a != b), 0)
        start = min(alike_bytes, length - _KEY_BYTES)
        keys = _keys_of(ids, start)
    order = kernels.places_in_order(keys) if len(ids) <= _FEW_KEYS else _by_digits(keys)
    if start + _KEY_BYTES == length:
        return order
    in_order = kernels.take(keys, order)
    alike = kernels.places_of_true(kernels.equal(in_order.slice(1), in_order.slice(0, len(ids) - 1)))
    if not alike:
        return order
    if len(alike) > len(ids) // _FEW_ALIKE:
        return kernels.places_in_order(ids)
    places = array("Q", order.buffers()[1].slice(8 * order.offset, 8 * len(order)).to_pybytes())
    begin = alike[0]
    for one, following in pairwise((*alike, -1)):
        if following != one + 1:
            places[begin : one + 2] = array("Q", sorted(places[begin : one + 2], key=lambda place: ids[place].as_py()))
            begin = following
    return pa.Array.from_buffers(pa.uint64(), len(ids), [None, pa.py_buffer(places)])


def _keys_of(ids: Any, start: int) -> Any:
    """Return eight bytes of each id as a number, which come in the same order."""
    numbers = array("Q", bytes(_text_of(kernels.binary_slice(ids, start, start + _KEY_BYTES))))
    if sys.byteorder == "little":
        numbers.byteswap()
    return pa.Array.from_buffers(pa.uint64(), len(ids), [None, pa.py_buffer(numbers)])


def _bytes_of_bounds(keys: Any) -> tuple[bytes, bytes]:
    """Return the least and the largest of some keys as the bytes that they are."""
    least, most = kernels.bounds(keys)
    return least.to_bytes(_KEY_BYTES, "big"), most.to_bytes(_KEY_BYTES, "big")


def _by_digits(keys: Any) -> Any:
    """Return the places of numbers in their order, digit by digit from the last one: these are sorted by counting."""
    order = None
    for bits in range(0, 64, _DIGIT_BITS):
        in_order = keys if order is None else kernels.take(keys, order)
        digits = kernels.bit_wise_and(
            kernels.shift_right(in_order, _number_of(bits)), _number_of((1 << _DIGIT_BITS) - 1)
        )
        places = kernels.places_in_order(digits)  # stable
        order = places if order is None else kernels.take(order, places)
    return order


@lru_cache(16)
def _number_of(number: int) -> Any:
    return pa.Array.from_buffers(pa.uint64(), 1, [None, pa.py_buffer(array("Q", [number]))])[0]


def sorted_rows(averages: Averages | Regular) -> SortedRows | None:
    """Return users' rows from an averages hash; None where some value is not of the usual kind.

    What the averages were in is empty then, as soon as nothing more is to be cut out of it: it is the larger half of
    the memory that putting in order takes.
    """
    cut = _cut(averages)
    if cut is None:
        return None
    for memory in (averages.memory,) if isinstance(averages, Regular) else averages:
        if not isinstance(memory, bytes):
            memory.clear()
    names, hundredths = cut
    order = order_of(names)
    encoded = kernels.dictionary(hundredths)
    places = kernels.cast(encoded.indices, _place_type(len(encoded.dictionary)))
    return SortedRows(kernels.take(names, order), kernels.take(places, order), encoded.dictionary.to_pylist())


def _cut(averages: Averages | Regular) -> tuple[Any, Any] | None:
    """Return the ids of who has a session and their hundredths, in memory of their own."""
    if isinstance(averages, Regular) and averages.lengths[0]:
        columns = _columns_of(_packed_in(averages))
        place = averages.places[0]
        names = kernels.binary_slice(_records_of(averages), place, place + averages.lengths[0])
    else:
        ids, texts = averages.columns() if isinstance(averages, Regular) else averages
        columns = _columns_of(_packed_of(texts))
        names = _array_of(ids)
    if columns is None:
        return None
    return names if columns.there is None else kernels.where(names, columns.there), columns.hundredths


def summary_of(values: Sequence[bytes] | Regular) -> Summary | None:
    """Return the summary of users from an averages hash; None where some value is not of the usual kind."""
    columns = _columns_of(_packed_in(values) if isinstance(values, Regular) else _packed_of(values))
    if columns is None:
        return None
    packed = columns.packed
    seconds = _numbers(packed, _SECONDS)
    if (kernels.largest(seconds) or 0) >= _MOST_SECONDS:
        return None
    unclosed = _numbers(packed, _UNCLOSED)
    not_kept = len(kernels.places_of_true(kernels.equal(unclosed, _UNKNOWN)))
    summary = Summary(
        users=len(packed.records),
        sessions=kernels.total(_numbers(packed, _SESSIONS)),
        seconds=kernels.total(seconds),
        closed_sessions=kernels.total(_numbers(packed, _CLOSED_SESSIONS)) - not_kept * NOT_KEPT,
        unclosed=kernels.total(unclosed) - not_kept * NOT_KEPT,
        not_kept_users=not_kept,
    )
    counted = kernels.counts(columns.hundredths)
    summary.count(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
    return summary


class _Packed(NamedTuple):
    """Packed totals, each within a record."""

    records: Any
    place: int
    """Where they begin in each."""


def _packed_in(regular: Regular) -> _Packed | None:
    """Return the values of a reply, its last element, where they lie; None where they are not of today's format."""
    if regular.lengths[-1] != TOTALS.size:
        return None
    return _Packed(_records_of(regular), regular.places[-1])


def _packed_of(values: Sequence[bytes]) -> _Packed | None:
    """Return values behind each other; None where they are not all of today's format."""
    text = b"".join(values)
    if not is_current(text, values):
        return None
    return _Packed(
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(TOTALS.size), len(values), [None, pa.py_buffer(text)]), 0
    )


def _records_of(regular: Regular) -> Any:
    """Return the records of a reply, in its memory."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(regular.record_bytes), regular.records, [None, pa.py_buffer(regular.memory).slice(regular.start)]
    )


class _Columns(NamedTuple):
    """Of who has a session."""

    packed: _Packed
    hundredths: Any
    there: Any
    """Who has one; None: all."""


def _columns_of(packed: _Packed | None) -> _Columns | None:
    """Return the columns of packed totals; None where some are not of the usual kind."""
    if packed is None:
        return None
    records, place = packed
    width = records.type.byte_width
    formats = memoryview(records.buffers()[1])[place : width * len(records) : width].tobytes()
    if formats.count(TOTALS_FORMAT) != len(records):
        return None
    hundredths = _field(packed, _HUNDREDTHS)
    if kernels.largest(hundredths) < COMPUTED:
        return _Columns(packed, hundredths, None)
    there = kernels.not_equal(hundredths, _number_of(NO_SESSION))
    records, hundredths = kernels.where(records, there), kernels.where(hundredths, there)
    if kernels.largest(hundredths) == COMPUTED:
        return None
    return _Columns(_Packed(records, place), hundredths, there)


def _field(packed: _Packed, field: tuple[int, int, Any]) -> Any:
    start, end, kind = field
    cut = kernels.binary_slice(packed.records, packed.place + start, packed.place + end)
    return pa.Array.from_buffers(kind, len(cut), [None, cut.buffers()[1]], offset=cut.offset)


def _numbers(packed: _Packed, field: tuple[int, int, Any]) -> Any:
    return kernels.cast(_field(packed, field), pa.int64())


def _of_any_length(texts: Any) -> Any:
    """Return a column of texts as one whose texts may differ in length, which those that join them ask for."""
    if not pa.types.is_fixed_size_binary(texts.type):
        return texts
    width = texts.type.byte_width
    ends = pa.py_buffer(_ends(-(-len(texts) // _ENDS_AT_A_TIME) * _ENDS_AT_A_TIME, width))
    return pa.Array.from_buffers(pa.binary(), len(texts), [None, ends, texts.buffers()[1].slice(width * texts.offset)])


_ENDS_AT_A_TIME: Final = 16_384


@lru_cache(4)
def _ends(count: int, length: int) -> array[int]:
    """Return where each of so many texts ends, for as many as there are, or more: they serve fewer as well."""
    return array("i", range(0, length * count + 1, length))


def _joined(texts: Any) -> tuple[bytes, bytes]:
    """Return all texts of a column, one behind the other, and the first byte of each."""
    joined = bytes(_text_of(texts))
    if pa.types.is_fixed_size_binary(texts.type):
        return joined, joined[:: texts.type.byte_width]
    return joined, bytes(_text_of(kernels.binary_slice(texts, 0, 1)))


def _text_of(texts: Any, without: int = 0) -> memoryview:
    """Return all texts of a column, one behind the other, but for so many bytes at the end."""
    *_, text = texts.buffers()
    if pa.types.is_fixed_size_binary(texts.type):
        width = texts.type.byte_width
        start, end = width * texts.offset, width * (texts.offset + len(texts))
    else:
        ends = pa.Array.from_buffers(pa.int32(), texts.offset + len(texts) + 1, [None, texts.buffers()[1]])
        start, end = ends[texts.offset].as_py(), ends[len(ends) - 1].as_py()
    return memoryview(text.slice(start, end - start - without))
