"""Rows that come after a page, kept for the pages that follow: who pages reads a table once for many pages.

They are given out again only to the same view and question, and only as long as every shard stays at its version; then
they are what reading it all again would give. One stretch of rows a question, within a number of rows altogether.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.report_cursor import Position
    from functions.core.report_rows import UserRows

AHEAD_ROWS: Final = 4_000
"""Read at a time in an order where pages are smaller: beside reading the whole table they cost next to nothing."""
MOST_KEPT_ROWS: Final = 20_000
"""Of all stretches together; each row takes about 0.4 KB."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows in their order, from a place on."""

    version: object
    """Of all that they were read from."""
    after: Position | None
    """The place; None: the beginning."""
    rows: UserRows
    positions: Sequence[Position]
    whole: bool
    """Whether they go to the table's end."""
    _places: dict[Position, int] = field(default_factory=dict)

    def following(self, after: Position | None, count: int) -> tuple[UserRows, Sequence[Position]] | None:
        """Return the first so many rows after a position, fewer at the table's end; None where they are not here."""
        if not self._places:
            self._places.update(zip(self.positions, range(1, len(self.positions) + 1), strict=True))
        start = 0 if after == self.after else self._places.get(after) if after is not None else None
        if start is None or (len(self.rows) - start < count and not self.whole):
            return None
        return self.rows.part(start, start + count), self.positions[start : start + count]


class KeptPages:
    """The stretches that are kept; those that were asked for longest ago make room."""

    def __init__(self, most_rows: int = MOST_KEPT_ROWS) -> None:
        self._most_rows = most_rows
        self._held_rows = 0
        self._stretches: OrderedDict[str, Stretch] = OrderedDict()

    def find(
        self, question: str, version: object, after: Position | None, count: int
    ) -> tuple[UserRows, Sequence[Position]] | None:
        """Return a question's first so many rows after a position; None where they are not kept."""
        stretch = self._stretches.get(question)
        if stretch is None or stretch.version != version:
            return None
        self._stretches.move_to_end(question)
        return stretch.following(after, count)

    def keep(self, question: str, stretch: Stretch) -> None:
        """Keep a question's rows in the place of those that were kept of it before."""
        self._drop(question)
        if len(stretch.rows) > self._most_rows:
            return
        while self._held_rows + len(stretch.rows) > self._most_rows:
            self._drop(next(iter(self._stretches)))
        self._stretches[question] = stretch
        self._held_rows += len(stretch.rows)

    def _drop(self, question: str) -> None:
        stretch = self._stretches.pop(question, None)
        if stretch is not None:
            self._held_rows -= len(stretch.rows)
