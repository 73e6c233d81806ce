"""What `flyertime verify` finds in one shard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.core.spans import UserSpans

MOST_TRIES: Final = 50
"""Looks at a shard that others change all the time, before that is said."""
PAUSE_S: Final = 0.05
MOST_NAMED: Final = 20
"""Deviations of one kind in one shard that are named; the others are counted."""

SpansByUser = dict[bytes, "UserSpans"]


@dataclass(slots=True)
class Findings:
    """What one shard holds, and what does not fit."""

    shard: int
    accepted: int = 0
    folded: int = 0
    pending: int = 0
    erased: int = 0
    users: int = 0
    spans: int = 0
    archived: int = 0
    files: int = 0
    not_archived: int = 0
    """Events folded, and flyer events of history counted, while there was no archive: no deviation, but none can be
    recomputed from it."""
    recomputed: bool = False
    """Whether the spans were compared with the archive's events."""
    deviations: list[str] = field(default_factory=list)
    further: int = 0
    """Deviations that are not named."""
    notes: list[str] = field(default_factory=list)

    def add(self, deviations: Iterable[str]) -> None:
        """Name deviations of one kind, the first ones."""
        for number, deviation in enumerate(deviations):
            if number < MOST_NAMED:
                self.deviations.append(deviation)
            else:
                self.further += 1
