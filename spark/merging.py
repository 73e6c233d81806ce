"""Stored spans and new ones merged, and what the report's numbers become: integers in order, no text, no object a row.

Users, flyers and merchants are places in dictionaries. One sort of (user, flyer, merchant) brings together what merges;
sums and extremes of stretches do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark import columns

if TYPE_CHECKING:
    import numpy.typing as npt

    from spark.columns import HeldSpans, Ints

_SECOND_US = 1_000_000
_MOST_KEYS = 2**62


@dataclass(frozen=True, slots=True)
class PartialSpans:
    """New spans, by text, in any order and as often as one likes: an event is the span of one event."""

    user_id: pa.Array
    flyer_id: pa.Array
    merchant_id: pa.Array
    """Empty where it is null."""
    first_us: Ints
    last_us: Ints
    events: Ints


@dataclass(frozen=True, slots=True)
class Totals:
    """Seconds and sessions, before and after, of some keys."""

    seconds_before: Ints
    sessions_before: Ints
    seconds: Ints
    sessions: Ints

    def changed(self) -> npt.NDArray[np.bool_]:
        """Tell which have sessions, and others than before."""
        differs = (self.seconds != self.seconds_before) | (self.sessions != self.sessions_before)
        some: npt.NDArray[np.bool_] = (self.sessions > 0) & differs
        return some

    def shows_otherwise(self) -> bool:
        """Tell whether a report of these shows anything after that it did not before; who is in it stays in it."""
        some = self.changed()
        if np.any(some & (self.sessions_before == 0)):
            return True
        before = columns.hundredths_of_hours(self.seconds_before[some], self.sessions_before[some])
        return not np.array_equal(before, columns.hundredths_of_hours(self.seconds[some], self.sessions[some]))


@dataclass(frozen=True, slots=True)
class Merged:
    """What the touched users' state becomes."""

    spans: HeldSpans
    """In the order of (user, flyer, merchant); each user has some."""
    users: Totals
    """One a user."""
    merchant_names: list[str]
    """Those with changed averages."""
    merchant_bounds: list[int]
    """Where each one's rows begin in the following three, and where the last one's end."""
    merchant_user: Ints
    merchant_seconds: Ints
    merchant_sessions: Ints


def merge(user: Ints, users: int, fresh: PartialSpans, held: HeldSpans) -> Merged:
    """Return what becomes of stored spans with new ones.

    Args:
        user: Of each row of ``fresh``, its place among the users.
        users: How many there are; each has at least one row in ``fresh``.
        fresh: The new spans.
        held: The stored spans, row by row in the stored order, ``user`` being the place among the users.
    """
    flyer, flyers = _encoded(pa.concat_arrays([fresh.flyer_id, held.flyer_id]))
    merchant, merchants = _encoded(pa.concat_arrays([fresh.merchant_id, held.merchant_id]))
    all_user = np.concatenate((user, held.user))
    pair = _dense(flyer * len(merchants) + merchant, len(flyers) * len(merchants), users)
    order = np.argsort(all_user * (int(pair.max(initial=0)) + 1) + pair)
    by_user, by_flyer, by_merchant = all_user[order], flyer[order], merchant[order]
    starts = _starts(by_user, by_flyer, by_merchant)
    first_us = np.minimum.reduceat(np.concatenate((fresh.first_us, held.first_us))[order], starts)
    last_us = np.maximum.reduceat(np.concatenate((fresh.last_us, held.last_us))[order], starts)
    events = np.add.reduceat(np.concatenate((fresh.events, held.events))[order], starts)
    none_before = np.zeros(len(user), np.int64)
    seconds_before = np.concatenate((none_before, _seconds(held.first_us, held.last_us)))[order]
    sessions_before = np.concatenate((none_before, held.events - 1))[order]
    row_user, row_flyer, row_merchant = by_user[starts], by_flyer[starts], by_merchant[starts]
    by_merchants = _of_merchants(
        row_user,
        row_merchant,
        users,
        np.flatnonzero(pc.equal(merchants, "").to_numpy(zero_copy_only=False)),
        Totals(
            np.add.reduceat(seconds_before, starts),
            np.add.reduceat(sessions_before, starts),
            _seconds(first_us, last_us),
            events - 1,
        ),
    )
    names, bounds, merchant_user, merchant_seconds, merchant_sessions = by_merchants
    held_flyer = flyer[len(user) :]
    return Merged(
        spans=columns.HeldSpans(
            row_user,
            flyers.take(pa.array(row_flyer)),
            merchants.take(pa.array(row_merchant)),
            first_us,
            last_us,
            events,
        ),
        users=Totals(
            *_of_users(users, held.user, held_flyer, held.first_us, held.last_us, held.events),
            *_of_users(users, row_user, row_flyer, first_us, last_us, events),
        ),
        merchant_names=merchants.take(pa.array(names)).to_pylist(),
        merchant_bounds=bounds,
        merchant_user=merchant_user,
        merchant_seconds=merchant_seconds,
        merchant_sessions=merchant_sessions,
    )


