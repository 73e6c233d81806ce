"""Verifying the spans: those in the state against those that the archive's events give.

First and last moment and number of events are equal. So is the time from open to close, where no event of the span
came too late for it. Where some did, the state has left those out, and the archive does not tell which: each that is
left out takes at most one closed session with it, adds none, and changes the unclosed opens by at most one, so that is
what is checked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark.archive import MissingFileError
from spark.findings import MOST_TRIES, PAUSE_S
from spark.span_tables import ArchivedRows, keys_of, part_of, spans_of

if TYPE_CHECKING:
    from functions.adapters.redis_checks import CheckedStore
    from functions.core.archive import ArchivedFile
    from spark.archive import Archive
    from spark.findings import Findings, OnProgress

EVENTS_A_PART: Final = 5_000_000
"""Of a shard with more, some users are compared at a time: their events are in memory."""
_KEY: Final = ["user", "flyer_id", "merchant_id"]
_NUMBERS: Final = ("first_us", "last_us", "events", "closed_seconds", "closed_sessions", "unclosed")


class Compared(NamedTuple):
    """How spans of the state and of the archive differ."""

    wrong: set[bytes]
    """Users."""
    exact: int
    """Spans whose time from open to close is the archive's."""
    within: int
    """Those where it differs no more than their late events explain."""
    late: int
    """Those events."""


def compare(held: pa.Table, computed: pa.Table) -> Compared:
    """Compare the state's spans with the archive's."""
    both = pa.concat_tables([held, computed])
    user, flyer, merchant = (both[name].combine_chunks().dictionary_encode() for name in _KEY)
    key = keys_of(user, flyer, merchant)
    order = np.argsort(key, kind="stable")  # the state's before the archive's
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    paired = np.diff(starts, append=len(order)) == 2  # each side has a span once
    ours, theirs = order[starts[paired]], order[starts[paired] + 1]
    more = {name: both[name].to_numpy()[ours] - both[name].to_numpy()[theirs] for name in _NUMBERS}
    kept = both["kept"].to_numpy()
    kept, late = kept[ours] * kept[theirs] > 0, both["late"].to_numpy()[ours]
    openings = (more["closed_seconds"] != 0) | (more["closed_sessions"] != 0) | (more["unclosed"] != 0)
    beyond = (more["closed_sessions"] > 0) | (more["closed_sessions"] < -late) | (np.abs(more["unclosed"]) > late)
    wrong = (more["first_us"] != 0) | (more["last_us"] != 0) | (more["events"] != 0)
    wrong |= kept & np.where(late > 0, beyond, openings)
    places = np.concatenate((order[starts[~paired]], ours[wrong]))
    users = pc.unique(user.take(pa.array(places)).dictionary_decode()).to_pylist()
    within = kept & (late > 0)
    return Compared(set(users), int(kept.sum() - within.sum()), int(within.sum()), int(late[within].sum()))


def check_against_archive(
    store: CheckedStore, archive: Archive, found: Findings, held: dict[bytes, bytes], on_progress: OnProgress
) -> None:
    """Compare the spans with those that the archive's events give, all of a part of the users at a time."""
    events = found.archived
    parts = max(1, -(-events // EVENTS_A_PART))
    for part in range(parts):
        mine = held if parts == 1 else {user: held[user] for user in held if part_of(user, parts) == part}
        if not _check_part(store, archive, found, mine, (part, parts), on_progress):
            return
    found.recomputed = True


def _check_part(
    store: CheckedStore,
    archive: Archive,
    found: Findings,
    held: dict[bytes, bytes],
    part: tuple[int, int],
    on_progress: OnProgress,
) -> bool:
    """Compare some users; tell whether that came to its end."""
    seen: set[ArchivedFile] = set()
    rows = ArchivedRows(*part)
    doubtful: set[bytes] | None = None
    for _ in range(MOST_TRIES):
        ledger, files = store.archive_books(found.shard)
        if not seen <= set(files):  # merged or erased from meanwhile
            seen, rows = set(), ArchivedRows(*part)
        try:
            for file in files:
                if file not in seen:
                    for table in archive.tables(file):
                        rows.add(table, is_history=bool(file.backfill))
                        on_progress("archived rows", len(table))
        except MissingFileError:
            seen, rows = set(), ArchivedRows(*part)
            time.sleep(PAUSE_S)
            continue
        seen = set(files)
        computed = rows.spans(doubtful)
        compared = compare(_spans_of_some(held, doubtful), computed)
        if doubtful is None:
            found.openings_exact += compared.exact
            found.openings_within += compared.within
            found.late_events += compared.late
        if not compared.wrong:
            return True
        doubtful = compared.wrong
        if not _read_again(store, found, doubtful, held):
            return False
        if store.ledger(found.shard).commits == ledger.commits:  # files and state of the same moment
            some = _spans_of_some(held, doubtful)
            wrong = compare(some, rows.spans(doubtful)).wrong
            found.add(
                f"state: user {user.decode(errors='replace')!r} has {_described(some, user)}; "
                f"the archive gives {_described(computed, user)}"
                for user in sorted(wrong)
            )
            return True
        time.sleep(PAUSE_S)
    found.notes.append("state and archive were not compared to the end: the shard is being folded all the time")
    return False


def _spans_of_some(held: dict[bytes, bytes], users: set[bytes] | None) -> pa.Table:
    return spans_of(held if users is None else {user: held[user] for user in users if user in held})


def _read_again(store: CheckedStore, found: Findings, users: set[bytes], held: dict[bytes, bytes]) -> bool:
    """Read some users' spans again; tell whether they can be read, which was said before where they cannot."""
    names = sorted(users)
    for user, value in zip(names, store.spans(found.shard, names), strict=True):
        held.pop(user, None)
        if value is not None:
            held[user] = value
    try:
        _spans_of_some(held, users)
    except ValueError:
        return False
    return True


def _described(spans: pa.Table, user: bytes) -> str:
    own = spans.filter(pc.equal(spans["user"], pa.scalar(user, pa.large_binary())))
    if not len(own):
        return "no spans"
    sums = {name: pc.sum(own[name]).as_py() for name in own.column_names[5:]}
    return (
        f"{len(own):,} spans of {sums['events']:,} events; {sums['closed_seconds']:,} s in {sums['closed_sessions']:,} "
        f"sessions from open to close, {sums['unclosed']:,} opens unclosed, {sums['late']:,} events too late for that"
    )
