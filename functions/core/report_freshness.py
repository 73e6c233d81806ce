"""How fresh an answer is: up to when it is complete, what is pending, what ran last, and by when the next run comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functions.core.ledger import position_of
from functions.core.timestamps import format_us

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.core.ledger import ShardLedger


@dataclass(frozen=True, slots=True)
class Freshness:
    """Of one answer, by the books at one moment; it changes only when these do."""

    complete_through_ms: int | None
    """Every event that was received up to this moment is in the report; None where none ever was."""
    pending_events: int | None
    """None: this reader is not told how many events there are, here or in the last run."""
    next_run_by_ms: int | None
    """By when a run that folds the pending events is started at the latest; None where none are pending."""
    last_run: Mapping[str, str] | None

    def for_one_merchant(self) -> Freshness:
        """Return what a reader of one merchant is shown: not how much all of them send, and when by the second only.

        It still tells whether anything is pending: ``next_run_by_ms`` is there.
        """
        through_ms, run_by_ms = self.complete_through_ms, self.next_run_by_ms
        return Freshness(
            complete_through_ms=None if through_ms is None else through_ms // 1000 * 1000,
            pending_events=None,
            next_run_by_ms=None if run_by_ms is None else -(-run_by_ms // 1000) * 1000,
            last_run=self.last_run,
        )

    def shown(self) -> dict[str, Any]:
        """Return it for a JSON body."""
        run = self.last_run
        return {
            "complete_through": _moment(self.complete_through_ms),
            "pending_events": self.pending_events,
            "last_run": None
            if run is None
            else {
                "run": run.get("run"),
                "state": run.get("state"),
                "started_at": run.get("started_at"),
                "ended_at": run.get("ended_at"),
                "events": int(run.get("events") or 0) if self.pending_events is not None else None,
            },
            "next_run_by": _moment(self.next_run_by_ms),
        }

    def headers(self) -> dict[str, str]:
        """Return it as headers of a reply; one that has nothing to say is not there."""
        run = self.last_run or {}
        headers = {
            "flyertime-complete-through": _moment(self.complete_through_ms),
            "flyertime-pending-events": None if self.pending_events is None else str(self.pending_events),
            "flyertime-last-run": run.get("ended_at"),
            "flyertime-last-run-state": run.get("state"),
            "flyertime-next-run-by": _moment(self.next_run_by_ms),
        }
        return {name: value for name, value in headers.items() if value}


def freshness_of(ledgers: Sequence[ShardLedger], last_run: Mapping[str, str] | None, max_age_s: float) -> Freshness:
    """Return the freshness of what the shards have folded.

    Args:
        ledgers: All shards' books.
        last_run: What is on record of the last run.
        max_age_s: The age of an event at which trigger starts a run for it, whatever the threshold.
    """
    oldest_ms = min(
        (ledger.oldest_pending_ms for ledger in ledgers if ledger.oldest_pending_ms is not None), default=None
    )
    folded_ms = max((position_of(ledger.folded_to)[0] for ledger in ledgers), default=0)
    return Freshness(
        complete_through_ms=(folded_ms or None) if oldest_ms is None else oldest_ms - 1,
        pending_events=sum(ledger.pending for ledger in ledgers),
        next_run_by_ms=None if oldest_ms is None else oldest_ms + int(max_age_s * 1000),
        last_run=last_run,
    )


def _moment(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else format_us(moment_ms * 1000)
