"""Summaries that are kept in the store held against the averages that they are of, without the code that made them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from functions.adapters.redis_checks import CheckedStore
from functions.core.report_summary import Summary
from functions.core.spans import average_hours, unpack_totals
from functions.core.summary_packing import unpack_summary

if TYPE_CHECKING:
    from functions.core.settings import Settings


def plain_summary(values: list[bytes]) -> Summary:
    """Return what packed averages come to, one by one."""
    some = [totals for totals in map(unpack_totals, values) if totals.sessions]
    hundredths = [round(average_hours(totals.seconds, totals.sessions) * 100) for totals in some]
    known = [totals for totals in some if totals.unclosed is not None]
    return Summary(
        users=len(some),
        sessions=sum(totals.sessions for totals in some),
        seconds=sum(totals.seconds for totals in some),
        closed_sessions=sum(totals.closed_sessions or 0 for totals in known),
        unclosed=sum(totals.unclosed or 0 for totals in known),
        hundredths=Counter(value if value < 100_000 else value // 1000 * 1000 for value in hundredths),
        not_kept_users=len(some) - len(known),
    )


def current_summaries(settings: Settings) -> set[tuple[int, str]]:
    """Check the summaries that would be shown; return of which shards and merchants they are, '' for all users.

    Nothing may change meanwhile.
    """
    store = CheckedStore(settings)
    current: set[tuple[int, str]] = set()
    try:
        for shard in range(store.shards()):
            versions = {b"": store.ledger(shard).version, **store.versions(shard)}
            for merchant, packed in store.summaries(shard).items():
                kept = unpack_summary(packed)
                if kept is not None and kept[1] == versions[merchant]:
                    pages = store.average_pages(shard, merchant or None)
                    assert plain_summary([*{k: v for page in pages for k, v in page.items()}.values()]) == kept[0]
                    current.add((shard, merchant.decode()))
    finally:
        store.close()
    return current
