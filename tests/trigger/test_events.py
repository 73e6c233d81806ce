"""What each event asks for, and how it is answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.cloud_events import Received
from functions.adapters.redis_quarantine import Quarantine
from functions.core import event_types
from functions.core.errors import Fault, UnavailableError
from functions.core.quarantine import new_record, packed
from functions.core.shards import Keys
from functions.local.valkey import EmbeddedValkey
from functions.trigger.events import Wish, wish_of
from functions.trigger.handler import TriggerHandler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2
    import redis

    from functions.core.policy import Launch, Run
    from functions.core.settings import Settings
    from tests.trigger.conftest import Job, ServeTrigger, Trigger

UPDATE = "dev.knative.apiserver.resource.update"
BROKER = {"prefer": "reply"}


def application(state: str | None) -> dict[str, Any]:
    """Return a SparkApplication as an ApiServerSource shows it."""
    status = {} if state is None else {"status": {"applicationState": {"state": state}}}
    return {"kind": "SparkApplication", "metadata": {"name": "a"}, "spec": {}, **status}


@pytest.mark.parametrize(
    ("event_type", "data", "wish"),
    [
        (event_types.BACKLOG_REACHED, {"shard": 1}, Wish.LOOK),
        (event_types.PING, None, Wish.LOOK),
        (event_types.RUN_ENDED, {}, Wish.LOOK),
        (event_types.FLUSH_REQUESTED, None, Wish.FLUSH),
        (event_types.APP_EVENT, {"user_id": "u"}, Wish.NOTHING),
        ("com.example.other", None, Wish.NOTHING),
        ("dev.knative.apiserver.resource.add", application(None), Wish.NOTHING),
        (UPDATE, application(""), Wish.NOTHING),
        (UPDATE, application("SUBMITTED"), Wish.NOTHING),
        (UPDATE, application("RUNNING"), Wish.NOTHING),
        (UPDATE, application("SUBMISSION_FAILED"), Wish.NOTHING),
        (UPDATE, application("A_STATE_TO_COME"), Wish.NOTHING),
        (UPDATE, application("COMPLETED"), Wish.LOOK),
        (UPDATE, application("FAILED"), Wish.LOOK),
        (UPDATE, None, Wish.LOOK),
        ("dev.knative.apiserver.resource.delete", application("RUNNING"), Wish.LOOK),
        ("dev.knative.apiserver.ref.update", {"kind": "SparkApplication", "name": "a"}, Wish.LOOK),
        ("dev.knative.apiserver.ref.delete", {"kind": "SparkApplication", "name": "a"}, Wish.LOOK),
    ],
)
def test_an_event_asks_for(event_type: str, data: object, wish: Wish) -> None:
    """A run that goes on asks nothing; one that may have ended, or has gone, asks for a look."""
    assert wish is wish_of(Received("1", "/s", event_type, data, {}))


def test_a_run_that_goes_on_is_answered_without_a_look(trigger: Trigger, fill: Callable[[int], None], job: Job) -> None:
    """Chatty updates cost nothing: a backlog that is due is left to those who speak of it."""
    fill(100)
    chatty, unknown = trigger.send(UPDATE, application("RUNNING")), trigger.send("com.example.other")

    assert [(204, b"")] * 2 == [(reply.status_code, reply.content) for reply in (chatty, unknown)]
    assert [] == job.started
    assert 202 == trigger.send(UPDATE, application("COMPLETED")).status_code


def test_a_broker_gets_nothing_but_the_status(trigger: Trigger, fill: Callable[[int], None], job: Job) -> None:
    """A started run, a second look and an unknown event are each an empty 204: any text would be a failed delivery."""
    job.hold()
    fill(100)
    replies = [trigger.send(**BROKER), trigger.send(**BROKER), trigger.send("com.example.other", **BROKER)]
    job.until_started(1)
    job.let_go()

    assert [(204, b"")] * 3 == [(reply.status_code, reply.content) for reply in replies]
    trigger.until_idle()


def test_events_come_in_headers_too(trigger: Trigger, fill: Callable[[int], None]) -> None:
    """Knative sends binary mode."""
    fill(100)
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": event_types.PING}
    reply = trigger.client.post("/", headers=headers)

    assert (202, "launch") == (reply.status_code, reply.json()["decision"])


@pytest.mark.parametrize(
    ("headers", "body", "status", "reason"),
    [
        pytest.param({}, "hello", 400, "send a CloudEvent", id="no event"),
        pytest.param({"ce-specversion": "1.0", "ce-id": "1"}, "", 400, "/ce-type: a CloudEvent needs", id="no type"),
        pytest.param({"content-type": "application/cloudevents+json"}, "{", 400, "not JSON", id="broken"),
        pytest.param({"content-type": "text/csv"}, "a,b", 415, "send a CloudEvent", id="something else"),
    ],
)
def test_poison_is_refused_for_good(
    quiet_trigger: Trigger, headers: dict[str, str], body: str, status: int, reason: str
) -> None:
    """A status that no broker retries, and what would be right."""
    reply = quiet_trigger.client.post("/", content=body, headers={**headers, **BROKER})

    assert status == reply.status_code
    assert reason in reply.json()["detail"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(quiet_trigger: Trigger, method: str) -> None:
    """The refusal names those that would do."""
    reply = quiet_trigger.client.request(method, "/")

    assert (405, "GET, HEAD, POST") == (reply.status_code, reply.headers["allow"])


def test_other_paths_are_refused(quiet_trigger: Trigger) -> None:
    """The refusal says which there are."""
    reply = quiet_trigger.client.get("/elsewhere")

    assert (404, "no_such_path") == (reply.status_code, reply.json()["code"])


def contents(raw_redis: redis.Redis, namespace: str, runs_dir: Path) -> tuple[dict[Any, Any], list[Path]]:
    """Return everything that trigger could have changed."""
    keys = sorted(raw_redis.keys(f"{{{namespace}*"))
    return {key: raw_redis.dump(key) for key in keys}, sorted(runs_dir.rglob("*"))


def test_explaining_changes_nothing(
    trigger: Trigger, fill: Callable[[int], None], job: Job, raw_redis: redis.Redis, settings: Settings, runs_dir: Path
) -> None:
    """It says that a run is due and starts none, however often it is asked."""
    fill(100)
    before = contents(raw_redis, settings.namespace, runs_dir)
    explanations = [trigger.explain() for _ in range(3)]

    assert {"launch"} == {explanation["decision"] for explanation in explanations}
    assert 1 == len({explanation["run"] for explanation in explanations})
    assert not any(explanation["started"] for explanation in explanations)
    assert before == contents(raw_redis, settings.namespace, runs_dir)
    assert [] == job.started


def test_the_explanation_has_all_that_the_decision_was_made_from(
    trigger: Trigger, fill: Callable[[int], None], job: Job
) -> None:
    """Backlog, policy, runs, and the books of each shard for who asks for them."""
    fill(6)
    plain, with_shards = trigger.explain(), trigger.client.get("/?shards=true").json()

    assert ("wait", "below_threshold", None, False) == tuple(
        plain[name] for name in ("decision", "cause", "run", "started")
    )
    assert "6 of 100 events are pending, the oldest for" in plain["explanation"]
    assert 290 < plain["look_again_s"] <= 300
    assert 6 == plain["backlog"]["pending_events"]
    assert (100, 300.0, 5) == tuple(plain["policy"][name] for name in ("threshold_events", "max_age_s", "max_attempts"))
    assert [] == plain["runs"] == job.started
    assert "shards" not in plain
    assert [2, 2, 1, 1] == [shard["pending_events"] for shard in with_shards["shards"]]


def test_head_says_what_get_would(quiet_trigger: Trigger) -> None:
    """Without a body."""
    reply = quiet_trigger.client.head("/")

    assert (200, b"") == (reply.status_code, reply.content)


def test_a_store_that_is_away_is_a_503(serve_trigger: ServeTrigger, tmp_path: Path) -> None:
    """The broker is asked to deliver the event again, and then it counts."""
    with (
        EmbeddedValkey(tmp_path / "valkey") as valkey,
        serve_trigger(FLYERTIME_REDIS_URL=valkey.url, FLYERTIME_REDIS_TIMEOUT_S="0.3") as trigger,
    ):
        assert 200 == trigger.send().status_code
        os.kill(valkey.pid, signal.SIGSTOP)
        silent = trigger.send(**BROKER)
        os.kill(valkey.pid, signal.SIGCONT)
        valkey.kill()
        gone = trigger.send(**BROKER)

        valkey.start()
        deadline_s = time.monotonic() + 10
        while trigger.send().status_code != 200:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    assert [(503, "1")] * 2 == [(reply.status_code, reply.headers["retry-after"]) for reply in (silent, gone)]


def test_what_only_a_person_can_mend_is_not_sent_again(
    serve_trigger: ServeTrigger, fill: Callable[[int], None], tmp_path: Path
) -> None:
    """A status that no broker retries, the reason in full, and an error in the log."""
    (tmp_path / "file").touch()
    fill(100)
    with serve_trigger(FLYERTIME_LOCAL_RUNS_DIR=str(tmp_path / "file")) as trigger:
        reply = trigger.send(**BROKER)
        lines = [json.loads(line) for line in trigger.log.read_text().splitlines() if line.startswith("{")]

    assert (424, "bad_runs_dir") == (reply.status_code, reply.json()["code"])
    assert 424 not in {404, 408, 409, 429}  # what Knative retries below 500
    assert ["ERROR"] == [line["severity"] for line in lines if "FLYERTIME_LOCAL_RUNS_DIR" in line["message"]]


class SlowLauncher:
    """Knows no runs, takes its time to say so, and counts how often it is asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self._error = error

    async def runs(self) -> list[Run]:
        """Return no run, after a while."""
        self.asked += 1
        await asyncio.sleep(0.1)
        if self._error is not None:
            raise self._error
        return []

    async def launch(self, launch: Launch) -> bool:
        """Start nothing."""
        raise NotImplementedError(launch)

    async def close(self) -> None:
        """Do nothing."""


