"""A user's spans as the store has them: one value a user, its numbers small where they can be.

Format 2::

    u8     format = 2
    varint bytes of the numbers
    the numbers, each a varint (LEB128: seven bits a byte, the lowest first, the eighth says that more follow):
        unit of moments (0: microseconds, 1: milliseconds, 2: seconds; the largest that fits all of the user's)
        spans n, merchants m
        the earliest first moment in units, zigzag (2x, or -2x - 1 below zero); the others count from it
        bytes with which all flyer_ids begin, bytes with which all merchant_ids begin: written once
        m times: bytes of a merchant_id after these
        n times: first moment - the earliest; last moment - first moment; events * 4 + 2 where some came too late for
            the openings + 1 where some openings are settled; bytes of flyer_id; place of the merchant; openings' tail
        n times, one after the other, only what there is:
            settled: its last moment - first moment; closed seconds; closed sessions; opens
            late: how many
            the tail's moments, each from the one before it (the first from the settled part's last): all but the
            last one, which is the span's last, and where nothing is settled all but the first one, which is its first
    the UTF-8: what all merchants begin with, the rest of each, what all flyers begin with, the rest of each

A tail is its kinds in bits, 1 for a close, the earliest lowest, and a 1 above them all; where some openings are
settled, two lower bits are the kinds of the settled part's first and last. 0 is a span whose openings are not kept.
Spans are in the order of (flyer_id, merchant_id) as UTF-8, merchants in that of their UTF-8.

Format 1 had rows of fixed size, and no openings.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Final

from functions.core.openings import Moment, Openings, Segment
from functions.core.spans import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from functions.core.spans import UserSpans

FORMAT: Final = 2
UNITS_US: Final = (1, 1_000, 1_000_000)
SETTLED: Final = 1
LATE: Final = 2

HEADER_1: Final = struct.Struct("<BI")
ROW_1: Final = struct.Struct("<qqIHH")
"""First, last (microseconds), events, bytes of flyer_id, bytes of merchant_id; then the texts, row after row."""


def pack_spans(spans: UserSpans) -> bytes:
    """Return the value of one user in the spans hash; the same spans give the same bytes."""
    rows = sorted((flyer.encode(), merchant.encode(), span) for (flyer, merchant), span in spans.items())
    merchants = sorted({merchant for _, merchant, _ in rows})
    unit = max(
        unit
        for unit, unit_us in enumerate(UNITS_US)
        if all(us % unit_us == 0 for _, _, s in rows for us in _moments(s))
    )
    unit_us = UNITS_US[unit]
    base_us = min((span.first_us for _, _, span in rows), default=0)
    base = base_us // unit_us
    flyer_start = _common_start([flyer for flyer, _, _ in rows])
    merchant_start = _common_start(merchants)
    numbers = [unit, len(rows), len(merchants), base * 2 if base >= 0 else -2 * base - 1]
    numbers += (len(flyer_start), len(merchant_start), *(len(merchant) - len(merchant_start) for merchant in merchants))
    extras: list[int] = []
    for flyer, merchant, span in rows:
        tail, more = _packed_openings(span, unit_us)
        openings = span.openings or Openings()
        flags = (SETTLED if openings.settled else 0) | (LATE if openings.late else 0)
        numbers += ((span.first_us - base_us) // unit_us, (span.last_us - span.first_us) // unit_us)
        numbers += (span.events << 2 | flags, len(flyer) - len(flyer_start), merchants.index(merchant), tail)
        extras += more
    packed = b"".join(map(varint, (*numbers, *extras)))
    texts = (merchant_start, *(merchant[len(merchant_start) :] for merchant in merchants))
    texts += (flyer_start, *(flyer[len(flyer_start) :] for flyer, _, _ in rows))
    return b"".join((bytes([FORMAT]), varint(len(packed)), packed, *texts))


def unpack_spans(value: bytes) -> UserSpans:
    """Return the spans of one user, as Python objects: for looking at a few, not for merging many.

    Raises:
        ValueError: The value is damaged, or of a format that this version does not read.
    """
    if value[:1] == b"\x01":
        return _unpack_1(value)
    if value[:1] != bytes([FORMAT]):
        raise ValueError(f"spans of format {value[0] if value else 'none'}; this version reads formats 1 to {FORMAT}")
    try:
        return _unpack(value)
    except (IndexError, StopIteration, UnicodeDecodeError) as e:
        raise ValueError("damaged spans: cut short, or lengths that do not add up") from e


def count_of(value: bytes) -> int:
    """Return how many spans a value of the spans hash has."""
    return len(unpack_spans(value))


def varint(number: int) -> bytes:
    """Return a number that is not negative in as few bytes as it takes, seven bits each."""
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def _common_start(texts: Sequence[bytes]) -> bytes:
    """Return what all of some texts begin with; they are in order."""
    if not texts:
        return b""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(texts[0], texts[-1], strict=False))
    return texts[0][: sum(1 for _ in same)]


def _moments(span: Span) -> Iterator[int]:
    """Yield all moments that are written of a span."""
    yield span.first_us
    yield span.last_us
    if span.openings is not None:
        if span.openings.settled is not None:
            yield span.openings.settled.last.at_us
        yield from (moment.at_us for moment in span.openings.tail)


def _packed_openings(span: Span, unit_us: int) -> tuple[int, list[int]]:
    """Return the number that is a span's tail, and what further numbers there are."""
    if span.openings is None:
        return 0, []
    settled, tail, late = span.openings
    kinds = 1 << len(tail) | sum(moment.is_close << place for place, moment in enumerate(tail))
    more: list[int] = []
    if settled is None:
        before_us, rest = span.first_us, tail[1:-1]
    else:
        kinds = kinds << 2 | settled.last.is_close << 1 | settled.first.is_close
        before_us, rest = settled.last.at_us, tail[:-1]
        more += ((before_us - span.first_us) // unit_us, settled.closed_seconds, settled.closed_sessions, settled.opens)
    if late:
        more.append(late)
    for moment in rest:
        more.append((moment.at_us - before_us) // unit_us)
        before_us = moment.at_us
    return kinds, more


def _unpack(value: bytes) -> UserSpans:
    number_bytes, start = _varint_at(value, 1)
    end = start + number_bytes
    numbers = _varints(value[start:end])
    unit_us = UNITS_US[next(numbers)]
    count, merchant_count, base, flyer_start, merchant_start = [next(numbers) for _ in range(5)]
    first_of_all_us = (-(base + 1) // 2 if base & 1 else base // 2) * unit_us
    merchant_bytes = [next(numbers) for _ in range(merchant_count)]
    rows = [[next(numbers) for _ in range(6)] for _ in range(count)]
    texts = _cut(value, end, (merchant_start, *merchant_bytes, flyer_start, *(row[3] for row in rows)))
    merchants = [texts[0] + text for text in texts[1 : merchant_count + 1]]
    flyers = [texts[merchant_count + 1] + text for text in texts[merchant_count + 2 :]]
    spans: UserSpans = {}
    for flyer, (first, length, events, _, merchant, tail) in zip(flyers, rows, strict=True):
        first_us = first_of_all_us + first * unit_us
        last_us = first_us + length * unit_us
        openings = _unpacked_openings(first_us, last_us, events, tail, unit_us, numbers)
        spans[flyer.decode(), merchants[merchant].decode()] = Span(first_us, last_us, events >> 2, openings)
    if next(numbers, None) is not None:
        raise IndexError
    return spans


def _unpacked_openings(
    first_us: int, last_us: int, flags: int, tail: int, unit_us: int, numbers: Iterator[int]
) -> Openings | None:
    if not tail:
        return None
    settled, before_us = None, first_us
    if flags & SETTLED:
        before_us += next(numbers) * unit_us
        closed_seconds, closed_sessions, opens = next(numbers), next(numbers), next(numbers)
        first, last = Moment(first_us, bool(tail & 1)), Moment(before_us, bool(tail & 2))
        settled = Segment(first, last, opens, closed_sessions, closed_seconds)
        tail >>= 2
    late = next(numbers) if flags & LATE else 0
    size = tail.bit_length() - 1
    moments_us = []
    for place in range(size):
        if place == size - 1:
            before_us = last_us
        elif place or settled:
            before_us += next(numbers) * unit_us
        moments_us.append(before_us)
    kinds = (bool(tail >> place & 1) for place in range(size))
    return Openings(settled, tuple(map(Moment, moments_us, kinds)), late)


def _varints(packed: bytes) -> Iterator[int]:
    position = 0
    while position < len(packed):
        number, position = _varint_at(packed, position)
        yield number


def _varint_at(packed: bytes, position: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    number = shift = 0
    while True:
        byte = packed[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position


def _cut(value: bytes, position: int, sizes: Iterable[int]) -> list[bytes]:
    """Return the texts of these sizes that the value ends with."""
    texts = []
    for size in sizes:
        texts.append(value[position : position + size])
        position += size
    if position != len(value):
        raise IndexError
    return texts


def _unpack_1(value: bytes) -> UserSpans:
    try:
        _, count = HEADER_1.unpack_from(value)
        position = HEADER_1.size + count * ROW_1.size
        rows = list(ROW_1.iter_unpack(value[HEADER_1.size : position]))
    except struct.error as e:
        raise ValueError("damaged spans: cut short") from e
    try:
        texts = iter([text.decode() for text in _cut(value, position, (size for row in rows for size in row[3:]))])
    except (IndexError, UnicodeDecodeError) as e:
        raise ValueError("damaged spans: text lengths do not add up") from e
    return {(flyer, merchant): Span(*row[:3]) for row, flyer, merchant in zip(rows, texts, texts, strict=True)}
