"""What the states of a SparkApplication mean (Kubeflow's Spark operator, ``sparkoperator.k8s.io/v1beta2``).

Only COMPLETED and FAILED are ends. Every other state is active, one that a later operator invents included: the
operator retries a submission that failed, and two active runs would be worse than a late one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.core.policy import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping


def state_name_of(application: Mapping[str, object]) -> str:
    """Return ``status.applicationState.state``; empty before the operator has seen the application."""
    found: object = application
    for field in ("status", "applicationState", "state"):
        found = found.get(field) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def meaning_of(state_name: str) -> RunState:
    """Return whether a run in this state has succeeded, has failed, or is active."""
    if state_name == "COMPLETED":
        return RunState.SUCCEEDED
    if state_name == "FAILED":
        return RunState.FAILED
    return RunState.ACTIVE
