"""Array replies of the store's protocol whose records all have the same lengths: columns, without an object a user.

A hash of users comes as ``*2000``, then ``$36``, an id, ``$45``, a value, and so on. Where ids are UUIDs, digests or
other keys of one length, as they mostly are, each record has the same bytes around the same places, and a column is one
cut. That is found out while the reply arrives, record by record; anything else is taken apart as ever.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse

from functions.core.report_rows import UNPACKED_BY, unpacker

if TYPE_CHECKING:
    from collections.abc import Sequence

_SMALL_BYTES: Final = 65_536
_CHECKED_AT_ONCE: Final = 2_048
"""Records that are looked at byte by byte before the next ones are: all of a large reply would go through the cache
once for each byte, which takes up to twice as long."""
_MOST_BYTES: Final = 128 << 20
"""A reply that would be larger, by its first record, is taken apart."""
NOT_YET: Final = object()


class Regular(NamedTuple):
    """An array reply of so many records, each with elements of these lengths."""

    memory: bytes | bytearray
    """All of it, and perhaps something before and behind it."""
    start: int
    """Where the first record begins."""
    records: int
    lengths: tuple[int, ...]

    @property
    def places(self) -> Sequence[int]:
        """Where each element begins within a record."""
        return _layout(self.lengths)[0]

    @property
    def record_bytes(self) -> int:
        """What a record takes, with what stands around its elements."""
        return _layout(self.lengths)[1]

    @property
    def end(self) -> int:
        """Where the last record ends."""
        return self.start + self.records * self.record_bytes

    def has_alike(self, first: int, end: int) -> bool:
        """Tell whether the elements of these records are as long as those of the first one."""
        memory, size, lines = self.memory, self.record_bytes, _lines(self.lengths)
        for some in range(first, end, _CHECKED_AT_ONCE):
            count = min(_CHECKED_AT_ONCE, end - some)
            begin = self.start + some * size
            stop = begin + count * size
            for place, byte in lines:
                if memory[begin + place : stop : size].count(byte) != count:
                    return False
        return True

    def columns(self) -> list[list[bytes]]:
        """Return the elements as objects, column by column."""
        memory, size = bytes(self.memory), self.record_bytes
        ends = range(self.start, self.start + self.records * size, size)
        return [
            [memory[at + place : at + place + length] for at in ends]
            for place, length in zip(self.places, self.lengths, strict=True)
        ]

    def bytes_at(self, element: int, offset: int) -> bytes | bytearray:
        """Return one byte of each record's element."""
        first = self.start + self.places[element] + offset
        return self.memory[first : self.end : self.record_bytes]

    def fields(self, *codes: str) -> list[tuple[Any, ...]]:
        """Return fields of each element, column by column: what `struct` makes of it by a code of its length."""
        record = "".join(
            f"{len(b'$%d' % length) + 2}x{code}2x" for length, code in zip(self.lengths, codes, strict=True)
        )
        records = self.records + -self.records % UNPACKED_BY
        memory, missing = self.memory, self.start + records * self.record_bytes - len(self.memory)
        if missing > 0:
            memory = memory + bytes(missing)
        fields = unpacker(record, records).unpack_from(memory, self.start)
        columns = len(fields) // records
        return [fields[place : self.records * columns : columns] for place in range(columns)]


@lru_cache(64)
def _layout(lengths: tuple[int, ...]) -> tuple[Sequence[int], int]:
    """Return where each element begins within a record of such lengths, and how long that is."""
    places, at = [], 0
    for length in lengths:
        at += len(b"$%d\r\n" % length)
        places.append(at)
        at += length + 2
    return places, at


@lru_cache(64)
def _lines(lengths: tuple[int, ...]) -> Sequence[tuple[int, int]]:
    """Return the places and values of the bytes in a record that tell its lengths: type, digits and their end.

    All else around its elements follows from those: the store keeps to its protocol, in which an element has as many
    bytes as the line before it says, and a line's end behind them.
    """
    found: list[tuple[int, int]] = []
    for place, length in zip(_layout(lengths)[0], lengths, strict=True):
        line = b"$%d\r" % length
        found += enumerate(line, place - len(line) - 1)
    return found


