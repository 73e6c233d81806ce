"""From an event to a run: one for the work to be done, however often and by however many trigger is told."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from functions.core import event_types
from functions.core.timestamps import parse_us

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2
    import redis

    from functions.core.settings import Settings
    from tests.trigger.conftest import Job, ServeTrigger, Trigger


def test_enough_events_start_a_run(trigger: Trigger, fill: Callable[[int], None], job: Job) -> None:
    """The reply says which, and what for; when the run has ended nothing is pending."""
    fill(100)
    reply = trigger.send(event_types.BACKLOG_REACHED)

    assert (202, "launch", "threshold_reached", True) == (
        reply.status_code,
        reply.json()["decision"],
        reply.json()["cause"],
        reply.json()["started"],
    )
    assert [reply.json()["run"]] == job.until_started(1)
    assert ["succeeded"] == [run["state"] for run in trigger.until_idle()["runs"]]


def test_the_same_event_again_starts_nothing(trigger: Trigger, fill: Callable[[int], None], job: Job) -> None:
    """Neither while the run is active nor afterwards; the repeat is a success."""
    job.hold()
    fill(100)
    first, second = trigger.send(), trigger.send()
    job.let_go()
    trigger.until_idle()
    third = trigger.send()

    assert [(202, "threshold_reached"), (200, "run_active"), (200, "nothing_pending")] == [
        (reply.status_code, reply.json()["cause"]) for reply in (first, second, third)
    ]
    assert 1 == len(job.started)


def test_two_triggers_at_once_start_one_run(serve_trigger: ServeTrigger, fill: Callable[[int], None], job: Job) -> None:
    """Two processes, told by eight senders at the same time, round after round."""
    with serve_trigger() as one, serve_trigger() as other, ThreadPoolExecutor(8) as pool:
        for round_number in range(1, 6):
            job.hold()
            fill(100)

            def tell(number: int) -> httpx2.Response:
                return (one, other)[number % 2].send(event_id=str(number))

            replies = list(pool.map(tell, range(16)))
            job.until_started(round_number)
            job.let_go()
            one.until_idle()

            assert 1 == sum(reply.json()["started"] for reply in replies)
            assert {200, 202} == {reply.status_code for reply in replies}
            assert round_number == len(job.started) == len(set(job.started))


def test_a_small_backlog_waits_until_it_is_old_enough(
    serve_trigger: ServeTrigger, fill: Callable[[int], None], job: Job
) -> None:
    """Below the threshold a ping starts nothing and says when to look again; once the oldest event is old, it does."""
    with serve_trigger(FLYERTIME_MAX_AGE_S="2") as trigger:
        fill(1)
        early = trigger.ping()
        late = trigger.until("oldest_event_too_old")
        trigger.until_idle()

    assert ("wait", "below_threshold") == (early["decision"], early["cause"])
    assert 0 < early["look_again_s"] <= 2
    assert 2 <= late["backlog"]["oldest_age_s"] < 4
    assert 1 == len(job.started)


def test_a_flush_folds_a_small_backlog_at_once(trigger: Trigger, fill: Callable[[int], None], job: Job) -> None:
    """Whoever asks."""
    fill(1)
    reply = trigger.send(event_types.FLUSH_REQUESTED)

    assert (202, "flush_requested") == (reply.status_code, reply.json()["cause"])
    trigger.until_idle()
    assert 1 == len(job.started)


def test_a_flush_while_a_run_is_active_is_honoured_when_it_ends(
    trigger: Trigger, fill: Callable[[int], None], job: Job
) -> None:
    """The wish is kept, and the end of the first run starts the second; nobody else tells trigger anything."""
    job.hold()
    fill(100)
    trigger.send()
    job.until_started(1)
    fill(1)
    during = trigger.send(event_types.FLUSH_REQUESTED)
    job.let_go()

    assert (200, "run_active") == (during.status_code, during.json()["cause"])
    assert 2 == len(set(job.until_started(2)))
    trigger.until_idle()


def test_what_came_after_the_flush_waits(trigger: Trigger, fill: Callable[[int], None], job: Job) -> None:
    """A flush is for what had been received, not for ever."""
    fill(1)
    trigger.send(event_types.FLUSH_REQUESTED)
    trigger.until_idle()
    fill(1)

    assert "below_threshold" == trigger.ping()["cause"]
    assert 1 == len(job.started)


def test_a_flush_delivered_again_flushes_nothing_more(trigger: Trigger, fill: Callable[[int], None], job: Job) -> None:
    """Ingest names the moment, which the store has already; a repeat leaves it as it is."""
    fill(1)
    trigger.send(event_types.FLUSH_REQUESTED)
    until_ms = parse_us(trigger.until_idle()["flush_requested_until"]) // 1000
    fill(1)

    again = trigger.send(event_types.FLUSH_REQUESTED, {"received_until_ms": until_ms})

    assert "below_threshold" == again.json()["cause"]
    assert 1 == len(job.started)


def test_a_failed_run_is_tried_again_after_a_pause(
    serve_trigger: ServeTrigger, fill: Callable[[int], None], job: Job
) -> None:
    """Under the next number; the pause says why, and when it is over."""
    job.fail("no memory")
    with serve_trigger(FLYERTIME_RETRY_PAUSE_S="1") as trigger:
        fill(100)
        first = trigger.send().json()["run"]
        paused = trigger.until("pause_after_failure")
        job.mend()
        second = trigger.until("threshold_reached")["run"]
        done = trigger.until_idle()

    assert f"{first[:-1]}2" == second
    assert [first, second] == job.started
    assert 0 < paused["look_again_s"] <= 1
    assert "no memory" in paused["explanation"]
    assert ["succeeded", "failed"] == [run["state"] for run in done["runs"]]


def test_used_up_attempts_are_said_loudly(serve_trigger: ServeTrigger, fill: Callable[[int], None], job: Job) -> None:
    """No run is started any more; log and explanation say why and what to do."""
    job.fail("no memory")
    with serve_trigger(FLYERTIME_RETRY_PAUSE_S="0", FLYERTIME_MAX_ATTEMPTS="2") as trigger:
        fill(100)
        trigger.send()
        used_up = trigger.until("attempts_used_up")
        errors = [line for line in trigger.log.read_text().splitlines() if '"severity":"ERROR"' in line]

    assert 2 == len(job.started)
    assert used_up["look_again_s"] is None
    assert all(part in used_up["explanation"] for part in ("all 2 attempts", "no memory", "deletes the failed runs"))
    assert any("all 2 attempts" in line for line in errors)


def test_deleting_the_failed_runs_lets_trigger_try_again(
    serve_trigger: ServeTrigger, fill: Callable[[int], None], job: Job, runs_dir: Path
) -> None:
    """That is what the explanation says to do when the cause is mended."""
    job.fail("no memory")
    with serve_trigger(FLYERTIME_RETRY_PAUSE_S="0", FLYERTIME_MAX_ATTEMPTS="1") as trigger:
        fill(100)
        name = trigger.send().json()["run"]
        trigger.until("attempts_used_up")
        job.mend()
        (runs_dir / name).rename(runs_dir.parent / "deleted")

        trigger.until_idle()

    assert [name, name] == job.started


def test_a_killed_supervisor_is_a_failed_run_that_is_tried_again(
    trigger: Trigger, fill: Callable[[int], None], job: Job, runs_dir: Path
) -> None:
    """Nobody tells trigger; the next ping sees it."""
    job.hold()
    fill(100)
    name = trigger.send().json()["run"]
    job.until_started(1)
    os.kill(int((runs_dir / name / "lock").read_text()), signal.SIGKILL)

    again = trigger.until("threshold_reached")
    job.let_go()
    done = trigger.until_idle()

    assert f"{name[:-1]}2" == again["run"]
    assert "the run's process has gone" in [run["message"] for run in done["runs"]]


def test_a_run_outlives_the_trigger_that_started_it(
    serve_trigger: ServeTrigger, fill: Callable[[int], None], job: Job
) -> None:
    """Trigger is killed and another one comes; the run is still the one that is active."""
    job.hold()
    fill(100)
    with serve_trigger() as first:
        name = first.send().json()["run"]
        job.until_started(1)
        first.process.kill()
        first.process.wait()
    with serve_trigger() as second:
        active = second.ping()
        job.let_go()
        second.until_idle()

    assert ("run_active", [name]) == (active["cause"], [run["name"] for run in active["runs"]])
    assert [name] == job.started


def test_a_store_that_was_emptied_starts_over(
    serve_trigger: ServeTrigger,
    fill: Callable[[int], None],
    job: Job,
    raw_redis: redis.Redis,
    settings: Settings,
) -> None:
    """Runs that are known from before are not taken for those of the new beginning, which looks the same."""
    for _ in range(2):
        with serve_trigger() as trigger:
            fill(100)
            trigger.send()
            trigger.until_idle()
        raw_redis.delete(*raw_redis.keys(f"{{{settings.namespace}*"))

    assert 2 == len(set(job.started))
    assert {"1"} == {name.rpartition("-")[2] for name in job.started}