def _encoded(texts: pa.Array) -> tuple[Ints, pa.Array]:
    """Return each text's place among the distinct ones, which are in the order of their UTF-8."""
    encoded = texts.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()], encoded.dictionary.take(order)


def _dense(pair: Ints, pairs: int, users: int) -> Ints:
    """Return numbers in the same order, small enough for a key together with the user."""
    if pairs * users < _MOST_KEYS:
        return pair
    return np.unique(pair, return_inverse=True)[1].astype(np.int64)


def _starts(*keys: npt.NDArray[Any]) -> Ints:
    """Return where stretches of equal keys begin."""
    differs = np.ones(len(keys[0]), np.bool_)
    if len(differs):
        differs[1:] = keys[0][1:] != keys[0][:-1]
        for key in keys[1:]:
            differs[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(differs)


def _seconds(first_us: Ints, last_us: Ints) -> Ints:
    return last_us // _SECOND_US - first_us // _SECOND_US


def _of_users(users: int, user: Ints, flyer: Ints, first_us: Ints, last_us: Ints, events: Ints) -> tuple[Ints, Ints]:
    """Return each user's seconds and sessions; a flyer's spans under several merchants merge into one first.

    A user's rows stand together, and in them those of a flyer.
    """
    seconds, sessions = np.zeros(users, np.int64), np.zeros(users, np.int64)
    if len(user):
        flyers = _starts(user, flyer)
        took = _seconds(np.minimum.reduceat(first_us, flyers), np.maximum.reduceat(last_us, flyers))
        pairs = np.add.reduceat(events, flyers) - 1
        owner = user[flyers]
        owners = _starts(owner)
        seconds[owner[owners]] = np.add.reduceat(took, owners)
        sessions[owner[owners]] = np.add.reduceat(pairs, owners)
    return seconds, sessions


def _of_merchants(
    user: Ints, merchant: Ints, users: int, nameless: Ints, rows: Totals
) -> tuple[Ints, list[int], Ints, Ints, Ints]:
    """Return the merchants whose averages change, with bounds, users, seconds and sessions; none has an empty name."""
    key = merchant * users + user
    named = ~np.isin(merchant, nameless)
    order = np.argsort(key[named])
    key = key[named][order]
    starts = _starts(key)
    if not len(starts):
        return starts, [0], starts, starts, starts
    totals = Totals(
        *(
            np.add.reduceat(column[named][order], starts)
            for column in (rows.seconds_before, rows.sessions_before, rows.seconds, rows.sessions)
        )
    )
    changed = totals.changed()
    key = key[starts][changed]
    owner = key // users
    owners = _starts(owner)
    return owner[owners], [*owners.tolist(), len(key)], key % users, totals.seconds[changed], totals.sessions[changed]
