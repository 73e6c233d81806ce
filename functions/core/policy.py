"""When to start a Spark run: a pure function of the backlog, the policy, the known runs and the time.

The name of a run follows from the work to be done, so that of two triggers that see the same state one creates it and
the other finds that it exists. Where the runs were read before the backlog, no two runs are ever active at once: a
backlog that has moved on since another trigger looked means that a run was active in between, and the first of those
runs has the name that this trigger would give.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from functions.core.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.core.ledger import Backlog

MAX_NAME: Final = 45
"""Characters of a run's name. Spark's names for pods and services end in up to 18 more, and Kubernetes takes 63."""
MAX_ATTEMPTS: Final = 999
PREFIX_PATTERN: Final = r"[a-z]([-a-z0-9]{0,26}[a-z0-9])?"
"""What a run's name may begin with: with a digest of 12 and an attempt of 3 characters it is a DNS-1035 label."""

_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MOST_DOUBLINGS: Final = 32


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
    LOST = "log_and_books_differ"
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
    """In how many seconds time alone changes the answer; None where only an event, or a person, can change it."""


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
        backlog: All shards' pending events, read after the runs.
        policy: Thresholds and limits.
        runs: The runs that the launcher knows, of any state.
        now_ms: The time, in milliseconds since 1970 by the clock that stamps the log (Redis).
        flush_ms: Everything received up to this moment shall be folded at once; None where nobody asked.
        name_prefix: Where the run's name begins; see PREFIX_PATTERN.

    Raises:
        MisconfiguredError: The prefix makes no name that Kubernetes takes.
    """
    if (backlog.pending_events > 0) != (backlog.oldest_pending_ms is not None):
        return Wait(
            Cause.LOST,
            f"by the books {backlog.pending_events} events are pending, but the log "
            f"{'is empty' if backlog.oldest_pending_ms is None else 'holds some'}: keys of the store were lost or "
            "set back; no run can mend that",
        )
    if backlog.oldest_pending_ms is None:
        return Wait(Cause.EMPTY, "no event is pending")
    active = sorted((run for run in runs if run.state is RunState.ACTIVE), key=lambda run: run.name)
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
    earlier = [run for run in runs if run.digest == backlog.digest]
    attempt = 1 + max((run.attempt for run in earlier), default=0)
    if attempt > policy.max_attempts:
        return _exhausted(max(earlier, key=lambda run: (run.attempt, run.ended_ms or 0, run.name)), policy)
    if pause := _pause(backlog, policy, runs, now_ms, attempt):
        return pause
    return Launch(
        name=name_of(name_prefix, backlog.digest, attempt),
        digest=backlog.digest,
        attempt=attempt,
        pending_events=backlog.pending_events,
        cause=cause,
        explanation=why if attempt == 1 else f"{why}; attempt {attempt} of {policy.max_attempts}",
    )


def name_of(prefix: str, digest: str, attempt: int) -> str:
    """Return a run's name.

    Raises:
        MisconfiguredError: It is no DNS-1035 label of at most MAX_NAME characters.
    """
    name = f"{prefix}-{digest}-{attempt}"
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise MisconfiguredError(
            "bad_run_name",
            f"{name[:80]} cannot name a run: lower-case letters, digits and dashes, a letter first, at most "
            f"{MAX_NAME} characters; choose another FLYERTIME_RUN_NAME_PREFIX",
        )
    return name


def _exhausted(last: Run, policy: Policy) -> Wait:
    return Wait(
        Cause.EXHAUSTED,
        f"all {policy.max_attempts} attempts at this backlog are used up: {_trouble(last)}. Nothing is "
        "lost, and nothing is folded until somebody mends the cause and then deletes the failed runs or raises "
        "FLYERTIME_MAX_ATTEMPTS",
    )


def _pause(backlog: Backlog, policy: Policy, runs: Sequence[Run], now_ms: int, attempt: int) -> Wait | None:
    """Return the rest that failed runs ask for, if it is not over; none of the runs is active.

    Attempts count for one backlog: a run that fails after it has folded something is followed by a first attempt. The
    pause grows with all runs that have failed in a row, whatever their backlog: where one shard always fails, the
    others are still folded, but not without rest.
    """
    last, in_a_row = _failures(runs, backlog.digest)
    if last is None or last.ended_ms is None:
        return None
    pause_s = min(policy.retry_pause_s * 2 ** min(in_a_row - 1, _MOST_DOUBLINGS), policy.max_retry_pause_s)
    left_s = pause_s - max(0, now_ms - last.ended_ms) / 1000
    if left_s <= 0:
        return None
    return Wait(
        Cause.PAUSED,
        f"{_trouble(last)}; attempt {attempt} of {policy.max_attempts} follows in {left_s:.0f} s",
        look_again_s=left_s,
    )


def _failures(runs: Sequence[Run], digest: str) -> tuple[Run | None, int]:
    """Return the run that ended last where it failed, and how many have failed in a row.

    A run that succeeded and left the backlog as it was counts as failed: the store was set back, or is another one.
    """
    last = None
    in_a_row = 0
    for run in sorted(runs, key=lambda run: (run.ended_ms or 0, run.digest, run.attempt, run.name), reverse=True):
        if run.state is not RunState.FAILED and run.digest != digest:
            break
        last = last or run
        in_a_row += 1
    return last, in_a_row


def _trouble(run: Run) -> str:
    if run.state is RunState.FAILED:
        return f"run {run.name} failed ({run.message or 'no reason known'})"
    return f"run {run.name} succeeded but left the backlog as it was (was the store set back, or is it another?)"
