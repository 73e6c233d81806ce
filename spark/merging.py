"""Stored spans and new ones merged, and what the report's numbers become: integers in order, no text, no object a row.

Users, flyers and merchants are places in dictionaries. One sort of (user, flyer, merchant) brings together what merges;
sums and extremes of stretches do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from functions.core.spans import NOT_KEPT
from spark import openings
from spark.columns import TotalsColumns
from spark.openings import FreshMoments, OpeningColumns
from spark.sorting import order_of
from spark.span_columns import HeldSpans
from spark.stretches import starts_of, sums_from
from spark.summing import ALL, SumChange, summary_of

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_SECOND_US = 1_000_000
_MOST_KEYS = 2**62
_PAIRS_A_ROW = 4
OPEN, CLOSE, MANY = 0, 1, -1
_LATEST = 2**63 - 1


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
    kind: npt.NDArray[np.int8]
    """OPEN or CLOSE where it is one event, else MANY: of a span that holds such the openings are no longer kept."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What the touched users' state becomes."""

    spans: HeldSpans
    """In the order of (user, flyer, merchant); each user has some."""
    changed: Ints
    """Users whose totals are other ones than before."""
    totals: TotalsColumns
    """Theirs."""
    merchant_names: list[str]
    """Those for whom some user's totals are others than before."""
    merchant_bounds: list[int]
    """Where each one's rows begin in the following two, and where the last one's end."""
    merchant_user: Ints
    merchant_totals: TotalsColumns
    late: int
    """Events that came too late for the openings."""
    sums: dict[bytes, SumChange]
    """Of those that are summed up and for whom some user's totals are others: the touched users' averages."""


def merge(
    user: Ints,
    users: int,
    fresh: PartialSpans,
    held: HeldSpans,
    lateness_us: int | None,
    summed: Collection[bytes] = (),
) -> Merged:
    """Return what becomes of stored spans with new ones.

    Args:
        user: Of each row of ``fresh``, its place among the users.
        users: How many there are; each has at least one row in ``fresh``.
        fresh: The new spans.
        held: The stored spans, row by row in the stored order, ``user`` being the place among the users.
        lateness_us: How far before the latest event of a span its openings are exact; None: they are not kept.
        summed: Merchants, or `ALL`, whose averages are summed up where they change.
    """
    flyer, flyers = _encoded(pa.concat_arrays([fresh.flyer_id, held.flyer_id]))
    merchant, merchants = _encoded(pa.concat_arrays([fresh.merchant_id, held.merchant_id]))
    all_user = np.concatenate((user, held.user))
    pair = _dense(flyer * len(merchants) + merchant, len(flyers) * len(merchants), users)
    key = all_user * (int(pair.max(initial=0)) + 1) + pair
    order = order_of(key)
    starts = starts_of(key[order])
    firsts = order[starts]
    first_us = np.minimum.reduceat(np.concatenate((fresh.first_us, held.first_us))[order], starts)
    last_us = np.maximum.reduceat(np.concatenate((fresh.last_us, held.last_us))[order], starts)
    events = sums_from(starts, np.concatenate((fresh.events, held.events))[order])
    row_user, row_flyer, row_merchant = all_user[firsts], flyer[firsts], merchant[firsts]
    row = np.empty(len(order), np.int64)
    row[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    opened = _openings(fresh, held, order, row, len(starts), lateness_us)

    rows_before = _rows(held.first_us, held.last_us, held.events, held.openings)
    rows_after = _rows(first_us, last_us, events, opened)
    before = _of_users(users, held.user, flyer[len(user) :], rows_before)
    after = _of_users(users, row_user, row_flyer, rows_after)
    changed = np.flatnonzero(after.differ(before))
    least = 1 if pc.index(merchants, "").as_py() == 0 else 0  # an empty name is the first of all, and no merchant
    keyed_before = _of_merchants(merchant[len(user) :], held.user, users, least, rows_before)
    keyed = _of_merchants(row_merchant, row_user, users, least, rows_after)
    merchant_changed = np.ones(len(keyed.key), np.bool_)
    places = np.searchsorted(keyed.key, keyed_before.key)
    merchant_changed[places] = keyed.totals.take(places).differ(keyed_before.totals)
    key = keyed.key[merchant_changed]
    owner = key // users
    owners = starts_of(owner)
    names = merchants.take(pa.array(owner[owners])).to_pylist()
    sums = {}
    if ALL in summed and len(changed):
        sums[ALL] = SumChange(summary_of(before), summary_of(after))
    for name, number in zip(names, owner[owners].tolist(), strict=True) if len(summed) > len(sums) else ():
        if (encoded := name.encode()) in summed:
            sums[encoded] = SumChange(*(summary_of(each.of(number, users)) for each in (keyed_before, keyed)))
    return Merged(
        spans=HeldSpans(
            row_user,
            flyers.take(pa.array(row_flyer)),
            merchants.take(pa.array(row_merchant)),
            first_us,
            last_us,
            events,
            opened,
        ),
        changed=changed,
        totals=after.take(changed),
        merchant_names=names,
        merchant_bounds=[*owners.tolist(), len(key)],
        merchant_user=key % users,
        merchant_totals=keyed.totals.take(merchant_changed),
        late=int(opened.late.sum() - held.openings.late[opened.kept[row[len(user) :]]].sum()),
        sums=sums,
    )


def _openings(
    fresh: PartialSpans, held: HeldSpans, order: Ints, row: Ints, rows: int, lateness_us: int | None
) -> OpeningColumns:
    """Return the openings of all rows.

    Args:
        fresh: The new spans.
        held: The stored ones.
        order: Of fresh spans and then held ones, by their place among all.
        row: That place of each.
        rows: How many there are.
        lateness_us: As in `merge`.
    """
    new = len(fresh.first_us)
    kept = np.ones(rows, np.bool_)
    kept[row[new:]] = held.openings.kept
    lost = np.ones(new, np.bool_) if lateness_us is None else fresh.kind == MANY
    kept[row[:new][lost]] = False
    by_row = order[order < new]
    moments = FreshMoments(row[by_row], fresh.first_us[by_row], fresh.kind[by_row] == CLOSE)
    return openings.merge(moments, row[new:], held.first_us, held.openings, kept, lateness_us or 0)


def _encoded(texts: pa.Array) -> tuple[Ints, pa.Array]:
    """Return each text's place among the distinct ones, which are in the order of their UTF-8."""
    encoded = texts.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()], encoded.dictionary.take(order)


