"""What became of a request's events, for metrics, for its log line and for its span."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.adapters import metrics
from functions.adapters.exchange import current
from functions.ingest.verdicts import Counts

if TYPE_CHECKING:
    from functions.ingest.submissions import Submissions
    from functions.ingest.verdicts import Outcome

_accepted, *_others = (metrics.EVENTS.of(verdict) for verdict in Counts._fields)


def take_note(submissions: Submissions, outcome: Outcome) -> None:
    """Count a request's events by verdict, and the faults of those that were rejected."""
    events = len(submissions)
    metrics.request_events.observe(events)
    counts = outcome.counts
    _accepted.value += counts.accepted
    if counts.accepted != events:
        for child, count in zip(_others, counts[1:], strict=True):
            child.value += count
        for refusal in submissions.refused.values():
            for fault in refusal.faults:
                metrics.FAULTS.of(fault.code).add()
    exchange = current.get()
    if exchange is not None:
        exchange.verdicts = counts
