"""Making summaries anew: what averages come to, of those that readers ask for and that have changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from functions.adapters import arrow_rows
from functions.adapters.redis_regular import Regular
from functions.adapters.redis_summaries import KeptSummary, SummaryStore
from functions.core.report_rows import rows_of_users
from functions.core.report_summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.core.settings import Settings


class _Stale(NamedTuple):
    """A summary of averages that have changed since."""

    shard: int
    merchant: str | None
    version: int
    """Of the averages by now."""
    users: int
    """Of the shard."""


async def sum_up(settings: Settings, is_over: Callable[[], bool] = lambda: False) -> tuple[int, int]:
    """Make those summaries anew that are kept of other averages than the store holds now.

    Args:
        settings: Of the pipeline.
        is_over: Is asked before each; where it says so, the rest is left.

    Returns:
        How many were kept, and how many were to be made.
    """
    store = SummaryStore(settings)
    try:
        state = await store.state(merchants=True)
        stale: list[_Stale] = []
        for shard, kept in enumerate(await store.wanted_summaries(len(state.shards), state.generation)):
            held = state.shards[shard]
            versions = {"": held.version, **state.merchants[shard]}
            stale += [
                _Stale(shard, name or None, versions[name], held.users)
                for name, version in kept.items()
                if versions.get(name, version) != version
            ]
        stale.sort(key=lambda each: (each.merchant is not None, each.shard))  # those of all first
        done = 0
        for each in stale:
            if is_over():
                break
            summary = Summary()
            try:
                async for values in store.values(each.shard, each.merchant, each.users):
                    summary.merge(summary_of(values))
            except ValueError:  # of a format that this version does not read, which the report says when it is asked
                continue
            made = KeptSummary(each.shard, each.merchant, each.version, summary)
            done += await store.keep_summaries([made], state.generation)
        return done, len(stale)
    finally:
        await store.close()


def summary_of(values: Sequence[bytes] | Regular) -> Summary:
    """Return what some averages come to."""
    found = arrow_rows.summary_of(values)
    if found is None:
        some = values.columns()[0] if isinstance(values, Regular) else values
        found = Summary()
        found.add(rows_of_users(some, some))
    return found
