"""What each CloudEvent asks of trigger. Pure.

Unknown types are answered like known ones and ask nothing: where trigger shares a broker with the apps' events and a
filter is too wide, each of those would otherwise cost a look at the store and at the launcher. Nothing is lost by it,
since every sender that matters uses one of the types below and the ping looks anyway.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from functions.core import event_types
from functions.core.policy import RunState
from functions.core.spark_states import meaning_of, state_name_of

if TYPE_CHECKING:
    from functions.adapters.cloud_events import Received
    from functions.core.report_freshness import Freshness


class Wish(Enum):
    """What an event asks for."""

    NOTHING = auto()
    LOOK = auto()
    """See whether a run is due."""
    FLUSH = auto()
    """Fold what is there, whether or not a run would be due."""


def wish_of(event: Received) -> Wish:
    """Return what an event asks for.

    A SparkApplication that runs changes with every executor that comes or goes, and only its end can make a run due, or
    its removal.
    """
    if event.type == event_types.FLUSH_REQUESTED:
        return Wish.FLUSH
    if event.type in event_types.RUN_OBJECT_CHANGED:
        return Wish.LOOK if event.type.endswith(".delete") or _may_have_ended(event.data) else Wish.NOTHING
    if event.type in {event_types.BACKLOG_REACHED, event_types.PING, event_types.RUN_ENDED}:
        return Wish.LOOK
    return Wish.NOTHING


def flush_moment_ms(event: Received) -> int | None:
    """Return up to which moment a flush is asked for, where the event says so: ingest wrote it to the store before."""
    moment = event.data.get("received_until_ms") if isinstance(event.data, dict) else None
    return moment if isinstance(moment, int) else None


class EndedRun(NamedTuple):
    """A run that an event says has ended."""

    name: str
    state: RunState


def ended_run_of(event: Received) -> EndedRun | None:
    """Return the run that has ended, where an event says so and names it."""
    data = event.data
    if not isinstance(data, dict):
        return None
    if event.type == event_types.RUN_ENDED:
        name, state = data.get("run"), RunState.SUCCEEDED if data.get("state") == "succeeded" else RunState.FAILED
    elif event.type in event_types.RUN_OBJECT_CHANGED and isinstance(data.get("metadata"), dict):
        name, state = data["metadata"].get("name"), meaning_of(state_name_of(data))
    else:
        return None
    return EndedRun(name, state) if isinstance(name, str) and name and state is not RunState.ACTIVE else None


def updated_data(run: EndedRun, freshness: Freshness) -> dict[str, object]:
    """Return what those are told who wait for the report to change; a run that failed may have changed it too."""
    shown = freshness.shown()
    return {
        "run": run.name,
        "state": run.state.value,
        "complete_through": shown["complete_through"],
        "pending_events": shown["pending_events"],
    }


def _may_have_ended(data: object) -> bool:
    """Tell whether a run has ended, as far as its object can be seen; in Reference mode the event has only its name."""
    if not isinstance(data, dict) or "metadata" not in data:
        return True
    return meaning_of(state_name_of(data)) is not RunState.ACTIVE
