"""Resharding: another number of shards, while no event is let in.

1. The shards are closed: ingest is told to try again. 2. What is pending is folded. 3. State, dedupe windows and the
archive's files are copied to where the new number has them: the state as a generation beside the live one, the files
beside the old ones. 4. One write in the layout makes number and generation the live ones. 5. Each shard's books and
records are put in the place of the old ones, once, and ingest is let in.

Killed before the write, the same command begins anew; after it, the same command goes on. What fails before it is
undone. One is at work at a time: by a lease, which each one looks at again before what another could not bear.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import math
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from functions.adapters.redis_generations import BuildingStore
from functions.adapters.redis_lease import Lease
from functions.adapters.redis_resharding import ReshardingStore
from functions.core import archive as naming
from functions.core.errors import FlyertimeError, MisconfiguredError
from functions.core.shards import MAX_SHARDS, Keys, shard_of
from functions.core.summary_packing import pack_summary
from spark.folding import fold_shard
from spark.keeping import archive_of
from spark.summing import summary_of_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.core.archive import ArchivedFile
    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings
    from spark.archive import Archive

logger = logging.getLogger("flyertime.reshard")

_SUMS: Final = ("duplicate", "erased", "archived_erased", "history_archived_erased")
"""Counts that belong to no user any more: they go to shard 0."""


@dataclass(slots=True)
class Resharded:
    """What a resharding did."""

    before: int
    after: int
    generation: int = 0
    folded_events: int = 0
    """Pending ones, before the shards were copied."""
    files: int = 0
    """Of the archive, written anew."""
    seconds: float = 0.0


def reshard(settings: Settings, store: ReshardingStore, to: int) -> Resharded:
    """Lay the store out with another number of shards.

    Raises:
        MisconfiguredError: It cannot be done so: the same number, an unfinished backfill, no archive, another target.
        UnavailableError: The store or the archive does not answer, or another one is at work; start it again.
    """
    began_s = time.monotonic()
    with Lease(settings, store.keys.resharder, "resharding") as lease:
        result = _resharded(settings, store, to, lease)
    result.seconds = time.monotonic() - began_s
    return result


def _resharded(settings: Settings, store: ReshardingStore, to: int, lease: Lease) -> Resharded:
    layout = store.layout()
    if not layout or not 1 <= to <= MAX_SHARDS:
        raise MisconfiguredError("bad_shards", f"the store must have been used, and have 1 to {MAX_SHARDS} shards")
    plan = store.plan()
    if plan is not None and str(plan["generation"]) == layout.get("generation", "0"):  # the switch was made
        if plan["after"] != to:
            raise MisconfiguredError("resharding", f"a resharding to {plan['after']} shards is to be completed first")
        result = Resharded(plan["before"], to, plan["generation"])
    else:
        result = Resharded(int(layout["shards"]), to)
        if result.before == to:
            _undo(store, result)
            raise MisconfiguredError("same_shards", f"the store has {to} shards")
        try:
            plan = _prepare(settings, store, result, lease)
            _switch(store, result)
        except BaseException:  # Ctrl-C too: ingest is closed
            _undo_unless_switched(settings, result, lease)
            raise
    _finish(settings, store, plan, result, lease)
    return result


def _switch(store: ReshardingStore, result: Resharded) -> None:
    if not store.switch_to(result.generation, result.after):
        raise FlyertimeError("superseded", "a run or a rebuild came in between: start it again, with none of them")


def _undo_unless_switched(settings: Settings, result: Resharded, lease: Lease) -> None:
    """Let in as before; by other connections: an interrupted one may still get its last reply."""
    store = ReshardingStore(settings)
    try:
        if not lease.is_held():  # another one has closed or laid out the shards since; only the generation is our own
            store.give_up_switch(result.generation)
        elif not store.layout().get("generation", "0") == str(result.generation) != "0":
            _undo(store, result)
    finally:
        store.close()


def _prepare(settings: Settings, store: ReshardingStore, result: Resharded, lease: Lease) -> dict[str, Any]:
    """Close, drain and copy; return the plan, which is in the store too."""
    store.set_layout(resharding=result.after)
    unfinished = [name for name, record in store.backfills().items() if record["state"] != "done"]
    if unfinished:
        raise MisconfiguredError("unfinished_backfills", f"backfills are not done: {', '.join(unfinished)}")
    archive = archive_of(settings, store)
    for shard in range(result.before):
        lease.check()
        store.let_in(shard, 0)
        fence = store.ledger(shard).fence
        if fence:  # of something that was killed
            store.give_up_switch(fence)
            store.lift_fence(shard, fence)
    for shard in range(result.before):
        result.folded_events += _drain(settings, store, archive, shard)
    lease.check()
    generation = result.generation = store.begin_generation()
    for dead in store.dead_generations():
        for shard in range(max(result.before, result.after)):
            store.drop_generation(shard, dead, used=shard < result.before)
            store.forget_new_record(dead, shard)
    lease.check()
    building = BuildingStore(settings, generation)
    try:
        books = [_fenced(store, building, shard, generation) for shard in range(result.before)]
    finally:
        building.close()
    now_us = store.now_ms() * 1000
    window = now_us // 1_000_000 // settings.dedupe_window_s
    for shard in range(result.before):
        lease.check()
        _copy_state(store, shard, result, now_us)
        for other in _related(shard, result):
            if other != shard:
                for number in (window - 1, window, window + 1):
                    store.copy_seen(number, shard, other)
        logger.info("shard %d: state copied", shard)
    files = _copy_files(store, archive, result, books)
    plan: dict[str, Any] = {"generation": generation, "before": result.before, "after": result.after}
    plan["books"] = _books_of(result, books, files, now_us)
    erasures: Counter[str] = Counter()
    for shard in range(result.before):
        erasures.update(store.erasures(shard))
    plan["erasures"] = erasures
    lease.check()
    _keep_summaries(store, result, [books["version"] for books in plan["books"]], now_us)
    lease.check()
    store.set_layout(plan=json.dumps(plan))
    return plan


def _drain(settings: Settings, store: ReshardingStore, archive: Archive | None, shard: int) -> int:
    """Fold what is pending; return how many events that were."""
    ledger = store.ledger(shard)
    if archive is None and ledger.archived + ledger.history_archived:
        raise MisconfiguredError(
            "no_archive", "events are in an archive: set FLYERTIME_ARCHIVE_URI as the runs have it"
        )
    done = 0
    if ledger.newest_id is not None:
        folded = fold_shard(
            store,
            shard,
            ledger.newest_id,
            settings.round_events,
            archive=archive,
            lateness_us=settings.lateness_us,
        )
        done = folded.events
    left = store.ledger(shard)
    if left.pending or left.newest_id is not None:
        raise FlyertimeError("not_drained", f"shard {shard}: {left.pending:,} events are still pending")
    return done


def _fenced(store: ReshardingStore, building: BuildingStore, shard: int, generation: int) -> ShardLedger:
    """Let no commit through any more; return the shard's books."""
    for _ in range(100):
        ledger = store.ledger(shard)
        if ledger.pending == 0 and store.fence(ledger, building.ledger(shard), generation):
            return store.ledger(shard)
    raise FlyertimeError("superseded", f"shard {shard}: runs go on: start it again, with none of them")


