"""What became of each event, and what the sender is told. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.errors import Fault


class Verdict(StrEnum):
    """What became of an event."""

    ACCEPTED = "accepted"
    """It is in the log."""
    DUPLICATE = "duplicate"
    """It was in the log before; nothing to do."""
    REJECTED = "rejected"
    """It will never be taken as it is; the faults say why."""
    RETRY = "retry"
    """It could not be written; send it again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one event."""

    verdict: Verdict
    id: str | None = None
    faults: tuple[Fault, ...] = ()


def counts_of(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return the number of events by verdict, all four of them."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def status_of(outcomes: Sequence[Outcome]) -> int:
    """Return the status that asks the sender for the most that any event needs.

    503 where something must be sent again, which is safe for all of it; 400 where nothing at all was acceptable; else
    202.
    """
    counts = counts_of(outcomes)
    if counts["retry"]:
        return 503
    if counts["rejected"] and not counts["accepted"] and not counts["duplicate"]:
        return 400
    return 202


def body_of(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return the counts, and each event's verdict in the order sent."""
    events: list[dict[str, object]] = []
    for index, outcome in enumerate(outcomes):
        event: dict[str, object] = {"index": index, "id": outcome.id, "verdict": outcome.verdict.value}
        if outcome.faults:
            event["faults"] = [
                {"code": fault.code, "pointer": fault.pointer, "reason": fault.reason} for fault in outcome.faults
            ]
        events.append(event)
    return {**counts_of(outcomes), "events": events}
