"""When a run is started, and when not: a table for the rules, properties for the promises."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.errors import MisconfiguredError
from functions.core.ledger import Backlog, ShardLedger, backlog_of
from functions.core.policy import (
    MAX_ATTEMPTS,
    MAX_NAME,
    PREFIX_PATTERN,
    Cause,
    Launch,
    Policy,
    Run,
    RunState,
    Wait,
    decide,
    name_of,
)

NOW_MS = 1_700_000_000_000
DIGEST = "0123456789ab"
OTHER = "ba9876543210"
POLICY = Policy(threshold_events=100, max_age_s=300, max_attempts=3, retry_pause_s=30, max_retry_pause_s=100)


def backlog(events: int = 100, age_s: float = 1, digest: str = DIGEST) -> Backlog:
    """Return a backlog whose oldest event came some time ago."""
    return Backlog(events, NOW_MS - int(age_s * 1000), digest)


def run(
    attempt: int, state: RunState = RunState.FAILED, ago_s: float | None = 1000, digest: str = DIGEST, message: str = ""
) -> Run:
    """Return a run that ended some time ago, at an unknown time where that is None."""
    ended_ms = None if ago_s is None or state is RunState.ACTIVE else NOW_MS - int(ago_s * 1000)
    return Run(f"flyertime-{digest}-{attempt}", digest, attempt, state, ended_ms, message)


@pytest.mark.parametrize(
    ("pending", "flush_ago_s", "cause"),
    [
        pytest.param(backlog(100), None, Cause.THRESHOLD, id="as many as the threshold"),
        pytest.param(backlog(101), 0, Cause.THRESHOLD, id="more, and a flush"),
        pytest.param(backlog(1, age_s=300), None, Cause.AGE, id="as old as the limit"),
        pytest.param(backlog(1, age_s=9999), None, Cause.AGE, id="older"),
        pytest.param(backlog(1, age_s=5), 0, Cause.FLUSH, id="flush after the oldest event came"),
        pytest.param(backlog(1, age_s=5), 5, Cause.FLUSH, id="flush in the same millisecond"),
    ],
)
def test_a_run_is_started(pending: Backlog, flush_ago_s: float | None, cause: Cause) -> None:
    """Enough events, an old one, or a flush start the first attempt."""
    flush_ms = None if flush_ago_s is None else NOW_MS - int(flush_ago_s * 1000)

    decision = decide(pending, POLICY, [], NOW_MS, flush_ms=flush_ms)

    assert isinstance(decision, Launch)
    assert (cause, f"flyertime-{DIGEST}-1", DIGEST, 1, pending.pending_events) == (
        decision.cause,
        decision.name,
        decision.digest,
        decision.attempt,
        decision.pending_events,
    )


@pytest.mark.parametrize(
    ("pending", "flush_ago_s", "runs", "cause", "look_again_s"),
    [
        pytest.param(Backlog(0, None, DIGEST), None, [], Cause.EMPTY, None, id="nothing"),
        pytest.param(Backlog(0, None, DIGEST), 0, [], Cause.EMPTY, None, id="nothing, and a flush"),
        pytest.param(Backlog(7, None, DIGEST), None, [], Cause.LOST, None, id="the log was lost"),
        pytest.param(Backlog(0, NOW_MS, DIGEST), None, [], Cause.LOST, None, id="the books were lost"),
        pytest.param(backlog(99, age_s=299), None, [], Cause.BELOW, 1, id="too few and too young"),
        pytest.param(backlog(99, age_s=-50), None, [], Cause.BELOW, 300, id="received in the future"),
        pytest.param(backlog(1, age_s=4), 5, [], Cause.BELOW, 296, id="flushed before the oldest event came"),
        pytest.param(backlog(), 0, [run(1, RunState.ACTIVE)], Cause.RUNNING, None, id="active for this backlog"),
        pytest.param(backlog(), 0, [run(1, RunState.ACTIVE, digest=OTHER)], Cause.RUNNING, None, id="for another"),
        pytest.param(
            backlog(), 0, [run(3), run(1, RunState.ACTIVE, digest=OTHER)], Cause.RUNNING, None, id="active, used up"
        ),
        pytest.param(backlog(), 0, [run(1, ago_s=10)], Cause.PAUSED, 20, id="first pause"),
        pytest.param(
            backlog(), 0, [run(1, ago_s=90), run(2, ago_s=10)], Cause.PAUSED, 50, id="second is twice as long"
        ),
        pytest.param(
            backlog(), 0, [run(1), run(2, ago_s=20), run(1, ago_s=1, digest=OTHER)], Cause.PAUSED, 99, id="the longest"
        ),
        pytest.param(
            backlog(), 0, [run(1, ago_s=10, digest=OTHER)], Cause.PAUSED, 20, id="failed after it had folded something"
        ),
        pytest.param(
            backlog(), 0, [run(1, RunState.SUCCEEDED, ago_s=10)], Cause.PAUSED, 20, id="succeeded without any progress"
        ),
        pytest.param(backlog(), 0, [run(1, ago_s=-500)], Cause.PAUSED, 30, id="ended in the future"),
        pytest.param(backlog(), 0, [run(1), run(2), run(3)], Cause.EXHAUSTED, None, id="used up"),
        pytest.param(backlog(), 0, [run(3)], Cause.EXHAUSTED, None, id="used up, earlier ones forgotten"),
        pytest.param(
            backlog(),
            0,
            [run(3), run(1, RunState.SUCCEEDED, ago_s=5, digest=OTHER)],
            Cause.EXHAUSTED,
            None,
            id="used up, another succeeded since",
        ),
    ],
)
def test_no_run_is_started(
    pending: Backlog, flush_ago_s: float | None, runs: list[Run], cause: Cause, look_again_s: float | None
) -> None:
    """It says why, and in how many seconds time alone would change that."""
    flush_ms = None if flush_ago_s is None else NOW_MS - int(flush_ago_s * 1000)

    decision = decide(pending, POLICY, runs, NOW_MS, flush_ms=flush_ms)

    assert isinstance(decision, Wait)
    assert (cause, look_again_s) == (decision.cause, decision.look_again_s)


@pytest.mark.parametrize(
    ("runs", "attempt"),
    [
        pytest.param([run(1, ago_s=30)], 2, id="after the pause"),
        pytest.param([run(1, ago_s=None)], 2, id="nobody knows when it ended"),
        pytest.param([run(2), run(1)], 3, id="in whatever order"),
        pytest.param([run(2)], 3, id="the first one forgotten"),
        pytest.param([run(1, RunState.SUCCEEDED, ago_s=31)], 2, id="succeeded without any progress"),
        pytest.param([run(3, digest=OTHER)], 1, id="another backlog's attempts do not count"),
        pytest.param(
            [run(1, ago_s=40), run(1, RunState.SUCCEEDED, ago_s=1, digest=OTHER)], 2, id="another has succeeded since"
        ),
    ],
)
def test_a_failed_run_is_tried_again(runs: list[Run], attempt: int) -> None:
    """The next attempt has the next number, and the same digest."""
    decision = decide(backlog(), POLICY, runs, NOW_MS)

    assert isinstance(decision, Launch)
    assert (attempt, f"flyertime-{DIGEST}-{attempt}") == (decision.attempt, decision.name)


def test_who_gives_up_says_what_to_do() -> None:
    """The explanation has the last run, its reason, and the way out."""
    decision = decide(backlog(), POLICY, [run(1), run(2), run(3, message="no such image")], NOW_MS)

    assert all(
        part in decision.explanation
        for part in ("all 3 attempts", f"flyertime-{DIGEST}-3", "no such image", "delete", "FLYERTIME_MAX_ATTEMPTS")
    )


def test_what_an_active_run_hangs_on_is_told() -> None:
    """What the launcher says about an active run is in the explanation."""
    active = dataclasses.replace(run(1, RunState.ACTIVE), message="is the namespace watched?")

    assert "is the namespace watched?" in decide(backlog(), POLICY, [active], NOW_MS).explanation


def test_another_pipeline_has_other_names() -> None:
    """Two pipelines at their beginning, or one whose store was emptied, do not take each other's runs for theirs."""
    fresh = [ShardLedger(shard, accepted=100, oldest_pending_ms=1) for shard in range(4)]

    assert backlog_of(fresh, "a").digest != backlog_of(fresh, "b").digest
    assert backlog_of(fresh, "a").digest == backlog_of(fresh, "a").digest


