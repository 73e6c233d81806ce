"""What `flyertime verify` finds in one shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_TRIES: Final = 50
"""Looks at a shard that others change all the time, before that is said."""
PAUSE_S: Final = 0.05
MOST_NAMED: Final = 20
"""Deviations of one kind in one shard that are named; the others are counted."""

OnProgress = Callable[[str, int], None]
"""Told what was compared, in the plural, and how many since the last time."""


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
    openings_exact: int = 0
    """Spans whose time from open to close was compared: equal, where nothing of it is a deviation."""
    openings_within: int = 0
    """Those where late events were left out of it: compared with what these may change."""
    late_events: int = 0
    """Such events."""
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
