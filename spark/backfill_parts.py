"""Merging history's spans into one shard: in parts of whole users, each committed with the place that it reaches.

The users of a shard come in the order of their place, the CRC-32 of their id. A commit records the last place that it
counts in the same step, so whatever is killed or doubled, a user's history is counted once: who comes next reads the
record and goes on after it.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from functions.adapters.redis_shard import BackfillPart, Superseded
from functions.core.errors import FlyertimeError
from spark.folding import MAX_SUPERSEDED, change_with
from spark.merging import MANY, PartialSpans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from functions.adapters.redis_history import HistoryStore
    from spark.archive import Archive
    from spark.columns import Ints

SPANS_SCHEMA: Final = (
    "shard int, place long, user_id string, flyer_id string, merchant_id string, "
    "first_us long, last_us long, events long, is_close boolean"
)
"""What a part is made of; the rows of a shard stand together, in the order of place. ``is_close`` is null where a row
is more than one event."""
_MOST_OF_A_USER: Final = 10
"""Parts that one user's events may fill; where there are more, they become spans, and their openings are not kept."""


@dataclass(slots=True)
class Merged:
    """What was done with some part."""

    shard: int
    events: int = 0
    users: int = 0
    commits: int = 0
    superseded: int = 0


def parts_of(batches: Iterable[pa.RecordBatch], most_spans: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield (shard, its next spans): about ``most_spans`` at a time, and all of a user's together."""
    held = pa.table({})
    bearable = _MOST_OF_A_USER * most_spans
    for batch in batches:
        new = pa.Table.from_batches([batch])
        held = pa.concat_tables([held, new]) if len(held) else new
        while len(held) > most_spans:
            cut = _cut(held, most_spans)
            if cut is None:
                if len(held) > bearable:
                    held = _as_spans(held)
                    bearable = max(bearable, 2 * len(held))
                break  # more of the last user may follow
            yield from _by_shard(held[:cut])
            held = held[cut:]
            bearable = _MOST_OF_A_USER * most_spans
    if len(held):
        yield from _by_shard(held)


def _as_spans(rows: pa.Table) -> pa.Table:
    """Return what some rows are by flyer and merchant: as many as there are spans, however many events these have."""
    keys = ["shard", "place", "user_id", "flyer_id", "merchant_id"]
    merged = rows.group_by(keys).aggregate([("first_us", "min"), ("last_us", "max"), ("events", "sum")])
    merged = merged.rename_columns({"first_us_min": "first_us", "last_us_max": "last_us", "events_sum": "events"})
    many = pa.nulls(len(merged), rows.schema.field("is_close").type)
    return merged.append_column("is_close", many).select(rows.column_names).cast(rows.schema)


def merge_part(
    store: HistoryStore,
    backfill: str,
    shard: int,
    spans: pa.Table,
    lateness_us: int | None,
    archive: Archive | None = None,
) -> Merged:
    """Merge spans into a shard's state and commit them, those that this backfill has not counted yet.

    Where there is an archive they are written to it before: a rebuild has no other way to them.

    Raises:
        UnavailableError: The store or the archive does not answer.
        FlyertimeError: Others are always faster.
    """
    done = Merged(shard)
    places = spans["place"].to_numpy()
    for _ in range(MAX_SUPERSEDED):
        ledger = store.open_ledger(shard)  # before the place: a commit in between makes ours void
        left = spans.slice(int(np.searchsorted(places, store.backfilled_upto(shard, backfill), "right")))
        if not len(left):
            return done
        fresh = partial_spans(left)
        events = int(fresh.events.sum())
        change = dataclasses.replace(
            change_with(store, ledger, "", events, fresh, lateness_us),
            part=BackfillPart(backfill, int(places[-1])),
            archived=archive.write_history(ledger, backfill, left) if archive else None,
        )
        if not isinstance(store.commit(change), Superseded):
            done.events, done.users, done.commits = events, change.users, 1
            return done
        done.superseded += 1
        if archive and change.archived:
            archive.remove([change.archived.path])
    raise FlyertimeError("superseded", f"shard {shard}: overtaken {MAX_SUPERSEDED} times by other runs; try again")


def partial_spans(spans: pa.Table) -> PartialSpans:
    """Return rows of history as a merge takes them."""
    user_id, flyer_id, merchant_id = (
        spans[name].combine_chunks().cast(pa.large_string()) for name in ("user_id", "flyer_id", "merchant_id")
    )
    first_us, last_us, events = (spans[name].to_numpy() for name in ("first_us", "last_us", "events"))
    kinds = pc.fill_null(spans["is_close"].cast(pa.int8()), MANY).to_numpy()
    return PartialSpans(user_id, flyer_id, merchant_id, first_us, last_us, events, kinds)


def _cut(spans: pa.Table, most: int) -> int | None:
    """Return where a user begins: the last one up to ``most``, else the first one; None where there is but one."""
    begins = _begins(spans["shard"].to_numpy(), spans["place"].to_numpy())
    if not len(begins):
        return None
    return int(begins[max(0, int(np.searchsorted(begins, most, "right")) - 1)])


def _by_shard(spans: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    shards = spans["shard"].to_numpy()
    bounds = [0, *_begins(shards, shards).tolist(), len(shards)]
    for start, end in itertools.pairwise(bounds):
        yield int(shards[start]), spans[start:end]


def _begins(first: Ints, second: Ints) -> Ints:
    return np.flatnonzero((first[1:] != first[:-1]) | (second[1:] != second[:-1])) + 1
