"""Spans of many users between their packed bytes and columns: no object per span.

The format is told in functions/core/span_packing.py. All numbers of all users are one stream of varints here; what is
where in it follows from sums of counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from functions.core import span_packing
from spark import buffers, varints
from spark.openings import OpeningColumns
from spark.sorting import order_of
from spark.stretches import starts_of, sums_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_HEADER_NUMBERS: Final = 6
"""Unit, spans, merchants, earliest first moment, bytes that all flyers begin with, and all merchants."""
_SPAN_NUMBERS: Final = 6
"""First, length, events and flags, bytes of the flyer, place of the merchant, tail."""
_SETTLED_NUMBERS: Final = 4
_UNITS_US: Final = np.array(span_packing.UNITS_US)
_POWERS: Final = np.uint64(1) << np.arange(64, dtype=np.uint64)
_MOST_HEADER_BYTES: Final = 5
_WORD_BYTES: Final = 8
_ONE: Final = np.uint64(1)


@dataclass(frozen=True, slots=True)
class HeldSpans:
    """The stored spans of many users, row by row; ``user`` is the place of the user's value."""

    user: Ints
    flyer_id: pa.Array
    merchant_id: pa.Array
    first_us: Ints
    last_us: Ints
    events: Ints
    openings: OpeningColumns


def unpack_spans(values: Sequence[bytes]) -> HeldSpans:
    """Return the spans of many users.

    Raises:
        ValueError: A value is damaged or of another format.
    """
    values = [value if value[:1] == _FORMAT else _of_this_format(value) for value in values]
    joined, starts, sizes = buffers.joined(values)
    packed = np.frombuffer(joined, np.uint8)
    number_bytes, header_bytes = _leading_varints(packed, starts + 1, starts + sizes)
    segments = np.column_stack((1 + header_bytes, number_bytes, sizes - 1 - header_bytes - number_bytes))
    if segments.size and segments.min() < 0:
        raise ValueError("damaged spans: cut short")
    cut = buffers.Segments(joined, segments)
    numbers, ends = varints.decode(np.frombuffer(cut.gathered(1), np.uint8))
    end_of = np.searchsorted(ends, np.cumsum(number_bytes), "right")
    return _Unpacked(numbers.view(np.int64), np.diff(end_of, prepend=0), segments[:, 2], cut.gathered(2)).spans()


_FORMAT: Final = bytes([span_packing.FORMAT])


def _of_this_format(value: bytes) -> bytes:
    """Return a value of an older format as this version writes it: one by one, once for each user."""
    return span_packing.pack_spans(span_packing.unpack_spans(value))