def _dense(pair: Ints, pairs: int, users: int) -> Ints:
    """Return numbers in the same order, small enough for a key together with the user; small ones sort faster."""
    if pairs <= _PAIRS_A_ROW * len(pair):
        there = np.zeros(pairs, np.bool_)
        there[pair] = True
        return (np.cumsum(there) - 1)[pair]
    if pairs * users < _MOST_KEYS:
        return pair
    return np.unique(pair, return_inverse=True)[1].astype(np.int64)


def _seconds(first_us: Ints, last_us: Ints) -> Ints:
    return last_us // _SECOND_US - first_us // _SECOND_US


@dataclass(frozen=True, slots=True)
class _Rows:
    """What totals are made of, span by span."""

    first_us: Ints
    last_us: Ints
    events: Ints
    kept: Ints
    """1 where openings are kept, else 0, as the next three then are."""
    closed_seconds: Ints
    closed_sessions: Ints
    unclosed: Ints

    def take(self, order: Ints) -> _Rows:
        """Return them in another order."""
        return _Rows(*(getattr(self, name)[order] for name in self.__slots__))

    def closed(self, starts: Ints) -> tuple[Ints, Ints, Ints]:
        """Return what totals of stretches of rows have of openings."""
        some = sums_from(starts, self.kept) > 0
        seconds, sessions, unclosed = (
            sums_from(starts, column) for column in (self.closed_seconds, self.closed_sessions, self.unclosed)
        )
        return seconds, np.where(some, sessions, NOT_KEPT), np.where(some, unclosed, NOT_KEPT)


def _rows(first_us: Ints, last_us: Ints, events: Ints, opened: OpeningColumns) -> _Rows:
    return _Rows(first_us, last_us, events, opened.kept.astype(np.int64), *opened.totals())


def _of_users(users: int, user: Ints, flyer: Ints, rows: _Rows) -> TotalsColumns:
    """Return each user's totals; a flyer's spans under several merchants merge into one first.

    A user's rows stand together, and in them those of a flyer. Who has none has an impossible first and last moment.
    """
    nothing = (0, 0, _LATEST, -_LATEST, 0, NOT_KEPT, NOT_KEPT)
    totals = TotalsColumns(*(np.full(users, value, np.int64) for value in nothing))
    if len(user):
        flyers = starts_of(user, flyer)
        first_us, last_us = np.minimum.reduceat(rows.first_us, flyers), np.maximum.reduceat(rows.last_us, flyers)
        pairs = sums_from(flyers, rows.events) - 1
        owner = user[flyers]
        owners = starts_of(owner)
        some = owner[owners]
        totals.seconds[some] = sums_from(owners, _seconds(first_us, last_us))
        totals.sessions[some] = sums_from(owners, pairs)
        totals.first_us[some] = np.minimum.reduceat(first_us, owners)
        totals.last_us[some] = np.maximum.reduceat(last_us, owners)
        closed = rows.closed(flyers[owners])
        totals.closed_seconds[some], totals.closed_sessions[some], totals.unclosed[some] = closed
    return totals


class _Keyed(NamedTuple):
    """Totals of users at merchants."""

    key: Ints
    """A merchant times the number of users plus a user; each comes once, and in order."""
    totals: TotalsColumns

    def of(self, merchant: int, users: int) -> TotalsColumns:
        """Return one merchant's."""
        return self.totals.take(np.arange(*np.searchsorted(self.key, (merchant * users, (merchant + 1) * users))))


def _of_merchants(merchant: Ints, user: Ints, users: int, least: int, rows: _Rows) -> _Keyed:
    """Return the totals of users at merchants, from the merchant ``least`` on; the rows are in the order of users."""
    order = order_of(merchant)
    order = order[np.searchsorted(merchant[order], least) :]
    key, rows = merchant[order] * users + user[order], rows.take(order)
    starts = starts_of(key)
    if not len(starts):
        return _Keyed(starts, TotalsColumns(*(starts for _ in range(7))))
    totals = TotalsColumns(
        sums_from(starts, _seconds(rows.first_us, rows.last_us)),
        sums_from(starts, rows.events - 1),
        np.minimum.reduceat(rows.first_us, starts),
        np.maximum.reduceat(rows.last_us, starts),
        *rows.closed(starts),
    )
    return _Keyed(key[starts], totals)
