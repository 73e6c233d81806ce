"""Whose a pseudonym is: a keyed hash cannot be turned back, so everybody's is made once and kept, shard by shard.

A user's pseudonym never changes, so what is found in a shard that has changed meanwhile is right all the same; only one
that is found nowhere has the shards read again that have changed.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from functions.core.pseudonyms import is_pseudonym
from functions.report.reading import SLICE_USERS

if TYPE_CHECKING:
    from functions.adapters.redis_report import ReportStore
    from functions.adapters.redis_state import StoreState
    from functions.core.pseudonyms import Pseudonyms
    from functions.report.views import View

MOST_KEPT_BYTES: Final = 32_000_000
"""Of all merchants together: about 700,000 users with ids of 32 characters."""
_MARKS: Final = slice(2, 18)
"""The digits of a pseudonym by which it is looked up: 64 of its 128 bits."""


class _Part(NamedTuple):
    """One shard's users, by their pseudonyms."""

    version: object
    marks: array[int]
    ends: array[int]
    names: bytes

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        return 12 * len(self.marks) + len(self.names) + 300

    def owner(self, pseudonym: bytes, pseudonyms: Pseudonyms) -> bytes | None:
        """Return the user whose pseudonym this is; None: nobody's of this shard."""
        mark = _mark(pseudonym)
        place = bisect_left(self.marks, mark)
        while place < len(self.marks) and self.marks[place] == mark:
            name = self.names[self.ends[place - 1] if place else 0 : self.ends[place]]
            if pseudonyms.of(name) == pseudonym:
                return name
            place += 1  # another one begins alike: once in 2 to the 64th
        return None


def _mark(pseudonym: bytes) -> int:
    return int(pseudonym[_MARKS], 16)


class PseudonymIndex:
    """Finds users by their pseudonyms."""

    def __init__(self, store: ReportStore, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._parts: OrderedDict[tuple[str | None, int], _Part] = OrderedDict()

    async def user_of(self, pseudonym: str, state: StoreState, view: View) -> str | None:
        """Return the user whose pseudonym this is in a view that has some; None: nobody's."""
        if view.pseudonyms is None or not is_pseudonym(pseudonym):
            return None
        wanted = pseudonym.encode()
        for shard in range(len(state.shards)):
            part = self._parts.get((view.merchant, shard))
            if part is not None and (name := part.owner(wanted, view.pseudonyms)) is not None:
                self._parts.move_to_end((view.merchant, shard))
                return name.decode()
        for shard, stands in enumerate(state.shards):
            version = (stands.version, state.generation)
            part = self._parts.get((view.merchant, shard))
            if part is None or part.version != version:
                part = await self._read(shard, stands.users, version, view.merchant, view.pseudonyms)
                if (name := part.owner(wanted, view.pseudonyms)) is not None:
                    return name.decode()
        return None

    async def _read(
        self, shard: int, users: int, version: object, merchant: str | None, pseudonyms: Pseudonyms
    ) -> _Part:
        marked: dict[bytes, int] = {}  # a user may come twice where they are many
        async for names, _ in self._store.pieces(shard, merchant, users):
            for start in range(0, len(names), SLICE_USERS):
                some = names[start : start + SLICE_USERS]
                marked |= {name: _mark(pseudonyms.of(name)) for name in some}
                await asyncio.sleep(0)
        in_order = sorted(marked, key=marked.__getitem__)
        part = _Part(
            version,
            array("Q", [marked[name] for name in in_order]),
            array("I", accumulate(map(len, in_order))),
            b"".join(in_order),
        )
        self._keep((merchant, shard), part)
        return part

    def _keep(self, key: tuple[str | None, int], part: _Part) -> None:
        """Keep a part in the place of those of other merchants that were looked at longest ago."""
        self._drop(key)
        while self._held_bytes + part.size_bytes > self._most_bytes:
            oldest = next(iter(self._parts), None)
            if oldest is None or oldest[0] == key[0]:
                return
            self._drop(oldest)
        self._parts[key] = part
        self._held_bytes += part.size_bytes

    def _drop(self, key: tuple[str | None, int]) -> None:
        part = self._parts.pop(key, None)
        if part is not None:
            self._held_bytes -= part.size_bytes
