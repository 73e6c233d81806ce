"""Array replies of the store's protocol whose records all have the same lengths: columns, without an object a user.

A hash of users comes as ``*2000``, then ``$36``, an id, ``$45``, a value, and so on. Where ids are UUIDs, digests or
other keys of one length, as they mostly are, each record has the same bytes around the same places, and a column is one
cut. That is found out while the reply arrives, record by record; anything else is taken apart as ever.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse

from functions.core.report_rows import UNPACKED_BY, unpacker

_SMALL_BYTES: Final = 65_536
_MOST_BYTES: Final = 128 << 20
"""A reply that would be larger, by its first record, is taken apart."""
NOT_YET: Final = object()


class Regular(NamedTuple):
    """An array reply of so many records, each with elements of these lengths."""

    memory: bytearray
    """All of it, and perhaps something behind it."""
    start: int
    """Where the first record begins."""
    records: int
    lengths: tuple[int, ...]

    @property
    def places(self) -> list[int]:
        """Where each element begins within a record."""
        places, at = [], 0
        for length in self.lengths:
            at += len(b"$%d\r\n" % length)
            places.append(at)
            at += length + 2
        return places

    @property
    def record_bytes(self) -> int:
        """What a record takes, with what stands around its elements."""
        return self.places[-1] + self.lengths[-1] + 2

    def columns(self) -> list[list[bytes]]:
        """Return the elements as objects, column by column."""
        memory, size = bytes(self.memory), self.record_bytes
        ends = range(self.start, self.start + self.records * size, size)
        return [
            [memory[at + place : at + place + length] for at in ends]
            for place, length in zip(self.places, self.lengths, strict=True)
        ]

    def bytes_at(self, element: int, offset: int) -> bytearray:
        """Return one byte of each record's element."""
        first = self.start + self.places[element] + offset
        return self.memory[first : self.start + self.records * self.record_bytes : self.record_bytes]

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
        self._around: list[tuple[int, bytes]] = []
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
            room = self.room()
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

    def _look_at_head(self) -> None:
        """See how long the first record's elements are."""
        memory, held = self._memory, self._held
        start = memory.find(b"\r\n", 0, held) + 2
        if start < 2 and held < 32:
            return
        elements = _number(memory[:start], b"*")
        if not elements or elements % self._elements:
            self.by_objects = True
            return
        lengths: list[int] = []
        at = start
        for _ in range(self._elements):
            end = memory.find(b"\r\n", at, held) + 2
            if end < 2:
                self.by_objects = at + 32 < held
                return
            length = _number(memory[at:end], b"$")
            if length is None:
                self.by_objects = True
                return
            lengths.append(length)
            at = end + length + 2
        head = Regular(memory, start, elements // self._elements, (*lengths,))
        whole_bytes = start + head.records * head.record_bytes + _SMALL_BYTES
        if not held <= whole_bytes <= _MOST_BYTES:
            self.by_objects = True
            return
        self._memory = bytearray(whole_bytes)
        self._memory[:held] = memoryview(memory)[:held]
        self._head = head._replace(memory=self._memory)
        lines = [b"$%d\r\n" % length for length in lengths]
        lines[1:] = [b"\r\n" + line for line in lines[1:]]
        self._around = [(place - len(line), line) for place, line in zip(head.places, lines, strict=True)]
        self._around.append((head.record_bytes - 2, b"\r\n"))

    def _is_there(self, head: Regular) -> bool:
        """Tell whether an array is complete; see whether what has arrived of it is like its first record.

        The next one begins at the beginning of the memory then.
        """
        memory, size = self._memory, head.record_bytes
        there = min(head.records, (self._held - head.start) // size)
        begin, end = head.start + self._checked * size, head.start + there * size
        new = there - self._checked
        alike = all(
            memory[begin + place + number : end : size].count(byte) == new
            for place, text in self._around
            for number, byte in enumerate(text)
        )
        if alike and there < head.records:
            alike = all(
                text.startswith(memory[end + place : min(self._held, end + place + len(text))])
                for place, text in self._around
            )
        self._checked = there
        if not alike:
            self._head, self.by_objects = None, True
            return False
        if there < head.records:
            return False
        self.replies.append(head)
        self._head, self._checked = None, 0
        self._arrays -= 1
        self.by_objects = not self._arrays
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


def _number(line: bytearray, kind: bytes) -> int | None:
    """Return the number of a line of the protocol; None where it is of another kind."""
    digits = bytes(line[1:-2])
    return int(digits) if line[:1] == kind and digits.isdigit() and len(digits) < 10 else None
