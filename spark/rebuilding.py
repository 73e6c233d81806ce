"""Rebuilding: state and report from the archive, in a generation of their own, which then becomes the live one.

Events come in and are folded meanwhile: each shard's new files are counted too, until none is left; then no commit is
let through while one write in the layout says which generation is live. Killed before that write, nothing has changed
but for a generation that the next rebuild deletes; runs that find a fence without its owner lift it.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.adapters.redis_shard import BackfillPart, Superseded
from functions.core.errors import FlyertimeError, MisconfiguredError
from spark.archive import MissingFileError
from spark.backfill_parts import partial_spans
from spark.folding import change_with, spans_of_events
from spark.keeping import needed_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from functions.core.archive import ArchivedFile
    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings
    from spark.archive import Archive

logger = logging.getLogger("flyertime.rebuild")

MOST_TRIES: Final = 1000
GRACE_S: Final = 5.0
"""After the switch, for readers that are in the middle of the generation that was."""


@dataclass(frozen=True, slots=True)
class Built:
    """What was counted of one shard."""

    shard: int
    events: int
    files: int


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did."""

    generation: int = 0
    events: int = 0
    """Of the log and of history, those counted after their shard was fenced included."""
    files: int = 0
    fenced_s: float = 0.0
    """How long no commit was let through."""
    seconds: float = 0.0
    dropped: list[int] = field(default_factory=list)
    """Generations that were deleted: the one that was live, and those of rebuilds that broke off."""


class ShardBuilder:
    """Counts one shard's files into a generation, as often as more of them come."""

    def __init__(self, settings: Settings, live: GenerationStore, building: BuildingStore, archive: Archive) -> None:
        self._lateness_us = settings.lateness_us
        self._live = live
        self._building = building
        self._archive = archive

    def catch_up(self, shard: int) -> tuple[Built, ShardLedger, ShardLedger]:
        """Count the files that are not counted yet; return what was, the live books, and the generation's.

        Raises:
            MisconfiguredError: Some events are in no file.
            MissingFileError: A file on record is not there.
            DroppedError: The generation was dropped.
        """
        events = files = 0
        for _ in range(MOST_TRIES):
            built = self._building.ledger(shard)
            counted = self._building.counted(shard)
            books = self._live.archive_books(shard)
            check_whole(books.ledger)
            history_first = sorted(books.files, key=lambda file: bool(file.first))
            new = [file for file in history_first if counted.get(file.path, 0) < file.rows]
            # Files were merged, or a user erased: what is counted may be wrong. Or nothing is yet.
            if built.swaps != books.ledger.swaps or (new and not built.commits):
                self._building.begin_shard(shard, built.commits, books.ledger.swaps)
                events = files = 0
                continue
            if not new:
                return Built(shard, events, files), books.ledger, built
            for file in new:
                try:
                    after = self._count(file, built, counted.get(file.path, 0))
                except MissingFileError:
                    if self._live.archive_books(shard).ledger.swaps == books.ledger.swaps:
                        raise
                    break
                if after is None:
                    break  # somebody else builds it too
                built = after
                events += file.events
                files += 1
        raise FlyertimeError("superseded", f"shard {shard}: others kept changing it; try again")

    def fence(self, shard: int, generation: int) -> Built:
        """Catch up, and let no commit through from then on."""
        for _ in range(MOST_TRIES):
            done, ledger, built = self.catch_up(shard)
            if self._live.fence(ledger, built, generation):
                return done
        raise FlyertimeError("superseded", f"shard {shard}: runs were always faster; try again when fewer events come")

    def _count(self, file: ArchivedFile, built: ShardLedger, from_row: int) -> ShardLedger | None:
        """Count a file's rows; return the generation's books after that, None where another builder came first."""
        at = 0
        for table in self._archive.tables(file):
            at += len(table)
            if at <= from_row:
                continue
            fresh = partial_spans(table) if file.backfill else spans_of_events(events_of(table))
            change = dataclasses.replace(
                change_with(self._building, built, "", int(fresh.events.sum()), fresh, self._lateness_us),
                part=BackfillPart(file.path, at),
            )
            answer = self._building.commit(change)
            if isinstance(answer, Superseded):
                return None
            built = dataclasses.replace(built, commits=answer.commits, version=answer.version)
        return built