def test_events_that_wait_share_a_look(settings: Settings) -> None:
    """A burst costs two looks: the one under way, and one that begins after all of the burst has come."""

    async def burst(launcher: SlowLauncher) -> list[object]:
        handler = TriggerHandler(settings, launcher)
        await handler._store.ledgers()
        looks = await asyncio.gather(*(handler._act() for _ in range(20)), return_exceptions=True)
        await handler.close()
        return [*looks]

    answering, failing = SlowLauncher(), SlowLauncher(UnavailableError("gone", "the launcher is away"))

    assert 2 == len({id(look) for look in asyncio.run(burst(answering))})
    assert {"the launcher is away"} == {str(look) for look in asyncio.run(burst(failing))}
    assert [2, 2] == [answering.asked, failing.asked]


def test_a_reply_to_a_person_is_json(quiet_trigger: Trigger) -> None:
    """With the same explanation that GET has."""
    reply: httpx2.Response = quiet_trigger.send(event_types.PING)

    assert (200, "application/json") == (reply.status_code, reply.headers["content-type"])
    assert set(quiet_trigger.explain()) == set(reply.json())


def test_a_ping_lets_what_is_too_old_leave_the_quarantine(
    serve_trigger: ServeTrigger, settings: Settings, raw_redis: redis.Redis
) -> None:
    """However little is rejected meanwhile; where the quarantine cannot be read, the ping is answered all the same."""
    record = new_record((Fault("missing", "/event", "r"),), {"id": "1"}, event_id="1")

    async def keep() -> None:
        quarantine = Quarantine(settings)
        await quarantine.add([(record, packed(record))])
        await quarantine.close()

    asyncio.run(keep())
    key = Keys(settings.namespace).quarantine_parts[0]
    with serve_trigger(FLYERTIME_QUARANTINE_MAX_AGE_S="1") as trigger:
        deadline_s = time.monotonic() + 20
        while raw_redis.xlen(key):
            assert time.monotonic() < deadline_s
            assert "cause" in trigger.ping()
        raw_redis.delete(key)
        raw_redis.set(key, "no stream")
        assert "cause" in trigger.ping()
