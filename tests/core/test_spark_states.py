"""What a SparkApplication's status says of a run."""

from __future__ import annotations

from typing import Any

import pytest

from functions.core.policy import Run, RunState
from functions.core.spark_states import one_line, run_of

CREATED = "2026-01-01T00:00:00Z"
CREATED_S = 1_767_225_600


def application(state: str | None, error: str | None = None, **status: Any) -> dict[str, Any]:
    """Return a SparkApplication in a state."""
    labels = {"flyertime/backlog": "0123456789ab", "flyertime/attempt": "2"}
    made: dict[str, Any] = {
        "metadata": {"name": "ft-0123456789ab-2", "namespace": "jobs", "creationTimestamp": CREATED, "labels": labels}
    }
    if state is not None:
        made["status"] = {"applicationState": {"state": state, "errorMessage": error}, **status}
    return made


def seen(made: dict[str, Any], after_s: float = 60) -> Run:
    """Return the run, some time after its creation."""
    return run_of(made, CREATED_S + after_s, 120)


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("COMPLETED", RunState.SUCCEEDED),
        ("FAILED", RunState.FAILED),
        *(
            (state, RunState.ACTIVE)
            for state in (
                *(None, "", "SUBMITTED", "RUNNING", "SUCCEEDING", "FAILING", "SUBMISSION_FAILED", "PENDING_RERUN"),
                *("INVALIDATING", "SUSPENDING", "SUSPENDED", "RESUMING", "UNKNOWN", "A_STATE_TO_COME"),
            )
        ),
    ],
)
def test_only_two_states_are_ends(state: str | None, meaning: RunState) -> None:
    """The operator goes on from every other one."""
    run = seen(application(state))

    assert (meaning, "ft-0123456789ab-2", "0123456789ab", 2) == (run.state, run.name, run.digest, run.attempt)
    assert (run.ended_ms is None) == (meaning is RunState.ACTIVE)


@pytest.mark.parametrize(
    ("status", "ended_s"),
    [
        ({"terminationTime": "2026-01-01T00:05:00Z", "lastSubmissionAttemptTime": CREATED}, 300),
        ({"terminationTime": None, "lastSubmissionAttemptTime": "2026-01-01T00:01:00Z"}, 60),
        ({}, 0),
        ({"terminationTime": "soon"}, 0),
    ],
)
def test_a_run_has_ended_when_its_status_says_so(status: dict[str, Any], ended_s: int) -> None:
    """Where it does not, when it was last submitted, or created, will do."""
    assert (CREATED_S + ended_s) * 1000 == seen(application("FAILED", **status)).ended_ms


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (application("FAILED", "driver container failed"), "driver container failed"),
        (application("FAILED"), "the operator gives no reason"),
        (
            application("FAILED", "oops", driverInfo={"podName": "ft-driver"}),
            "oops; its log: kubectl logs -n jobs ft-driver",
        ),
        (application("SUBMISSION_FAILED", "signal:\n killed"), "SUBMISSION_FAILED: signal: killed"),
        (application("RUNNING"), ""),
        (application("COMPLETED", "left over"), ""),
    ],
)
def test_the_message_says_why(made: dict[str, Any], message: str) -> None:
    """In the operator's words, on one line, with the way to the log."""
    assert message == seen(made).message


@pytest.mark.parametrize("state", [None, ""])
def test_a_run_that_no_operator_has_seen_is_told(state: str | None) -> None:
    """After a while, and it stays active: the operator may come yet."""
    early, late = seen(application(state), 119), seen(application(state), 121)

    assert "" == early.message
    assert "is the namespace jobs watched by the operator" in late.message
    assert [RunState.ACTIVE] * 2 == [early.state, late.state]


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"metadata": None, "status": None},
        {"metadata": {"labels": {"flyertime/attempt": "x"}}, "status": {"applicationState": "FAILED"}},
        {"metadata": [], "status": {"applicationState": {"state": 5}}},
    ],
)
def test_what_is_no_application_is_an_active_run(made: dict[str, Any]) -> None:
    """Nothing is started over something that is not understood."""
    assert (RunState.ACTIVE, 0) == (seen(made).state, seen(made).attempt)


def test_foreign_text_is_cut() -> None:
    """An explanation stays short whatever a pod has said."""
    assert ("a b", 400, "") == (one_line(" a\n\tb "), len(one_line("x" * 1000)), one_line(None))
