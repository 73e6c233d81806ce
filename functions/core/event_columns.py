"""Events by column: how a request's events travel from decoding to the log, with no object per event."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from functions.core.shards import shards_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from functions.core.events import Event


@dataclass(slots=True)
class EventColumns:
    """Five columns of one length; row n of all of them is one event, as `functions.core.events.Event` has it."""

    moments_us: list[int] = field(default_factory=list)
    user_ids: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    flyer_ids: list[str | None] = field(default_factory=list)
    merchant_ids: list[str | None] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Return the columns of these events."""
        columns = cls()
        for event in events:
            columns.append(event)
        return columns

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.user_ids)

    def append(self, event: Event) -> None:
        """Add one event."""
        moment_us, user_id, name, flyer_id, merchant_id = event
        self.moments_us.append(moment_us)
        self.user_ids.append(user_id)
        self.events.append(name)
        self.flyer_ids.append(flyer_id)
        self.merchant_ids.append(merchant_id)

    def extend(self, other: EventColumns) -> None:
        """Add the events of other columns."""
        self.moments_us += other.moments_us
        self.user_ids += other.user_ids
        self.events += other.events
        self.flyer_ids += other.flyer_ids
        self.merchant_ids += other.merchant_ids

    def places_by_shard(self, shards: int) -> dict[int, list[int]]:
        """Return the places of each shard's events."""
        places = defaultdict[int, list[int]](list)
        for place, shard in enumerate(shards_of(self.user_ids, shards)):
            places[shard].append(place)
        return dict(places)


def picked(values: Sequence[Any], places: Sequence[int]) -> tuple[Any, ...]:
    """Return the values at some places, in the order of the places."""
    if len(places) > 1:
        values_there: tuple[Any, ...] = itemgetter(*places)(values)
        return values_there
    return tuple(values[place] for place in places)
