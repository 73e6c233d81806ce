"""Folding one shard: its log in rounds, spans of the new events, merged with the stored ones, committed.

A shard holds all of its users, so nothing is shuffled; a round bounds the memory; a commit that another one has
overtaken changes nothing and its round is read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from functions.adapters.redis_shard import Change, Superseded
from functions.core import packing
from functions.core.errors import FlyertimeError
from functions.core.events import FLYER_EVENTS
from functions.core.ledger import position_of
from spark import columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functions.adapters.redis_shard import ShardStore
    from functions.core.ledger import ShardLedger

MAX_SUPERSEDED: Final = 100
"""Rounds in a row that may be overtaken before a job leaves the shard to whoever is faster."""

_SPAN_KEY: Final = ["user", "flyer_id", "merchant_id"]


class DamagedLogError(FlyertimeError):
    """An entry of the log cannot be read; the shard waits until somebody looks at it."""


@dataclass(slots=True)
class Folded:
    """What was done with one shard."""

    shard: int
    events: int = 0
    rounds: int = 0
    superseded: int = 0
    users: int = 0
    """Users whose state was written, counted once a round."""
    error: str = ""
    """Why the shard was left before its bound; empty where it was not."""
    retryable: bool = False


def fold_shard(store: ShardStore, shard: int, upto: str, round_events: int) -> Folded:
    """Fold a shard's log up to and including the entry ``upto``, in rounds of about ``round_events`` events.

    Raises:
        UnavailableError: The store does not answer.
        DamagedLogError: An entry cannot be read.
    """
    done = Folded(shard)
    in_a_row = 0
    ledger = store.ledger(shard)
    entries = store.log(shard, ledger.folded_to, upto)
    while position_of(ledger.folded_to) < position_of(upto):
        last_id, batch, events = _read_round(shard, entries, round_events)
        if not batch:
            break  # what the bound named is gone: another job has folded it, or the store was set back
        change = change_of(store, ledger, last_id, batch, events)
        answer = store.commit(change)
        if isinstance(answer, Superseded):
            done.superseded += 1
            in_a_row += 1
            if in_a_row >= MAX_SUPERSEDED:
                raise FlyertimeError("superseded", f"shard {shard}: overtaken {MAX_SUPERSEDED} times ({answer.reason})")
            ledger = store.ledger(shard)
            entries = store.log(shard, ledger.folded_to, upto)
            continue
        done.events += events
        done.users += len(change.spans)
        done.rounds += 1
        ledger = store.ledger(shard)
    return done


def _read_round(shard: int, entries: Iterator[tuple[str, bytes]], round_events: int) -> tuple[str, list[bytes], int]:
    """Return the id of the last entry, the entries and the number of events of the next round."""
    batch: list[bytes] = []
    events = 0
    last_id = ""
    for entry_id, entry in entries:
        try:
            events += packing.read_header(entry)[0]
        except ValueError as e:
            raise DamagedLogError("damaged_log", f"shard {shard}, log entry {entry_id}: {e}") from e
        last_id = entry_id
        batch.append(entry)
        if events >= round_events:
            break
    return last_id, batch, events


def change_of(store: ShardStore, ledger: ShardLedger, last_id: str, batch: Sequence[bytes], events: int) -> Change:
    """Return what a shard's state becomes with these log entries folded in."""
    fresh = spans_of_log(batch)
    users = fresh["user_id"].unique(maintain_order=True)  # sorted, as the spans are
    names = [name.encode() for name in users.to_list()]
    held_values = store.spans(ledger.shard, names)
    places = np.array([place for place, value in enumerate(held_values) if value is not None], np.uint32)
    held = columns.unpack_spans([value for value in held_values if value is not None])
    held = held.with_columns(user=pl.Series(places[held["user"].to_numpy()]))
    fresh = fresh.with_columns(user=(pl.col("user_id").rle_id()).cast(pl.UInt32)).select(columns.SPAN_COLUMNS)
    merged = merge_spans(pl.concat([held.select(columns.SPAN_COLUMNS), fresh]))

    touched = fresh.select("user", "merchant_id").unique()
    before, after = _totals(held), _totals(merged)
    merchants_after = _merchant_totals(merged.join(touched, ["user", "merchant_id"], "semi"))
    merchants: dict[bytes, dict[bytes, bytes]] = {}
    packed = columns.pack_averages(merchants_after["seconds"], merchants_after["sessions"])
    for merchant, user, average in zip(
        merchants_after["merchant_id"].to_list(), merchants_after["user"].to_list(), packed, strict=True
    ):
        merchants.setdefault(merchant.encode(), {})[names[user]] = average
    return Change(
        shard=ledger.shard,
        commits=ledger.commits,
        folded_to=last_id,
        events=events,
        report_changes=_shows_otherwise(before, after),
        spans=dict(zip(names, columns.pack_spans(merged), strict=True)),
        averages=dict(
            zip(
                [names[user] for user in after["user"].to_list()],
                columns.pack_averages(after["seconds"], after["sessions"]),
                strict=True,
            )
        ),
        merchants=merchants,
    )


def spans_of_log(batch: Sequence[bytes]) -> pl.DataFrame:
    """Return the spans of log entries, by ``user_id``, sorted."""
    return (
        columns.events_frame(columns.unpack_log(batch))
        .filter(pl.col("event").is_in(FLYER_EVENTS) & pl.col("flyer_id").is_not_null())
        .group_by("user_id", "flyer_id", pl.col("merchant_id").fill_null(""))
        .agg(
            first_us=pl.col("timestamp_us").min(),
            last_us=pl.col("timestamp_us").max(),
            events=pl.len().cast(pl.Int64),
        )
        .sort("user_id", "flyer_id", "merchant_id")
    )


def merge_spans(frame: pl.DataFrame) -> pl.DataFrame:
    """Return one span for each (user, flyer_id, merchant_id), sorted by them."""
    return (
        frame.group_by(_SPAN_KEY)
        .agg(pl.col("first_us").min(), pl.col("last_us").max(), pl.col("events").sum())
        .sort(_SPAN_KEY)
    )


def _totals(frame: pl.DataFrame) -> pl.DataFrame:
    """Return each user's seconds and sessions; a flyer's spans under several merchants merge into one first."""
    flyers = frame.group_by("user", "flyer_id").agg(
        pl.col("first_us").min(), pl.col("last_us").max(), pl.col("events").sum()
    )
    return _summed(flyers, ["user"])


def _merchant_totals(frame: pl.DataFrame) -> pl.DataFrame:
    """Return each user's seconds and sessions on each merchant's flyers; no merchant has an empty name."""
    return _summed(frame.filter(pl.col("merchant_id") != ""), ["user", "merchant_id"])


def _summed(frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return (
        frame.group_by(key)
        .agg(
            seconds=(pl.col("last_us") // 1_000_000 - pl.col("first_us") // 1_000_000).sum(),
            sessions=(pl.col("events") - 1).sum(),
        )
        .filter(pl.col("sessions") > 0)
        .sort(key)
    )


def _shows_otherwise(before: pl.DataFrame, after: pl.DataFrame) -> bool:
    """Tell whether the report of all users shows anything after that it did not before; who is in it stays in it."""
    if len(before) != len(after):
        return True
    shown_before = columns.hundredths_of_hours(before["seconds"], before["sessions"])
    shown_after = columns.hundredths_of_hours(after["seconds"], after["sessions"])
    return not np.array_equal(shown_before, shown_after)
