"""Summaries that are kept in the store: whoever made one spares all others the averages, until these change.

The report keeps what it has made; each commit of a run then changes that by the users whose averages it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.adapters import metrics
from functions.adapters.redis_client import load_script
from functions.adapters.redis_report import ReportStore
from functions.core.errors import FlyertimeError
from functions.core.summary_packing import pack_summary, unpack_summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.core.report_summary import Summary

_KEEP: Final = load_script("keep_summaries")


class KeptSummary(NamedTuple):
    """What averages come to."""

    shard: int
    merchant: str | None
    """Whose averages; None: of all together."""
    version: int
    """Of the averages, microseconds."""
    summary: Summary


class SummaryStore(ReportStore):
    """What asks for averages and for what they come to."""

    @metrics.timed_trip("report_summaries")
    async def kept_summaries(self, merchant: str | None, shards: Sequence[int], generation: int) -> list[KeptSummary]:
        """Return the summaries of one merchant, or of all together, of those shards that have one; perhaps an old one.

        Args:
            merchant: Whose.
            shards: Of which shards.
            generation: Of the state; where another one is live by now there is none.
        """
        replies = await self._of_live(
            lambda keys, _: [("HGET", keys.summaries(shard), merchant or "") for shard in shards], self._ask_for_much
        )
        if self.keys.generation != generation:
            return []
        found = []
        for shard, packed in zip(shards, replies, strict=True):
            if packed is not None and (unpacked := unpack_summary(packed)) is not None:
                summary, version = unpacked
                found.append(KeptSummary(shard, merchant, version, summary))
        return found

    @metrics.timed_trip("report_keep_summaries")
    async def keep_summaries(self, summaries: Iterable[KeptSummary], generation: int) -> int:
        """Keep summaries of averages that have not changed since they were read; return how many those are.

        Raises:
            FlyertimeError: Perhaps not all are kept. Nothing else hangs on them.
        """
        keys = self.keys
        if keys.generation != generation:
            return 0
        calls: dict[int, tuple[list[str], list[Any]]] = {}
        for kept in summaries:
            if (packed := pack_summary(kept.summary, kept.version)) is None:
                continue
            shard = kept.shard
            names = [keys.ledger(shard), keys.versions(shard), keys.summaries(shard)]
            arguments = calls.setdefault(shard, (names, []))[1]
            arguments += [kept.merchant or "", kept.version, packed]
        done = 0
        for count in await self._call_script(_KEEP, [*calls.values()]) if calls else []:
            if isinstance(count, FlyertimeError):
                raise count
            done += int(count)
        return done
