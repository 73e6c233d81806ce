"""Summaries kept with the averages: what becomes of them where some users' averages change.

A summary is sums and counts, so those users leave it as they were and come back as they are: what a fold does for it
follows from what has changed, not from how much the store holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from functions.core.report_rows import hundredths_of, rows_of_users
from functions.core.report_summary import Summary
from functions.core.spans import COMPUTED, NO_SESSION, NOT_KEPT
from functions.core.summary_packing import pack_counts, unpack_summary
from spark import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functions.adapters.redis_shard import ShardStore
    from functions.core.ledger import ShardLedger
    from spark.columns import TotalsColumns

ALL: Final = b""
"""In place of a merchant: the averages over all flyers."""
_COUNTED: Final = 100_000
"""Hundredths of an hour below this are counted by their place in an array."""


class SumChange(NamedTuple):
    """The same users' averages before and after."""

    before: Summary
    after: Summary


def summaries_after(store: ShardStore, ledger: ShardLedger, changes: Mapping[bytes, SumChange]) -> dict[bytes, bytes]:
    """Return the packed summaries after a change, by merchant, of those that were up to date before.

    Args:
        store: Where they are kept.
        ledger: The shard's books, from before anything of the change was read.
        changes: What changes for whom.
    """
    if not changes:
        return {}
    packed: dict[bytes, bytes] = {}
    for name, (kept, version) in zip(changes, store.kept_summaries(ledger.shard, [*changes]), strict=True):
        summary = _current(kept, ledger.version if name == ALL else version)
        rest = None if summary is None else summary.without(changes[name].before)
        if rest is None:
            continue
        rest.merge(changes[name].after)
        if (counts := pack_counts(rest)) is not None:
            packed[name] = counts
    return packed


def _current(kept: bytes | None, version: int) -> Summary | None:
    """Return a kept summary, an empty one of averages that were never there; None where it is not of this version."""
    if not version:
        return Summary()
    unpacked = None if kept is None else unpack_summary(kept)
    return unpacked[0] if unpacked is not None and unpacked[1] == version else None


def summary_of_pages(pages: Iterable[Mapping[bytes, bytes]]) -> Summary:
    """Return the summary of users from pages of an averages hash, in which one may come twice.

    Raises:
        ValueError: A value is of a format that this version does not read.
    """
    summary = Summary()
    seen: set[bytes] = set()
    for page in pages:
        values = [value for user, value in page.items() if user not in seen]
        seen |= page.keys()
        summary.add(rows_of_users(values, values))
    return summary


def summary_of(totals: TotalsColumns) -> Summary:
    """Return the summary of users from their totals; who has no session is not in it."""
    hundredths = columns.hundredths_of(totals.seconds, totals.sessions)
    there = hundredths != NO_SESSION
    if not there.all():
        hundredths, totals = hundredths[there], totals.take(there)
    kept = totals.unclosed != NOT_KEPT
    summary = Summary(
        users=len(hundredths),
        sessions=int(totals.sessions.sum()),
        seconds=int(totals.seconds.sum()),
        closed_sessions=int(totals.closed_sessions[kept].sum()),
        unclosed=int(totals.unclosed[kept].sum()),
        not_kept_users=len(kept) - int(np.count_nonzero(kept)),
    )
    few = hundredths[hundredths < _COUNTED]
    counts = np.bincount(few)
    places = np.flatnonzero(counts)
    summary.count(zip(places.tolist(), counts[places].tolist(), strict=True))
    many = hundredths >= _COUNTED
    if many.any():
        computed = many & (hundredths == COMPUTED)
        exact = hundredths_of(totals.seconds[computed].tolist(), totals.sessions[computed].tolist())
        summary.count((value, 1) for value in [*hundredths[many & ~computed].tolist(), *exact])
    return summary