def _related(shard: int, result: Resharded) -> range:
    """Return the new shards to which users of an old one may go: those equal to it modulo both numbers' divisor."""
    divisor = math.gcd(result.before, result.after)
    return range(shard % divisor, result.after, divisor)


def _copy_state(store: ReshardingStore, shard: int, result: Resharded, now_us: int) -> None:
    old, new = store.keys, Keys(store.keys.namespace, result.generation)
    _copy_users(store, old.spans(shard), result.after, new.spans)
    _copy_users(store, old.averages(shard), result.after, new.averages)
    for merchant in store.merchants_of(old, shard):
        of_merchant = functools.partial(new.averages, merchant=merchant)
        for target in _copy_users(store, old.averages(shard, merchant), result.after, of_merchant):
            store.add_merchant(new, target, merchant, now_us)


def _keep_summaries(store: ReshardingStore, result: Resharded, versions: Sequence[int], now_us: int) -> None:
    """Keep in each new shard what the old ones keep: they hold what commits will take along from then on.

    Args:
        store: The store, with all averages copied.
        result: From and to how many shards, and the generation.
        versions: What version all averages of each new shard will have.
        now_us: What version those of one merchant have.
    """
    old, new = store.keys, Keys(store.keys.namespace, result.generation)
    kept = {merchant.decode() for shard in range(result.before) for merchant in store.summed_in(old, shard)}
    for shard in range(result.after):
        for merchant in sorted(kept & {"", *store.merchants_of(new, shard)}):
            try:
                summary = summary_of_pages(store.pages(new.averages(shard, merchant or None)))
            except ValueError:  # which verify tells of
                continue
            if (packed := pack_summary(summary, now_us if merchant else versions[shard])) is not None:
                store.add_fields(new.summaries(shard), {merchant.encode(): packed})


def _copy_users(store: ReshardingStore, source: str, shards: int, target: Callable[[int], str]) -> set[int]:
    """Copy each user's value to the user's new shard; return those shards."""
    used: set[int] = set()
    for page in store.pages(source):
        parts: dict[int, dict[bytes, bytes]] = {}
        for user, value in page.items():
            parts.setdefault(shard_of(user.decode(), shards), {})[user] = value
        for shard, fields in parts.items():
            store.add_fields(target(shard), fields)
        used |= parts.keys()
    return used


