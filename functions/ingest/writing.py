"""Writing a request's events: each once, every shard in one trip, and a verdict for every event."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from functions.adapters.redis_store import Appended, Seen, ShardBatch
from functions.core.errors import MisconfiguredError
from functions.core.packing import pack_events
from functions.core.shards import shard_of
from functions.ingest.submissions import repeats_within
from functions.ingest.verdicts import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.adapters.redis_store import RedisStore
    from functions.core.errors import FlyertimeError
    from functions.ingest.submissions import Submission

logger = logging.getLogger(__name__)


class Written(NamedTuple):
    """What became of a request."""

    outcomes: list[Outcome]
    """One an event, in the order sent."""
    shards: set[int]
    """Where its events belong."""
    appended: dict[int, Appended]
    """By shard, what was written."""


async def write_events(store: RedisStore, events: Sequence[Submission], window: int) -> Written:
    """Write the events that can be taken.

    Args:
        store: Where to.
        events: As sent, refused ones among them.
        window: Number of the current dedupe window.
    """
    repeats = repeats_within(events)
    shards = await store.shards()
    places: dict[int, list[int]] = defaultdict(list)
    for place, submission in enumerate(events):
        if submission.event is not None and place not in repeats:
            places[shard_of(submission.event.user_id, shards)].append(place)
    verdicts, appended = await _write(store, events, places, len(repeats), window)
    for place, earlier in repeats.items():
        verdicts[place] = Verdict.RETRY if verdicts[earlier] is Verdict.RETRY else Verdict.DUPLICATE
    outcomes = [
        Outcome(verdicts.get(place, Verdict.REJECTED), submission.id, submission.faults)
        for place, submission in enumerate(events)
    ]
    return Written(outcomes, set(places), appended)


async def _write(
    store: RedisStore, events: Sequence[Submission], places: dict[int, list[int]], repeats: int, window: int
) -> tuple[dict[int, Verdict], dict[int, Appended]]:
    """Write the events at these places, by shard; what was seen before is left out and the rest sent again.

    Each further round of a shard leaves out at least one event, so it ends.
    """
    verdicts: dict[int, Verdict] = {}
    appended: dict[int, Appended] = {}
    duplicates = dict.fromkeys(places, 0)
    if places:
        duplicates[min(places)] = repeats  # to the ledger's sum it does not matter in which shard they count
    left = dict(places)
    while left:
        batches = [_batch(shard, [events[place] for place in left[shard]], duplicates[shard]) for shard in left]
        for batch, answer in zip(batches, await store.append(batches, window), strict=True):
            here = left.pop(batch.shard)
            if isinstance(answer, Appended):
                appended[batch.shard] = answer
                verdicts.update(dict.fromkeys(here, Verdict.ACCEPTED))
            elif isinstance(answer, Seen):
                seen = {here[position] for position in answer.positions}
                verdicts.update(dict.fromkeys(seen, Verdict.DUPLICATE))
                duplicates[batch.shard] += len(seen)
                if rest := [place for place in here if place not in seen]:
                    left[batch.shard] = rest
                else:
                    await store.add_duplicates(batch.shard, duplicates[batch.shard])
            else:
                _log_failure(batch, answer)
                verdicts.update(dict.fromkeys(here, Verdict.RETRY))
    return verdicts, appended


def _batch(shard: int, events: Sequence[Submission], duplicates: int) -> ShardBatch:
    taken = [submission.event for submission in events if submission.event is not None]
    digests = [submission.digest for submission in events if submission.digest is not None]
    return ShardBatch(shard, pack_events(taken), len(taken), digests, duplicates)


def _log_failure(batch: ShardBatch, error: FlyertimeError) -> None:
    level = logging.ERROR if isinstance(error, MisconfiguredError) else logging.WARNING
    logger.log(level, "%d events of shard %d not written: %s: %s", batch.events, batch.shard, error.code, error.message)
