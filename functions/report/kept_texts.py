"""Whole tables, kept shard by shard: dashboards ask the same again and again, panel by panel.

Small ones as text, larger ones packed, and those of all users and their averages as columns, which the texts of every
format are made of. A shard's part is given out again only as long as the shard stays at its version, which changes
exactly when what it shows does, and only to the same view and question. It bounds its memory itself, and a process that
starts has nothing.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_KEPT_BYTES: Final = 40_000_000
"""Of all parts together: the averages of a million users, of 36 to 38 bytes each, if ids are 64 hexadecimal digits."""


class KeptPart:
    """One shard's part of one table.

    In memory of its own: among what comes and goes while a table is made, it would leave holes that nothing else fits.
    """

    def __init__(self, version: object, rows: int, pieces: Sequence[bytes], shapes: Sequence[Any] = ()) -> None:
        """Take texts, packed and in their order; or the packed columns of rows of these shapes."""
        self.version = version
        self.rows = rows
        self.shapes = shapes
        self._ends = [*accumulate(map(len, pieces))]
        self._memory = mmap.mmap(-1, self.size_bytes)
        self._memory.write(b"".join(pieces))

    @property
    def size_bytes(self) -> int:
        """What it takes: whole pages."""
        return -(-max((1, *self._ends)) // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def pieces(self) -> Iterator[bytes]:
        """What was packed."""
        return (self._memory[start:end] for start, end in pairwise((0, *self._ends)))


class LooseTexts:
    """One shard's part of a small table, as it is sent."""

    def __init__(self, version: object, texts: Sequence[tuple[int, bytes]]) -> None:
        """Take texts in their order, each with how many rows it has."""
        self.version = version
        self.texts = texts
        self.size_bytes = 500 + sum(200 + len(text) for _, text in texts)


class KeptTexts:
    """The parts that are kept, by question and shard; those that were asked for longest ago make room."""

    def __init__(self, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._parts: OrderedDict[tuple[str, int], KeptPart | LooseTexts] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """What all parts take together."""
        return self._held_bytes

    def find(self, question: str, shard: int, version: object) -> KeptPart | LooseTexts | None:
        """Return a shard's part as it is at a version; None where it is not kept."""
        part = self._parts.get((question, shard))
        if part is None or part.version != version:
            return None
        self._parts.move_to_end((question, shard))
        return part

    def keep(self, question: str, shard: int, part: KeptPart | LooseTexts) -> None:
        """Keep a shard's part in the place of older ones.

        Not in the place of another part of the same table at the same time: one that is larger than all the room
        would only push itself out, each time anew.
        """
        self._drop((question, shard))
        while self._held_bytes + part.size_bytes > self._most_bytes:
            if not self._parts or next(iter(self._parts))[0] == question:
                return
            self._drop(next(iter(self._parts)))
        self._parts[question, shard] = part
        self._held_bytes += part.size_bytes

    def _drop(self, key: tuple[str, int]) -> None:
        part = self._parts.pop(key, None)
        if part is not None:
            self._held_bytes -= part.size_bytes
