"""What a SparkApplication's status says of a run (Kubeflow's Spark operator, ``sparkoperator.k8s.io/v1beta2``).

Only COMPLETED and FAILED are ends. Every other state is active, one that a later operator invents included: the
operator retries a submission that failed, and two active runs would be worse than a late one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functions.core.policy import Run, RunState
from functions.core.timestamps import parse_us

if TYPE_CHECKING:
    from collections.abc import Mapping

BACKLOG: Final = "flyertime/backlog"
"""Label: digest of the backlog that a run was started for."""
ATTEMPT: Final = "flyertime/attempt"
"""Label: number of the attempt at it."""

_MESSAGE_CHARACTERS: Final = 400


def state_name_of(application: Mapping[str, Any]) -> str:
    """Return ``status.applicationState.state``; empty before the operator has seen the application."""
    state = _object(_object(application.get("status")).get("applicationState")).get("state")
    return state if isinstance(state, str) else ""


def meaning_of(state_name: str) -> RunState:
    """Return whether a run in this state has succeeded, has failed, or is active."""
    if state_name == "COMPLETED":
        return RunState.SUCCEEDED
    if state_name == "FAILED":
        return RunState.FAILED
    return RunState.ACTIVE


def run_of(application: Mapping[str, Any], now_s: float, unseen_s: float) -> Run:
    """Return the run that a SparkApplication is.

    Args:
        application: As the API server has it.
        now_s: The time, in seconds since 1970.
        unseen_s: Seconds that an operator may take to give it a first state; then the message asks for the operator.
    """
    metadata, status = _object(application.get("metadata")), _object(application.get("status"))
    labels = _object(metadata.get("labels"))
    attempt = str(labels.get(ATTEMPT, ""))
    state = meaning_of(state_name_of(application))
    # A submission that failed for good has no moment of its end.
    moments = (status.get("terminationTime"), status.get("lastSubmissionAttemptTime"), _created(metadata))
    return Run(
        name=str(metadata.get("name")),
        digest=str(labels.get(BACKLOG, "")),
        attempt=int(attempt) if attempt.isdecimal() else 0,
        state=state,
        ended_ms=None if state is RunState.ACTIVE else _first_ms(*moments),
        message=_message(application, state, now_s, unseen_s),
    )


def one_line(text: object) -> str:
    """Return a foreign text as one line of bounded length; empty for what is no text."""
    return " ".join(text.split())[:_MESSAGE_CHARACTERS] if isinstance(text, str) else ""


def _message(application: Mapping[str, Any], state: RunState, now_s: float, unseen_s: float) -> str:
    """Say why a run failed, or what an active one may hang on."""
    metadata, status = _object(application.get("metadata")), _object(application.get("status"))
    namespace, name = metadata.get("namespace"), state_name_of(application)
    error = one_line(_object(status.get("applicationState")).get("errorMessage"))
    if state is RunState.SUCCEEDED:
        return ""
    if state is RunState.FAILED:
        pod = _object(status.get("driverInfo")).get("podName")
        log = f"; its log: kubectl logs -n {namespace} {pod}" if pod else ""
        return (error or "the operator gives no reason") + log
    if name:
        return f"{name}: {error}" if error else ""
    created_ms = _first_ms(_created(metadata))
    silent_s = now_s - created_ms / 1000 if created_ms is not None else 0
    if silent_s < unseen_s:
        return ""
    return (
        f"no operator has given it a state for {silent_s:.0f} s: does the operator run, and is the namespace "
        f"{namespace} watched by the operator (its value spark.jobNamespaces)?"
    )


def _created(metadata: Mapping[str, Any]) -> object:
    return metadata.get("creationTimestamp")


def _first_ms(*moments: object) -> int | None:
    """Return the first moment that there is, in milliseconds since 1970."""
    for moment in moments:
        if isinstance(moment, str):
            try:
                return parse_us(moment) // 1000
            except (ValueError, OverflowError):
                continue
    return None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
