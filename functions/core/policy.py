"""When to start a Spark run: a pure function of the backlog, the policy, the known runs and the time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.ledger import Backlog


class RunState(StrEnum):
    """What a launcher knows of a run. Whatever is neither succeeded nor failed is active."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One Spark run, as its launcher reports it."""

    name: str
    digest: str
    """Of the backlog that the run was started for."""
    attempt: int
    """Number of the attempt at this backlog; the first is 1."""
    state: RunState
    ended_ms: int | None = None
    """When it ended, in milliseconds since 1970; None while it is active or where the launcher does not know."""
    message: str = ""
    """Why it failed, or why it seems stuck, in the launcher's words."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When a backlog is worth a run."""

    threshold_events: int
    max_age_s: float
    """A backlog below the threshold is folded once its oldest event has waited this long."""
    max_attempts: int
    retry_pause_s: float
    """Pause after the first failed attempt; it doubles with each further one."""
    max_retry_pause_s: float


class Cause(StrEnum):
    """Why a run is started, or not; stable, for logs, metrics and the explanation."""

    THRESHOLD = "threshold_reached"
    AGE = "oldest_event_too_old"
    FLUSH = "flush_requested"
    EMPTY = "nothing_pending"
    BELOW = "below_threshold"
    RUNNING = "run_active"
    PAUSED = "pause_after_failure"
    EXHAUSTED = "attempts_used_up"


@dataclass(frozen=True, slots=True)
class Launch:
    """Start this run. Two triggers that see the same state give it the same name."""

    name: str
    digest: str
    attempt: int
    pending_events: int
    cause: Cause
    explanation: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Start nothing now."""

    cause: Cause
    explanation: str
    look_again_s: float | None = None
    """When the answer may change without a new event; None where only an event can change it."""


def decide(
    backlog: Backlog,
    policy: Policy,
    runs: Sequence[Run],
    now_ms: int,
    *,
    flush_ms: int | None = None,
    name_prefix: str = "flyertime",
) -> Launch | Wait:
    """Return the run to start, or why none is started.

    Args:
        backlog: All shards' pending events.
        policy: Thresholds and limits.
        runs: The runs that the launcher knows, of any state.
        now_ms: The time, in milliseconds since 1970 by the clock that stamps the log (Redis).
        flush_ms: Everything received up to this moment shall be folded at once; None where nobody asked.
        name_prefix: Where the run's name begins; lower-case, a letter first (it names a Kubernetes object).
    """
    if backlog.pending_events <= 0 or backlog.oldest_pending_ms is None:
        return Wait(Cause.EMPTY, "no event is pending")
    active = [run for run in runs if run.state is RunState.ACTIVE]
    if active:
        about = f": {active[0].message}" if active[0].message else ""
        return Wait(Cause.RUNNING, f"run {active[0].name} is active{about}")
    age_s = max(0.0, (now_ms - backlog.oldest_pending_ms) / 1000)
    if backlog.pending_events >= policy.threshold_events:
        cause = Cause.THRESHOLD
        why = f"{backlog.pending_events} events are pending, the threshold is {policy.threshold_events}"
    elif flush_ms is not None and backlog.oldest_pending_ms <= flush_ms:
        cause, why = Cause.FLUSH, f"a flush was requested, {backlog.pending_events} events are pending"
    elif age_s >= policy.max_age_s:
        cause, why = Cause.AGE, f"the oldest event has waited {age_s:.0f} s, the limit is {policy.max_age_s:g} s"
    else:
        return Wait(
            Cause.BELOW,
            f"{backlog.pending_events} of {policy.threshold_events} events are pending, "
            f"the oldest for {age_s:.0f} of {policy.max_age_s:g} s",
            look_again_s=policy.max_age_s - age_s,
        )
    return _attempt(backlog, policy, runs, now_ms, name_prefix, cause, why)


def _attempt(
    backlog: Backlog, policy: Policy, runs: Sequence[Run], now_ms: int, name_prefix: str, cause: Cause, why: str
) -> Launch | Wait:
    """Start the next attempt at this backlog, unless the failed ones ask for a pause or have used up the limit.

    A run that succeeded and left the backlog as it was counts as failed: the store was set back, or another store read.
    """
    earlier = sorted((run for run in runs if run.digest == backlog.digest), key=lambda run: run.attempt)
    attempt = 1
    if earlier:
        last = earlier[-1]
        attempt = last.attempt + 1
        if last.attempt >= policy.max_attempts:
            return Wait(
                Cause.EXHAUSTED,
                f"{last.attempt} runs for this backlog have failed, the last one {last.name}: "
                f"{last.message or 'no reason known'}. Mend the cause, then delete the failed runs or raise the limit",
            )
        pause_s = min(policy.retry_pause_s * 2 ** (last.attempt - 1), policy.max_retry_pause_s)
        ended_ms = last.ended_ms if last.ended_ms is not None else now_ms
        left_s = pause_s - (now_ms - ended_ms) / 1000
        if last.ended_ms is not None and left_s > 0:
            return Wait(
                Cause.PAUSED,
                f"run {last.name} failed ({last.message or 'no reason known'}); attempt {attempt} of "
                f"{policy.max_attempts} follows in {left_s:.0f} s",
                look_again_s=left_s,
            )
    return Launch(
        name=f"{name_prefix}-{backlog.digest}-{attempt}",
        digest=backlog.digest,
        attempt=attempt,
        pending_events=backlog.pending_events,
        cause=cause,
        explanation=why if attempt == 1 else f"{why}; attempt {attempt} of {policy.max_attempts}",
    )
