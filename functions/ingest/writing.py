"""Writing events: each once, every shard in one trip, and a verdict for every event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from functions.adapters.redis_store import Appended, Seen, ShardBatch
from functions.core.errors import MisconfiguredError, pause_after_s
from functions.core.event_columns import picked
from functions.core.packing import pack_parts
from functions.ingest.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.adapters.redis_store import RedisStore
    from functions.core.errors import FlyertimeError
    from functions.core.event_columns import EventColumns

logger = logging.getLogger(__name__)


class Written(NamedTuple):
    """What became of events."""

    verdicts: list[Verdict]
    """One an event, in their order."""
    appended: dict[int, Appended]
    """By shard, what was written."""
    retry_after_s: int
    """Seconds after which the others may be sent again."""


async def write_events(
    store: RedisStore, events: EventColumns, digests: Sequence[bytes | None], window: int
) -> Written:
    """Write each event once; what was seen before is left out and the rest sent again.

    Each further round of a shard leaves out at least one event, so it ends.

    Args:
        store: Where to.
        events: What to write.
        digests: Of each event's name; None where it has none.
        window: Number of the current dedupe window.
    """
    verdicts = [Verdict.ACCEPTED] * len(events)
    distinct = set(digests)
    repeats = repeats_within(digests) if len(distinct) < len(digests) else {}
    all_named = None not in distinct
    left = events.places_by_shard(await store.shards())
    if repeats:
        first = {shard: [place for place in places if place not in repeats] for shard, places in left.items()}
        left = {shard: places for shard, places in first.items() if places}
    appended: dict[int, Appended] = {}
    retry_after_s = 1
    duplicates = dict.fromkeys(left, 0)
    if repeats:
        duplicates[min(left)] = len(repeats)  # to the ledger's sum it does not matter in which shard they count
    while left:
        batches = _batches(events, digests, left, duplicates, all_named=all_named)
        for batch, answer in zip(batches, await store.append(batches, window), strict=True):
            here = left.pop(batch.shard)
            if isinstance(answer, Appended):
                appended[batch.shard] = answer
            elif isinstance(answer, Seen):
                seen = {here[position] for position in answer.positions}
                for place in seen:
                    verdicts[place] = Verdict.DUPLICATE
                duplicates[batch.shard] += len(seen)
                if rest := [place for place in here if place not in seen]:
                    left[batch.shard] = rest
                else:
                    await store.add_duplicates(batch.shard, duplicates[batch.shard])
            else:
                _log_failure(batch, answer)
                retry_after_s = max(retry_after_s, pause_after_s(answer))
                for place in here:
                    verdicts[place] = Verdict.RETRY
    for place, earlier in repeats.items():
        verdicts[place] = Verdict.RETRY if verdicts[earlier] is Verdict.RETRY else Verdict.DUPLICATE
    return Written(verdicts, appended, retry_after_s)


def repeats_within(digests: Sequence[bytes | None]) -> dict[int, int]:
    """Return the places of events that repeat an earlier one of these, each with that one's place."""
    first: dict[bytes, int] = {}
    repeats: dict[int, int] = {}
    for place, digest in enumerate(digests):
        if digest is not None:
            earlier = first.setdefault(digest, place)
            if earlier != place:
                repeats[place] = earlier
    return repeats


def _batches(
    events: EventColumns,
    digests: Sequence[bytes | None],
    places: Mapping[int, Sequence[int]],
    duplicates: Mapping[int, int],
    *,
    all_named: bool,
) -> list[ShardBatch]:
    """Return what is to be written to each shard: the events at its places."""
    entries = pack_parts(events, list(places.values()))
    batches = []
    for (shard, here), entry in zip(places.items(), entries, strict=True):
        names = picked(digests, here)
        known = names if all_named else [name for name in names if name is not None]
        batches.append(ShardBatch(shard, entry, len(here), known, duplicates[shard]))
    return batches


def _log_failure(batch: ShardBatch, error: FlyertimeError) -> None:
    level = logging.ERROR if isinstance(error, MisconfiguredError) else logging.WARNING
    logger.log(level, "%d events of shard %d not written: %s: %s", batch.events, batch.shard, error.code, error.message)