def _copy_files(
    store: ReshardingStore, archive: Archive | None, result: Resharded, books: Sequence[ShardLedger]
) -> dict[int, list[ArchivedFile]]:
    """Write each file's rows to a file of each new shard, and put those on the new records."""
    files: dict[int, list[ArchivedFile]] = {shard: [] for shard in range(result.after)}
    if archive is None:
        return files
    swaps = max(ledger.swaps for ledger in books)
    for shard in range(result.before):
        for file in store.archive_books(shard).files:
            for target in _related(shard, result):
                path = naming.resharded_path(file, shard, target, swaps, secrets.token_hex(4))
                written = archive.rewrite([file], swaps, _rows_of(target, result.after), path)
                if not written.rows:
                    archive.remove([path])
                    continue
                written = written._replace(laid=result.generation)
                store.put_on_new_record(result.generation, target, written)
                files[target].append(written)
                result.files += 1
        logger.info("shard %d: files copied", shard)
    return files


def _rows_of(shard: int, shards: int) -> Callable[[pa.Table], pa.Table]:
    def keep(table: pa.Table) -> pa.Table:
        users = table["user_id"].combine_chunks().dictionary_encode()
        theirs = np.array([shard_of(user, shards) == shard for user in users.dictionary.to_pylist()], np.bool_)
        return table.filter(pa.array(theirs[users.indices.to_numpy()]))

    return keep


def _books_of(
    result: Resharded, books: Sequence[ShardLedger], files: dict[int, list[ArchivedFile]], now_us: int
) -> list[dict[str, int]]:
    """Return the new shards' counters: those of the archive's events by their shard, all others in shard 0."""
    total = {
        field.name: sum(getattr(ledger, field.name) for ledger in books)
        for field in dataclasses.fields(books[0])
        if isinstance(getattr(books[0], field.name), int)
    }
    rows: list[dict[str, int]] = []
    for shard in range(result.after):
        archived = sum(file.events for file in files[shard] if file.first)
        history = sum(file.events for file in files[shard] if not file.first)
        rows.append({"archived": archived, "history_archived": history, "folded": archived, "backfilled": history})
    for name in ("archived", "history_archived"):
        if sum(row[name] for row in rows) != total[name]:
            raise FlyertimeError("archive_differs", "the archive's files do not hold what the books say: see verify")
    rows[0]["folded"] += total["folded"] - total["archived"]
    rows[0]["backfilled"] += total["backfilled"] - total["history_archived"]
    for shard, row in enumerate(rows):
        row.update({name: 0 if shard else total[name] for name in _SUMS})
        row["accepted"] = row["folded"] + row["erased"]
        row["commits"] = max(ledger.commits for ledger in books) + 1
        row["swaps"] = max(ledger.swaps for ledger in books) + 1
        row["version"] = max(now_us, *(ledger.version for ledger in books)) + 1
        row["loose"] = 0
    return rows


def _finish(settings: Settings, store: ReshardingStore, plan: dict[str, Any], result: Resharded, lease: Lease) -> None:
    """Do what is left after the switch, each step of it once."""
    for shard, fields in enumerate(plan["books"]):
        lease.check()
        store.finish_shard(shard, result.generation, {**fields, "shards": 0})
    for shard in range(result.after):
        for backfill, record in store.backfills().items():
            if record["state"] == "done":  # one that is not came too late to begin, and finds out
                store.count_whole(shard, backfill)
    store.move_erasures(max(result.before, result.after), plan.get("erasures", {}))  # none in an older version's plan
    for shard in range(result.after, result.before):
        store.end_shard(shard, result.after, result.generation)
    for dead in store.dead_generations():
        for shard in range(max(result.before, result.after)):
            store.drop_generation(shard, dead)
    archive = archive_of(settings, store)
    if archive is not None:
        for shard in range(max(result.before, result.after)):
            lease.check()
            held = {file.path for file in store.archive_books(shard).files}
            archive.remove([path for path in archive.paths(shard) if path not in held])
    lease.check()
    for shard in range(result.after):
        store.let_in(shard, result.after)
    store.set_layout(plan=None, resharding=None)


def _undo(store: ReshardingStore, result: Resharded) -> None:
    """Let in as before."""
    if result.generation:
        store.give_up_switch(result.generation)
    for shard in range(result.before):
        if fence := store.ledger(shard).fence:
            store.give_up_switch(fence)
            store.lift_fence(shard, fence)
        store.let_in(shard, result.before)
    store.set_layout(plan=None, resharding=None)
