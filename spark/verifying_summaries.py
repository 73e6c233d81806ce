"""Verifying summaries: those that are kept and would be shown against what the averages come to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from functions.core.summary_packing import unpack_summary
from spark.findings import MOST_TRIES, PAUSE_S
from spark.summing import summary_of_pages

if TYPE_CHECKING:
    from functions.adapters.redis_checks import CheckedStore
    from functions.core.report_summary import Summary
    from spark.findings import Findings

_WORDS: Final = {
    "users": "users",
    "sessions": "sessions",
    "seconds": "s",
    "closed_sessions": "sessions from open to close",
    "unclosed": "opens unclosed",
    "not_kept_users": "users without opens",
}
"""What is told of a summary that differs."""


def check_summaries(store: CheckedStore, found: Findings) -> None:
    """Compare each summary of a shard that is of the averages' version; who has others by now is shown those anew."""
    for _ in range(MOST_TRIES):
        ledger = store.ledger(found.shard)
        versions = {b"": ledger.version, **store.versions(found.shard)}
        deviations = []
        for merchant, packed in sorted(store.summaries(found.shard).items()):
            kept = unpack_summary(packed)
            if kept is None or kept[1] != versions.get(merchant):
                continue
            made = _made(store, found.shard, merchant or None)
            if made is not None and made != kept[0]:
                way_out = f"if nothing else is wrong, DEL {store.keys.summaries(found.shard)} has it made anew"
                deviations.append(f"{_difference(merchant, kept[0], made)}; {way_out}")
        if store.ledger(found.shard).commits == ledger.commits:
            found.add(deviations)
            return
        time.sleep(PAUSE_S)
    found.notes.append("the summaries were not compared: the shard is being folded all the time")


def _made(store: CheckedStore, shard: int, merchant: bytes | None) -> Summary | None:
    """Return what averages come to; None where some cannot be read, which is said of them."""
    try:
        return summary_of_pages(store.average_pages(shard, merchant))
    except ValueError:
        return None


def _difference(merchant: bytes, kept: Summary, made: Summary) -> str:
    whose = f"merchant {merchant.decode()!r}" if merchant else "all users"
    differing = [name for name in _WORDS if getattr(kept, name) != getattr(made, name)]
    if not differing:
        return f"report: the summary of {whose} has users at other averages than theirs"
    has, give = (", ".join(f"{getattr(each, name):,} {_WORDS[name]}" for name in differing) for each in (kept, made))
    return f"report: the summary of {whose} has {has}; the averages give {give}"