@pytest.mark.parametrize("prefix", ["", "Flyertime", "1st", "a_b", "-a", "a.b", "a" * 44, "ü"])
def test_a_prefix_that_makes_no_name_is_refused(prefix: str) -> None:
    """The error says what a name may be."""
    with pytest.raises(MisconfiguredError, match="lower-case letters, digits and dashes"):
        name_of(prefix, DIGEST, 1)


moments = st.integers(min_value=NOW_MS - 10**9, max_value=NOW_MS + 10**6)
digests = st.sampled_from([DIGEST, OTHER, "f" * 12])
all_runs = st.lists(
    st.builds(
        Run,
        name=st.uuids().map(str),
        digest=digests,
        attempt=st.integers(1, 6),
        state=st.sampled_from(RunState),
        ended_ms=st.none() | moments,
        message=st.sampled_from(["", "boom"]),
    ),
    max_size=6,
)
ended_runs = all_runs.map(lambda runs: [run for run in runs if run.state is not RunState.ACTIVE])
durations = st.floats(0, 10_000)
policies = st.builds(
    Policy,
    threshold_events=st.integers(1, 1000),
    max_age_s=durations,
    max_attempts=st.integers(1, 6),
    retry_pause_s=durations,
    max_retry_pause_s=durations,
)
backlogs = st.builds(Backlog, st.integers(1, 2000), moments, digests)
flushes = st.none() | moments