def events_of(table: pa.Table) -> dict[str, pa.Array]:
    """Return rows of an archived log file as a fold has them."""
    events = {"timestamp_us": _one(table["timestamp"]).cast(pa.int64())}
    for name in ("user_id", "event", "flyer_id", "merchant_id"):
        events[name] = _one(table[name]).cast(pa.large_string())
    return events


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def check_whole(ledger: ShardLedger) -> None:
    """Check that the archive has all that is in the state.

    Raises:
        MisconfiguredError: It has not.
    """
    folded = ledger.folded - ledger.archived - ledger.archived_erased
    backfilled = ledger.backfilled - ledger.history_archived - ledger.history_archived_erased
    if folded or backfilled:
        raise MisconfiguredError(
            "not_archived",
            f"shard {ledger.shard}: {folded:,} events were folded and {backfilled:,} backfilled without an archive; "
            "a state rebuilt from the archive would lack them",
        )


def build_shards(settings: Settings, shards: Iterable[int], generation: int) -> list[Built]:
    """Count all files of some shards into a generation, in one process."""
    live, building = GenerationStore(settings), BuildingStore(settings, generation)
    try:
        builder = ShardBuilder(settings, live, building, needed_archive(settings, live))
        return [builder.catch_up(shard)[0] for shard in shards]
    finally:
        live.close()
        building.close()


def rebuild(
    settings: Settings,
    spread: Callable[[Sequence[int], int], Iterable[Built]] | None = None,
    grace_s: float = GRACE_S,
) -> Rebuilt:
    """Rebuild state and report from the archive, and switch to them.

    Args:
        settings: Of the pipeline.
        spread: Builds shards into a generation: elsewhere, or by default here, one after the other.
        grace_s: Seconds after the switch before the old generation is deleted.

    Raises:
        MisconfiguredError: There is no archive, or it lacks some events.
        MissingFileError: A file on record is not there.
        DroppedError: Another rebuild or a resharding came in between.
        UnavailableError: The store or the archive does not answer, or the shards are being laid out anew.
    """
    began_s = time.monotonic()
    result = Rebuilt()
    live = GenerationStore(settings)
    building: BuildingStore | None = None
    try:
        live.check_settled()
        archive = needed_archive(settings, live)
        shards = range(live.shards())
        for shard in shards:
            check_whole(live.ledger(shard))
        generation = result.generation = live.begin_generation()
        building = BuildingStore(settings, generation)
        _clean(live, shards, result)
        for built in spread(shards, generation) if spread else build_shards(settings, shards, generation):
            _add(result, built)
            logger.info("shard %d: %d events of %d files", built.shard, built.events, built.files)
        builder = ShardBuilder(settings, live, building, archive)
        for shard in shards:  # what came meanwhile
            _add(result, builder.catch_up(shard)[0])
        _switch(settings, live, builder, shards, result)
        time.sleep(grace_s)
        _clean(live, shards, result)
        for shard in shards:
            building.forget_counted(shard)
        result.seconds = time.monotonic() - began_s
        return result
    finally:
        live.close()
        if building is not None:
            building.close()


def _switch(
    settings: Settings, live: GenerationStore, builder: ShardBuilder, shards: Sequence[int], result: Rebuilt
) -> None:
    """Fence all shards, make the generation live in one write, and let commits through again."""
    generation = result.generation
    began_s = time.monotonic()
    lifting = GenerationStore(settings)  # other connections: one that Ctrl-C interrupts may still get its last reply
    try:
        for shard in shards:
            _add(result, builder.fence(shard, generation))
        switched = live.switch_to(generation)
    finally:
        lifting.give_up_switch(generation)  # where it is not live, it never will be
        for shard in shards:
            lifting.lift_fence(shard, generation)
        lifting.close()
        result.fenced_s = time.monotonic() - began_s
    if not switched:
        raise FlyertimeError(
            "rebuild_superseded", "another rebuild was begun, or a run waited too long for this one; start it again"
        )


def _clean(live: GenerationStore, shards: Sequence[int], result: Rebuilt) -> None:
    """Lift fences of rebuilds that broke off, and delete their generations, and the one that was live."""
    for shard in shards:
        fence = live.ledger(shard).fence
        if fence and fence != result.generation:
            live.give_up_switch(fence)
            live.lift_fence(shard, fence)
    for generation in live.dead_generations():
        for shard in shards:
            live.drop_generation(shard, generation)
        result.dropped.append(generation)


def _add(result: Rebuilt, built: Built) -> None:
    result.events += built.events
    result.files += built.files