def _leading_varints(packed: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Return the number that stands at each start, and its bytes."""
    numbers, sizes = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    some = np.arange(len(starts))
    for place in range(_MOST_HEADER_BYTES):
        if np.any(starts[some] + place >= ends[some]):
            raise ValueError("damaged spans: cut short")
        byte = packed[starts[some] + place].astype(np.int64)
        numbers[some] |= (byte & 0x7F) << 7 * place
        sizes[some] += 1
        some = some[byte > 0x7F]
    if len(some):
        raise ValueError("damaged spans: a number of too many bytes")
    return numbers, sizes


class _Unpacked:
    """Numbers and texts of many users on the way to columns."""

    def __init__(self, numbers: Ints, counts: Ints, text_bytes: Ints, text: memoryview) -> None:
        starts = np.cumsum(counts) - counts
        if len(counts) and counts.min() < _HEADER_NUMBERS:
            raise ValueError("damaged spans: fewer numbers than a header has")
        header = numbers[starts[:, None] + np.arange(_HEADER_NUMBERS)]
        self._unit_us = _UNITS_US[np.clip(header[:, 0], 0, len(_UNITS_US) - 1)]
        self._spans, self._merchants = header[:, 1], header[:, 2]
        self._base = header[:, 3].view(np.uint64)
        self._common_bytes = header[:, 4:]
        rows_at = starts + _HEADER_NUMBERS + self._merchants
        more_at = rows_at + _SPAN_NUMBERS * self._spans
        if (
            np.any(header[:, 0] >= len(_UNITS_US))
            or np.any((header[:, 1:3] < 0) | (header[:, 1:3] > counts[:, None]))
            or np.any(more_at > starts + counts)
        ):
            raise ValueError("damaged spans: fewer numbers than the header says")
        self._numbers, self._counts, self._starts, self._more_at = numbers, counts, starts, more_at
        self._text_bytes, self._text = text_bytes, text
        self._user = np.repeat(np.arange(len(counts)), self._spans)
        self._span = np.arange(len(self._user)) - (np.cumsum(self._spans) - self._spans)[self._user]
        self._rows = numbers[
            (rows_at[self._user] + _SPAN_NUMBERS * self._span)[:, None] + np.arange(_SPAN_NUMBERS)
        ].reshape(-1, _SPAN_NUMBERS)

    def spans(self) -> HeldSpans:
        """Return the columns."""
        unit_us = self._unit_us[self._user]
        base = (self._base >> np.uint64(1)).view(np.int64) ^ -(self._base & np.uint64(1)).view(np.int64)
        first_us = (base[self._user] + self._rows[:, 0]) * unit_us
        last_us = first_us + self._rows[:, 1] * unit_us
        flyers, merchants = self._texts()
        return HeldSpans(
            user=self._user,
            flyer_id=flyers,
            merchant_id=merchants,
            first_us=first_us,
            last_us=last_us,
            events=self._rows[:, 2] >> 2,
            openings=self._openings(first_us, last_us, unit_us),
        )

    def _texts(self) -> tuple[pa.Array, pa.Array]:
        """Return each span's flyer and merchant."""
        numbers, user, spans, merchants = self._numbers, self._user, self._spans, self._merchants
        texts = 2 + merchants + spans
        starts = np.cumsum(texts) - texts
        of_merchant = np.repeat(np.arange(len(spans)), merchants)
        place = np.arange(len(of_merchant)) - (np.cumsum(merchants) - merchants)[of_merchant]
        sizes = np.empty(int(texts.sum()), np.int64)
        sizes[starts] = self._common_bytes[:, 1]
        sizes[starts[of_merchant] + 1 + place] = numbers[self._starts[of_merchant] + _HEADER_NUMBERS + place]
        sizes[starts + 1 + merchants] = self._common_bytes[:, 0]
        flyer_at = starts[user] + 2 + merchants[user] + self._span
        sizes[flyer_at] = self._rows[:, 3]
        if np.any(sizes < 0) or np.any(sums_of(texts, sizes) != self._text_bytes):
            raise ValueError("damaged spans: text lengths do not add up")
        merchant = self._rows[:, 4]
        if np.any((merchant < 0) | (merchant >= merchants[user])):
            raise ValueError("damaged spans: a merchant that is not there")
        all_texts = buffers.binary(np.append(0, np.cumsum(sizes)), pa.py_buffer(self._text))
        flyer_ids = buffers.join(
            all_texts.take(pa.array((starts + 1 + merchants)[user])), all_texts.take(pa.array(flyer_at))
        )
        merchant_ids = buffers.join(
            all_texts.take(pa.array(starts[user])), all_texts.take(pa.array(starts[user] + 1 + merchant))
        )
        return buffers.as_strings(flyer_ids), buffers.as_strings(merchant_ids)

    def _openings(self, first_us: Ints, last_us: Ints, unit_us: Ints) -> OpeningColumns:
        user, numbers = self._user, self._numbers
        flags, kinds = self._rows[:, 2] & 3, self._rows[:, 5].view(np.uint64)
        kept, settled = kinds > 0, flags & span_packing.SETTLED > 0
        late = flags & span_packing.LATE > 0
        tail = np.where(settled, kinds >> np.uint64(2), kinds)
        tail_events = np.maximum(np.searchsorted(_POWERS, tail, "right") - 1, 0)
        inner = np.where(kept, np.maximum(tail_events - np.where(settled, 1, 2), 0), 0)
        more = settled * _SETTLED_NUMBERS + late + inner
        by_user = sums_of(self._spans, more)
        if np.any(self._more_at + by_user != self._starts + self._counts):
            raise ValueError("damaged spans: other numbers than their spans have")
        more_at = self._more_at[user] + np.cumsum(more) - more - (np.cumsum(by_user) - by_user)[user]
        settled_numbers = np.zeros((len(user), _SETTLED_NUMBERS), np.int64)
        settled_numbers[settled] = numbers[more_at[settled][:, None] + np.arange(_SETTLED_NUMBERS)]
        late_events = np.zeros(len(user), np.int64)
        late_events[late] = numbers[(more_at + settled * _SETTLED_NUMBERS)[late]]
        settled_last_us = first_us + settled_numbers[:, 0] * unit_us

        row = np.repeat(np.arange(len(user)), tail_events)
        starts = np.cumsum(tail_events) - tail_events
        place = np.arange(len(row)) - starts[row]
        written = (place < tail_events[row] - 1) & (settled[row] | (place > 0))
        after = np.zeros(len(row), np.int64)
        some = row[written]
        after[written] = numbers[
            more_at[some] + settled[some] * _SETTLED_NUMBERS + late[some] + place[written] - ~settled[some]
        ] * unit_us[some]  # fmt: skip
        so_far = np.cumsum(after)
        tail_us = settled_last_us[row] + so_far - (so_far - after)[starts[row]]
        ends = (starts + tail_events - 1)[tail_events > 0]
        tail_us[ends] = last_us[row[ends]]
        bits = tail[row] >> place.astype(np.uint64) & np.uint64(1)
        return OpeningColumns(
            kept=kept,
            settled=settled,
            first_closes=settled & (kinds & np.uint64(1) > 0),
            last_closes=settled & (kinds & np.uint64(2) > 0),
            settled_last_us=np.where(settled, settled_last_us, 0),
            closed_seconds=settled_numbers[:, 1],
            closed_sessions=settled_numbers[:, 2],
            opens=settled_numbers[:, 3],
            late=late_events,
            tail_events=tail_events,
            tail_us=tail_us,
            tail_closes=bits > 0,
        )


def pack_spans(held: HeldSpans) -> pa.Array:
    """Return each user's packed spans, in the order of ``user``; rows are in the order of (user, flyer, merchant)."""
    starts = starts_of(held.user)
    spans = np.diff(starts, append=len(held.user))
    user = np.repeat(np.arange(len(spans)), spans)
    unit_us, unit = _units_of(held, starts)
    base = np.minimum.reduceat(held.first_us, starts) // unit_us if len(starts) else starts

    merchant_user, merchant_ids, merchant = _merchants_of(held, user)
    merchants = np.bincount(merchant_user, minlength=len(spans))
    merchant_starts = np.cumsum(merchants) - merchants
    flyer_common = _common_bytes(held.flyer_id, starts, spans)
    merchant_common = _common_bytes(merchant_ids, merchant_starts, merchants)
    flyer_heads, flyer_rests = buffers.parts(held.flyer_id.cast(pa.large_binary()), flyer_common[user])
    merchant_heads, merchant_rests = buffers.parts(merchant_ids.cast(pa.large_binary()), merchant_common[merchant_user])

    rows = np.empty((len(user), _SPAN_NUMBERS), np.int64)
    rows[:, 0] = held.first_us // unit_us[user] - base[user]
    rows[:, 1] = (held.last_us - held.first_us) // unit_us[user]
    flags = held.openings.settled * span_packing.SETTLED | (held.openings.late > 0) * span_packing.LATE
    rows[:, 2] = held.events << 2 | flags
    rows[:, 3] = np.diff(buffers.offsets(flyer_rests))
    rows[:, 4] = merchant - merchant_starts[user]
    rows[:, 5] = _kinds_of(held.openings).view(np.int64)
    more, more_sizes = _further_numbers(held, unit_us[user])

    more_counts = sums_of(spans, more_sizes)
    counts = _HEADER_NUMBERS + merchants + _SPAN_NUMBERS * spans + more_counts
    at = np.cumsum(counts) - counts
    numbers = np.empty(int(counts.sum()), np.int64)
    numbers[at], numbers[at + 1], numbers[at + 2] = unit, spans, merchants
    numbers[at + 3] = base << 1 ^ base >> 63
    numbers[at + 4], numbers[at + 5] = flyer_common, merchant_common
    merchant_place = np.arange(len(merchant_user)) - merchant_starts[merchant_user]
    numbers[at[merchant_user] + _HEADER_NUMBERS + merchant_place] = np.diff(buffers.offsets(merchant_rests))
    rows_at = (at + _HEADER_NUMBERS + merchants)[user] + _SPAN_NUMBERS * (np.arange(len(user)) - starts[user])
    numbers[rows_at[:, None] + np.arange(_SPAN_NUMBERS)] = rows
    more_at = at + counts - np.cumsum(more_counts)
    numbers[np.arange(len(more)) + np.repeat(more_at, more_counts)] = more

    packed, sizes = varints.encode(numbers.view(np.uint64))
    number_bytes = sums_of(counts, sizes)
    header, header_sizes = varints.encode(number_bytes.view(np.uint64))
    texts = _interleaved(
        (merchant_heads.take(pa.array(merchant_starts)), np.ones_like(spans)),
        (merchant_rests, merchants),
        (flyer_heads.take(pa.array(starts)), np.ones_like(spans)),
        (flyer_rests, spans),
    )
    return buffers.join(
        buffers.fixed(np.full(len(spans), span_packing.FORMAT, np.uint8)),
        buffers.binary(np.append(0, np.cumsum(header_sizes, dtype=np.int64)), pa.py_buffer(header)),
        buffers.binary(np.append(0, np.cumsum(number_bytes)), pa.py_buffer(packed)),
        texts,
    )


def _units_of(held: HeldSpans, starts: Ints) -> tuple[Ints, Ints]:
    """Return the largest unit of which all of a user's moments are multiples, in microseconds and as its number."""
    openings = held.openings
    unit = np.minimum(_unit_of(held.first_us), _unit_of(held.last_us))
    unit = np.minimum(unit, _unit_of(openings.settled_last_us))
    some = openings.tail_events > 0
    if some.any():
        tail_starts = (np.cumsum(openings.tail_events) - openings.tail_events)[some]
        unit[some] = np.minimum(unit[some], np.minimum.reduceat(_unit_of(openings.tail_us), tail_starts))
    unit = np.minimum.reduceat(unit, starts) if len(starts) else unit
    return _UNITS_US[unit], unit


def _unit_of(moments_us: Ints) -> Ints:
    unit = np.zeros(len(moments_us), np.int64)
    for unit_us in _UNITS_US[1:]:
        unit += moments_us // unit_us * unit_us == moments_us  # a remainder takes twice as long
    return unit


def _merchants_of(held: HeldSpans, user: Ints) -> tuple[Ints, pa.Array, Ints]:
    """Return users and merchants, each pair once and in order, and the place of each span's among them."""
    encoded = held.merchant_id.dictionary_encode()
    by_name = pc.array_sort_indices(encoded.dictionary)
    rank = np.empty(len(by_name), np.int64)
    rank[by_name.to_numpy()] = np.arange(len(by_name))
    most = max(1, len(by_name))
    pair = user * most + rank[encoded.indices.to_numpy()]
    order = order_of(pair)
    ordered = pair[order]
    begins = np.diff(ordered, prepend=-1) > 0
    place = np.empty(len(pair), np.int64)
    place[order] = np.cumsum(begins) - 1
    pairs = ordered[begins]
    return pairs // most, encoded.dictionary.take(by_name.take(pa.array(pairs % most))), place


def _common_bytes(texts: pa.Array, starts: Ints, counts: Ints) -> Ints:
    """Return how many bytes all texts of a stretch begin with: those that the first and the last one share."""
    data = bytes(texts.buffers()[2] or b"") + bytes(_WORD_BYTES)
    words = np.ndarray((len(data) - _WORD_BYTES,), "<u8", data, strides=(1,))  # from each byte on
    bounds = buffers.offsets(texts)
    first, last = bounds[starts], bounds[starts + counts - 1]
    most = np.minimum(bounds[starts + 1] - first, bounds[starts + counts] - last)
    same = np.where(first == last, most, 0)
    some = np.flatnonzero(same < most)
    while len(some):
        differ = words[first[some] + same[some]] ^ words[last[some] + same[some]]
        alike = np.bitwise_count((differ - _ONE) & ~differ) >> 3  # bytes before the first bit that differs
        same[some] = np.minimum(same[some] + alike, most[some])
        some = some[(alike == _WORD_BYTES) & (same[some] < most[some])]
    return same


def _kinds_of(openings: OpeningColumns) -> npt.NDArray[np.uint64]:
    """Return each span's tail as the number that is written; see functions/core/span_packing.py."""
    starts = np.cumsum(openings.tail_events) - openings.tail_events
    place = np.arange(len(openings.tail_us)) - np.repeat(starts, openings.tail_events)
    so_far = np.zeros(len(place) + 1, np.uint64)
    np.cumsum(openings.tail_closes.astype(np.uint64) << place.astype(np.uint64), out=so_far[1:])
    kinds = so_far[starts + openings.tail_events] - so_far[starts]  # exact: what overflows is subtracted again
    kinds |= np.uint64(1) << openings.tail_events.astype(np.uint64)
    ends = (openings.last_closes << np.uint64(1) | openings.first_closes).astype(np.uint64)
    kinds = np.where(openings.settled, kinds << np.uint64(2) | ends, kinds)
    written: npt.NDArray[np.uint64] = np.where(openings.kept, kinds, np.uint64(0))
    return written


def _further_numbers(held: HeldSpans, unit_us: Ints) -> tuple[Ints, Ints]:
    """Return what is written of openings beside their kinds, span after span, and how many numbers each has."""
    openings = held.openings
    settled, late, tail_events = openings.settled, openings.late > 0, openings.tail_events
    inner = np.where(openings.kept, np.maximum(tail_events - np.where(settled, 1, 2), 0), 0)
    sizes = settled * _SETTLED_NUMBERS + late + inner
    at = np.cumsum(sizes) - sizes
    numbers = np.empty(int(sizes.sum()), np.int64)
    settled_at = at[settled]
    numbers[settled_at] = ((openings.settled_last_us - held.first_us) // unit_us)[settled]
    for number, column in enumerate((openings.closed_seconds, openings.closed_sessions, openings.opens), 1):
        numbers[settled_at + number] = column[settled]
    numbers[(at + settled * _SETTLED_NUMBERS)[late]] = openings.late[late]
    row, nth = np.repeat(np.arange(len(sizes)), inner), np.arange(int(inner.sum()))
    starts = np.cumsum(tail_events) - tail_events
    event = nth + (starts + ~settled - (np.cumsum(inner) - inner))[row]
    before_us = openings.tail_us[event - 1]
    begins = event == starts[row]
    before_us[begins] = openings.settled_last_us[row[begins]]
    numbers[nth + np.cumsum(sizes - inner)[row]] = (openings.tail_us[event] - before_us) // unit_us[row]
    return numbers, sizes


def _interleaved(*columns: tuple[pa.Array, Ints]) -> pa.Array:
    """Return each user's values of several columns joined, each column having so many values a user."""
    counts: Ints = np.sum([counts for _, counts in columns], axis=0)
    starts: Ints = np.cumsum(counts) - counts
    order = np.empty(int(counts.sum()), np.int64)
    before = 0
    at: Ints = starts
    for values, some in columns:
        user = np.repeat(np.arange(len(some)), some)
        order[at[user] + np.arange(len(user)) - (np.cumsum(some) - some)[user]] = before + np.arange(len(user))
        before += len(values)
        at = at + some
    ordered = pa.concat_arrays([values for values, _ in columns]).take(pa.array(order))
    bounds = np.append(0, np.cumsum(counts))
    return buffers.binary(buffers.offsets(ordered)[bounds], ordered.buffers()[2] or pa.py_buffer(b""))