def _head_of(memory: bytes | bytearray, at: int, held: int, elements: int) -> Regular | bool:
    """Return the array that begins at a place, going by its first record; else tell whether it may still be one.

    Args:
        memory: What has arrived.
        at: Where the array begins.
        held: Where the memory ends that has something in it.
        elements: Of a record.
    """
    start = memory.find(b"\r\n", at, held) + 2
    if start < 2 and held - at < 32:
        return True
    count = _number(memory[at:start], b"*")
    if not count or count % elements:
        return False
    lengths: list[int] = []
    place = start
    for _ in range(elements):
        end = memory.find(b"\r\n", place, held) + 2
        if end < 2:
            return place + 32 >= held
        length = _number(memory[place:end], b"$")
        if length is None:
            return False
        lengths.append(length)
        place = end + length + 2
    return Regular(memory, start, count // elements, (*lengths,))


class ArrivingReplies:
    """Takes replies as they arrive: first arrays, records of so many elements, then others as objects.

    After an array whose records are not alike all are taken as objects.
    """

    def __init__(self, elements: int, arrays: int = 1, reader: hiredis.Reader | None = None) -> None:
        """Prepare.

        Args:
            elements: Of a record of the arrays.
            arrays: How many come first.
            reader: What makes objects; where it is given, who gave it may go on with it once it does.
        """
        self._elements = elements
        self._arrays = arrays
        self._reader = reader or new_reader()
        self._memory = bytearray(_SMALL_BYTES)
        self._held = 0  # bytes of it that are there
        self._head: Regular | None = None  # while an array is regular, as far as it is there
        self._checked = 0
        self.by_objects = False
        """Whether all that is still to come is for the reader."""
        self.replies: list[Any] = []
        """Those that are there: arrays as a `Regular`, or a list, or an error."""

    def room(self) -> memoryview:
        """Return where the next bytes belong."""
        return memoryview(self._memory)[self._held :]

    def take(self, data: bytes) -> None:
        """Take bytes that came in memory of their own.

        Raises:
            InvalidResponse: They are not of the protocol.
        """
        at = 0
        while at < len(data):
            if not self._held and not self.by_objects:
                at = self._take_whole(data, at)
            room = self.room()
            if self._head is not None:  # no more than belongs to it: what comes behind may be there as a whole
                room = room[: self._head.end - self._held]
            part = data[at : at + len(room)]
            room[: len(part)] = part
            self.received(len(part))
            at += len(part)

    def received(self, count: int) -> None:
        """Take so many bytes that were put there.

        Raises:
            InvalidResponse: They are not of the protocol.
        """
        self._held += count
        while not self.by_objects:
            if self._head is None:
                self._look_at_head()
            if self._head is None or not self._is_there(self._head):
                break
        if self._head is None and self._held == len(self._memory):
            self.by_objects = True
        if self.by_objects:
            self._take_objects()

    def _take_whole(self, data: bytes, at: int) -> int:
        """Take the arrays from a place on that are there as a whole, without a copy; return where the last one ends."""
        while not self.by_objects:
            head = _head_of(data, at, len(data), self._elements)
            if not isinstance(head, Regular) or head.end > len(data) or not head.has_alike(0, head.records):
                break
            self._hand_on(head)
            at = head.end
        return at

    def _hand_on(self, array: Regular) -> None:
        self.replies.append(array)
        self._arrays -= 1
        self.by_objects = not self._arrays

    def _look_at_head(self) -> None:
        """See how long the first record's elements are."""
        memory, held = self._memory, self._held
        head = _head_of(memory, 0, held, self._elements)
        if not isinstance(head, Regular):
            self.by_objects = not head
            return
        whole_bytes = head.end + _SMALL_BYTES
        if not held <= whole_bytes <= _MOST_BYTES:
            self.by_objects = True
            return
        self._memory = bytearray(whole_bytes)
        self._memory[:held] = memoryview(memory)[:held]
        self._head = head._replace(memory=self._memory)

    def _is_there(self, head: Regular) -> bool:
        """Tell whether an array is complete; see whether what has arrived of it is like its first record.

        The next one begins at the beginning of the memory then.
        """
        memory, size = self._memory, head.record_bytes
        there = min(head.records, (self._held - head.start) // size)
        end = head.start + there * size
        alike = head.has_alike(self._checked, there)
        if alike and there < head.records:  # what is there of the next one
            alike = all(memory[end + place] == byte for place, byte in _lines(head.lengths) if end + place < self._held)
        self._checked = there
        if not alike:
            self._head, self.by_objects = None, True
            return False
        if there < head.records:
            return False
        self._head, self._checked = None, 0
        self._hand_on(head)
        self._move_on(memory, end)
        return True

    def _move_on(self, memory: bytearray, end: int) -> None:
        """Go on in memory of its own with what has come behind an array."""
        self._memory = bytearray(_SMALL_BYTES)
        behind = memory[end : self._held]
        self._memory[: len(behind)] = behind
        self._held = len(behind)

    def _take_objects(self) -> None:
        """Hand what is there to who makes objects."""
        self._reader.feed(bytes(memoryview(self._memory)[: self._held]))
        if len(self._memory) > _SMALL_BYTES:
            self._memory = bytearray(_SMALL_BYTES)
        self._held = 0
        while (reply := self._reader.gets()) is not NOT_YET:
            self.replies.append(reply)


def new_reader() -> hiredis.Reader:
    """Return what makes objects of replies, and `NOT_YET` of what is not there."""
    return hiredis.Reader(
        protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=NOT_YET
    )  # fmt: skip


def _number(line: bytes | bytearray, kind: bytes) -> int | None:
    """Return the number of a line of the protocol; None where it is of another kind."""
    digits = bytes(line[1:-2])
    return int(digits) if line[:1] == kind and digits.isdigit() and len(digits) < 10 else None