@given(backlogs, policies, all_runs, flushes)
def test_nothing_is_started_while_a_run_is_active(
    pending: Backlog, policy: Policy, runs: list[Run], flush_ms: int | None
) -> None:
    """Whatever else holds, one run at a time."""
    active = Run("active", OTHER, 1, RunState.ACTIVE)

    decision = decide(pending, policy, [*runs, active], NOW_MS, flush_ms=flush_ms)

    assert Cause.RUNNING is decision.cause


@given(backlogs, policies, all_runs, flushes, st.randoms())
def test_the_same_state_gives_the_same_decision(
    pending: Backlog, policy: Policy, runs: list[Run], flush_ms: int | None, chance: object
) -> None:
    """In whatever order the launcher lists its runs, where their moments of ending differ."""
    distinct = list({(run.ended_ms, run.digest, run.attempt): run for run in runs}.values())
    shuffled = list(distinct)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random

    decisions = [decide(pending, policy, some, NOW_MS, flush_ms=flush_ms) for some in (distinct, shuffled)]

    assert decisions[0] == decisions[1]


@given(
    st.integers(1, 2000),
    st.integers(1, 2000),
    policies,
    ended_runs,
    st.integers(0, 10**6),
)
def test_two_that_launch_for_the_same_folds_launch_the_same_run(
    events: int, more_events: int, policy: Policy, runs: list[Run], later_ms: int
) -> None:
    """Events that came in between, and time that went by, do not change the name."""
    first = decide(Backlog(events, NOW_MS - 1, DIGEST), policy, runs, NOW_MS, flush_ms=NOW_MS)
    second = decide(Backlog(more_events, NOW_MS - 1, DIGEST), policy, runs, NOW_MS + later_ms, flush_ms=NOW_MS)

    if isinstance(first, Launch):
        assert isinstance(second, Launch)
        assert first.name == second.name


@given(backlogs, policies, ended_runs, flushes)
def test_a_new_run_has_a_name_of_its_own(
    pending: Backlog, policy: Policy, runs: list[Run], flush_ms: int | None
) -> None:
    """No name is used twice, so that what exists already is this very run."""
    runs = [dataclasses.replace(run, name=name_of("flyertime", run.digest, run.attempt)) for run in runs]

    decision = decide(pending, policy, runs, NOW_MS, flush_ms=flush_ms)

    if isinstance(decision, Launch):
        assert decision.name not in {run.name for run in runs}
        assert 1 <= decision.attempt <= policy.max_attempts


@given(backlogs, policies, ended_runs, flushes)
def test_time_alone_changes_the_answer_when_it_was_said_to(
    pending: Backlog, policy: Policy, runs: list[Run], flush_ms: int | None
) -> None:
    """Just before look_again_s the answer is the same, and then it is another."""
    now_ms = NOW_MS + 10**6  # no moment lies in the future, where time stands still until it comes
    decision = decide(pending, policy, runs, now_ms, flush_ms=flush_ms)

    if isinstance(decision, Wait) and decision.look_again_s is not None:
        then_ms = now_ms + math.ceil(decision.look_again_s * 1000)
        before, after = (
            decide(pending, policy, runs, moment_ms, flush_ms=flush_ms).cause
            for moment_ms in (max(now_ms, then_ms - 2), then_ms + 1)
        )
        assert before is decision.cause
        assert after is not decision.cause


@given(backlogs, policies, ended_runs)
def test_what_only_an_event_can_change_time_does_not(pending: Backlog, policy: Policy, runs: list[Run]) -> None:
    """Where no moment is named, the answer is the same for ever."""
    decision = decide(pending, policy, runs, NOW_MS)

    if isinstance(decision, Wait) and decision.look_again_s is None:
        assert decision == decide(pending, policy, runs, NOW_MS + 10**12)


@given(policies, st.integers(1, 40))
def test_pauses_grow_up_to_their_limit(policy: Policy, failures: int) -> None:
    """Each failure in a row doubles the pause, whatever the backlog was."""
    pauses_s = []
    for count in range(1, failures + 1):
        runs = [run(1, ago_s=count - i, digest=f"{i:012}") for i in range(count)]
        last_ms = max(run.ended_ms or 0 for run in runs)
        decision = decide(backlog(10**6), policy, runs, last_ms)
        pauses_s.append((decision.look_again_s or 0) if isinstance(decision, Wait) else 0)

    expected = [min(policy.retry_pause_s * 2**i, policy.max_retry_pause_s) for i in range(min(failures, 33))]
    assert expected == pytest.approx(pauses_s[:33], abs=1e-6)


@given(st.from_regex(PREFIX_PATTERN, fullmatch=True), st.integers(1, MAX_ATTEMPTS))
def test_every_name_is_a_dns_1035_label(prefix: str, attempt: int) -> None:
    """With any prefix that the settings take, Kubernetes takes the name, and Spark's longer ones."""
    name = name_of(prefix, DIGEST, attempt)

    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= MAX_NAME <= 45
