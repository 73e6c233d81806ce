"""Folding one shard: its log in rounds, spans of the new events, merged with the stored ones, committed.

A shard holds all of its users, so nothing is shuffled; a round bounds the memory; a commit that another one has
overtaken changes nothing and its round is read again.
"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from functions.adapters.redis_shard import USERS_A_READ, Change, Superseded
from functions.core import packing
from functions.core.errors import FlyertimeError
from functions.core.events import FLYER_EVENTS
from functions.core.ledger import position_of
from functions.core.settings import LATENESS_S
from spark import columns, span_columns
from spark.merging import PartialSpans, merge
from spark.summing import summaries_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from functions.adapters.redis_shard import ShardStore
    from functions.core.ledger import ShardLedger
    from spark.archive import Archive

MAX_SUPERSEDED: Final = 100
"""Rounds in a row that may be overtaken before a job leaves the shard to whoever is faster."""

NO_TURNS: Final = nullcontext()
LATENESS_US: Final = LATENESS_S * 1_000_000
_KINDS: Final = pa.array(FLYER_EVENTS, pa.large_string())
"""The places of the two are `OPEN` and `CLOSE`."""


class DamagedLogError(FlyertimeError):
    """An entry of the log cannot be read; the shard waits until somebody looks at it."""


class DamagedStateError(FlyertimeError):
    """The stored spans of some user cannot be read; the shard waits until somebody looks at it."""


@dataclass(slots=True)
class Folded:
    """What was done with one shard."""

    shard: int
    events: int = 0
    rounds: int = 0
    superseded: int = 0
    users: int = 0
    """Users whose state was written, counted once a round."""
    late_events: int = 0
    """Those that came too late for the time from open to close; everything else counts them."""
    error: str = ""
    """Why the shard was left before its bound; empty where it was not."""
    retryable: bool = False


def fold_shard(
    store: ShardStore,
    shard: int,
    upto: str,
    round_events: int,
    most_rounds: int = sys.maxsize,
    archive: Archive | None = None,
    lateness_us: int | None = LATENESS_US,
    turn: AbstractContextManager[object] = NO_TURNS,
) -> Folded:
    """Fold a shard's log up to and including the entry ``upto``, in rounds of about ``round_events`` events.

    Args:
        store: Where it is.
        shard: Which one.
        upto: The last entry to fold.
        round_events: Events that are folded and committed at once.
        most_rounds: Rounds after which the rest is left for another time.
        archive: Where each round's events are written before they are committed.
        lateness_us: How far back openings are exact; None: they are not kept.
        turn: Held while the processor works, not while the store or the archive is waited for. Threads that share one
            do not work at the same time, which in one interpreter would only end all of them late and at once.

    Raises:
        UnavailableError: The store or the archive does not answer.
        DamagedLogError: An entry cannot be read; what stands before it is folded.
        DamagedStateError: The stored spans of some user cannot be read.
    """
    done = Folded(shard)
    in_a_row = 0
    ledger = store.open_ledger(shard)
    entries = store.log(shard, ledger.folded_to, upto)
    while done.rounds < most_rounds and position_of(ledger.folded_to) < position_of(upto):
        batch = _read_round(entries, round_events)
        if not batch.entries:
            break  # what the bound named is gone: another job has folded it, or the store was set back
        with turn:
            try:
                events = columns.unpack_log(batch.entries)
            except ValueError:
                batch = _sound_part(shard, batch)
                events = columns.unpack_log(batch.entries)
                entries = store.log(shard, batch.ids[-1], upto)
        change = change_with(
            store,
            ledger,
            batch.ids[-1],
            batch.events,
            _spans_of(batch, events, turn, kept=archive is not None),
            lateness_us,
            turn,
        )
        if archive and batch.events:
            change = dataclasses.replace(change, archived=archive.write_log(ledger, batch.ids, batch.entries, events))
        answer = store.commit(change)
        if isinstance(answer, Superseded):
            if archive and change.archived:
                archive.remove([change.archived.path])
            done.superseded += 1
            in_a_row += 1
            if in_a_row >= MAX_SUPERSEDED:
                raise FlyertimeError("superseded", f"shard {shard}: overtaken {MAX_SUPERSEDED} times ({answer.reason})")
            ledger = store.open_ledger(shard)
            entries = store.log(shard, ledger.folded_to, upto)
            continue
        done.events += batch.events
        done.users += change.users
        done.late_events += change.late_events
        done.rounds += 1
        in_a_row = 0
        del change  # megabytes, which the next round would have beside its own
        ledger = store.open_ledger(shard)
    return done


@dataclass(frozen=True, slots=True)
class _Round:
    """Some entries of the log, one after the other."""

    ids: list[str]
    entries: list[bytes]
    events: int


def _read_round(entries: Iterator[tuple[str, bytes]], round_events: int) -> _Round:
    """Return the next entries with together about so many events."""
    ids: list[str] = []
    batch: list[bytes] = []
    events = 0
    for entry_id, entry in entries:
        events += packing.count_of(entry)
        ids.append(entry_id)
        batch.append(entry)
        if events >= round_events:
            break
    return _Round(ids, batch, events)


def _spans_of(
    batch: _Round, events: dict[str, pa.Array], turn: AbstractContextManager[object], *, kept: bool
) -> PartialSpans:
    """Return the new spans; what they were made of is let go where it is not kept, so that its memory serves again."""
    with turn:
        spans = spans_of_events(events)
    if not kept:
        batch.entries.clear()
        events.clear()
    return spans


def _sound_part(shard: int, batch: _Round) -> _Round:
    """Return what stands before the first damaged entry.

    Raises:
        DamagedLogError: Nothing does; the message names the entry.
    """
    events = 0
    for place, (entry_id, entry) in enumerate(zip(batch.ids, batch.entries, strict=True)):
        try:
            packing.unpack_events(entry)
        except ValueError as e:
            if place == 0:
                raise DamagedLogError("damaged_log", f"shard {shard}, log entry {entry_id}: {e}") from e
            return _Round(batch.ids[:place], batch.entries[:place], events)
        events += packing.count_of(entry)
    raise DamagedLogError("damaged_log", f"shard {shard}: log entries up to {batch.ids[-1]} cannot be read by column")


def change_with(
    store: ShardStore,
    ledger: ShardLedger,
    last_id: str,
    events: int,
    fresh: PartialSpans,
    lateness_us: int | None,
    turn: AbstractContextManager[object] = NO_TURNS,
) -> Change:
    """Return what a shard's state becomes with new spans, which may come from elsewhere than its log.

    Raises:
        DamagedStateError: A user's stored spans cannot be read.
    """
    with turn:
        users = fresh.user_id.dictionary_encode()
        names = users.dictionary.cast(pa.large_binary())
        packed_names = columns.pack_names(names, USERS_A_READ)
    held_values = store.spans_of(ledger.shard, packed_names)
    summed = store.summed(ledger)
    with turn:
        places = np.array([place for place, value in enumerate(held_values) if value is not None], np.int64)
        try:
            held = span_columns.unpack_spans([value for value in held_values if value is not None])
        except ValueError as e:
            raise DamagedStateError("damaged_state", f"shard {ledger.shard}: {e}") from e
        held = dataclasses.replace(held, user=places[held.user])
        user = users.indices.to_numpy().astype(np.int64)
        del users, held_values  # here and below: a round's memory is at its peak where all is packed
        merged = merge(user, len(names), fresh, held, lateness_us, summed)
        del fresh, held, user
        merchants = columns.pack_pairs(
            names.take(pa.array(merged.merchant_user)),
            columns.pack_totals(merged.merchant_totals),
            merged.merchant_bounds,
        )
        change = Change(
            shard=ledger.shard,
            commits=ledger.commits,
            folded_to=last_id,
            events=events,
            report_changes=len(merged.changed) > 0,
            spans=columns.pack_pairs(names, span_columns.pack_spans(merged.spans))[0],
            averages=columns.pack_pairs(names.take(pa.array(merged.changed)), columns.pack_totals(merged.totals))[0],
            late_events=merged.late,
            merchants={name.encode(): pairs for name, pairs in zip(merged.merchant_names, merchants, strict=True)},
        )
    return dataclasses.replace(change, summaries=summaries_after(store, ledger, merged.sums))


def spans_of_events(log: Mapping[str, pa.Array]) -> PartialSpans:
    """Return the flyer events among columns as ``columns.unpack_log`` returns them, each as the span that it is."""
    moments = log["timestamp_us"].to_numpy()
    merchants = pc.fill_null(log["merchant_id"], "")
    kinds = pc.index_in(log["event"], value_set=_KINDS)
    wanted = pc.and_(pc.is_valid(kinds), pc.is_valid(log["flyer_id"]))
    users, flyers = log["user_id"], log["flyer_id"]
    if wanted.true_count < len(wanted):
        users, flyers, merchants, kinds = (column.filter(wanted) for column in (users, flyers, merchants, kinds))
        moments = moments[wanted.to_numpy(zero_copy_only=False)]
    kind = kinds.to_numpy().astype(np.int8)
    return PartialSpans(users, flyers, merchants, moments, moments, np.ones(len(moments), np.int64), kind)
