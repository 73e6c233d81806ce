"""Each function behind a broker: repeats are successes, poison is not tried again, trouble is, and all counts once."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http

from functions.adapters.redis_shard import ShardStore
from functions.core import event_types
from functions.core.settings import Settings
from functions.local.valkey import EmbeddedValkey
from tests.contract.knative_rules import deliver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import FunctionProcess, ServeFunction

MODES = pytest.mark.parametrize("encode", [to_binary, to_structured], ids=["binary", "structured"])
DATA = {
    "timestamp": "2026-03-02T08:00:00Z",
    "user_id": "u",
    "event": "flyer_open",
    "flyer_id": "f",
    "merchant_id": "m",
}


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server that the test may stop."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def store(own_valkey: EmbeddedValkey) -> Settings:
    """Settings for it."""
    return Settings(redis_url=own_valkey.url, shards=2)


@pytest.fixture
def ingest(serve_function: ServeFunction, store: Settings) -> Iterator[FunctionProcess]:
    """A running ingest with short patience."""
    with serve_function("ingest", store, FLYERTIME_REDIS_TIMEOUT_S="0.5") as process:
        yield process


@pytest.fixture
def trigger(serve_function: ServeFunction, store: Settings, tmp_path: Path) -> Iterator[FunctionProcess]:
    """A running trigger, whose runs would be on this machine; nothing is pending, so it starts none."""
    environment = {"FLYERTIME_LAUNCHER": "local", "FLYERTIME_LOCAL_RUNS_DIR": str(tmp_path / "runs")}
    with serve_function("trigger", store, FLYERTIME_REDIS_TIMEOUT_S="0.5", **environment) as process:
        yield process


def accepted(settings: Settings) -> int:
    """Return how many events the ledger says are accepted."""
    store = ShardStore(settings)
    try:
        return sum(store.ledger(shard).accepted for shard in range(store.shards()))
    finally:
        store.close()


def app_event(event_id: str, data: Any = DATA) -> CloudEvent:
    """Return an app event."""
    return CloudEvent({"type": event_types.APP_EVENT, "source": "/app", "id": event_id}, data)


@MODES
def test_an_event_and_its_redelivery_are_successes_and_count_once(
    ingest: FunctionProcess, store: Settings, encode: Any
) -> None:
    """A broker may deliver twice; neither delivery is tried again."""
    headers, body = encode(app_event("1"))

    assert [[204], [204]] == [deliver(ingest.url, headers, body).statuses for _ in range(2)]
    assert 1 == accepted(store)


@MODES
def test_poison_goes_to_the_dead_letters_at_once(ingest: FunctionProcess, store: Settings, encode: Any) -> None:
    """A bad event will not get better: one attempt, and the reason is in what the broker keeps."""
    headers, body = encode(app_event("1", {**DATA, "timestamp": "yesterday"}))
    delivery = deliver(ingest.url, headers, body)

    assert ([400], False) == (delivery.statuses, delivery.delivered)
    assert "bad_timestamp" in delivery.dead_letter_reason
    assert 0 == accepted(store)


@MODES
def test_a_store_that_comes_back_gets_the_event_once(
    ingest: FunctionProcess, store: Settings, own_valkey: EmbeddedValkey, encode: Any
) -> None:
    """503 while Redis is down, redelivered when it is up, counted once."""
    assert deliver(ingest.url, *encode(app_event("before"))).delivered
    own_valkey.stop()

    def revive(attempts: int) -> None:
        if attempts == 2:
            own_valkey.start()

    delivery = deliver(ingest.url, *encode(app_event("during")), between=revive)

    assert ([503, 503, 204], True) == (delivery.statuses, delivery.delivered)
    assert deliver(ingest.url, *encode(app_event("during"))).delivered
    assert 2 == accepted(store)


@MODES
@pytest.mark.parametrize(
    "event_type",
    [
        event_types.PING,
        event_types.BACKLOG_REACHED,
        event_types.FLUSH_REQUESTED,
        event_types.RUN_OBJECT_CHANGED[1],
        "x.y",
    ],
)
def test_trigger_takes_its_events_without_words(trigger: FunctionProcess, encode: Any, event_type: str) -> None:
    """Known types and others, once and again."""
    headers, body = encode(CloudEvent({"type": event_type, "source": "/s", "id": "1"}, {}))

    assert [[204], [204]] == [deliver(trigger.url, headers, body).statuses for _ in range(2)]


def test_trigger_asks_for_another_delivery_while_the_store_is_away(
    trigger: FunctionProcess, own_valkey: EmbeddedValkey
) -> None:
    """503, and later all is well."""
    event = to_structured(CloudEvent({"type": event_types.PING, "source": "/s", "id": "1"}, {}))
    assert deliver(trigger.url, *event).delivered
    own_valkey.stop()

    def revive(attempts: int) -> None:
        if attempts == 1:
            own_valkey.start()

    assert [503, 204] == deliver(trigger.url, *event, between=revive).statuses


@pytest.mark.parametrize("name", ["ingest", "trigger"])
def test_what_is_no_event_is_not_tried_again(name: str, request: pytest.FixtureRequest) -> None:
    """Whatever a broken sender puts behind a broker."""
    process: FunctionProcess = request.getfixturevalue(name)
    for headers, body in (
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents+json"}, json.dumps({"specversion": "0.3"}).encode()),
        ({"content-type": "text/plain"}, b"hello"),
    ):
        delivery = deliver(process.url, headers, body)
        assert 1 == len(delivery.statuses)
        assert not delivery.delivered


def test_report_answers_a_request_with_an_event_and_refuses_others(
    serve_function: ServeFunction, store: Settings
) -> None:
    """An event of another type is no trouble that another attempt would mend."""
    with serve_function("report", store) as report:
        request = CloudEvent({"type": event_types.REPORT_REQUESTED, "source": "/pipeline", "id": "7"}, {})
        for encode in (to_binary, to_structured):
            assert deliver(report.url, *encode(request)).delivered
        assert [400] == deliver(report.url, *to_structured(app_event("1"))).statuses


def test_a_run_s_end_is_answered_with_news_for_those_who_wait_for_the_report(trigger: FunctionProcess) -> None:
    """However often the run's object changes after its end, it is one event by its id; a run that goes on is none."""

    def told(state: str | None) -> httpx2.Response:
        run = {"metadata": {"name": "flyertime-1f-1"}, "status": {"applicationState": {"state": state}}}
        attributes = {"type": "dev.knative.apiserver.resource.update", "source": "/apiserver", "id": str(uuid.uuid4())}
        headers, body = to_structured(CloudEvent(attributes, run))
        return httpx2.post(
            trigger.url, headers={**headers, "prefer": "reply"}, content=body, timeout=30, trust_env=False
        )

    answers = [told("COMPLETED"), told("COMPLETED"), told("FAILED")]
    events = [from_http({**answer.headers}, answer.content) for answer in answers]

    assert [(200, event_types.REPORT_UPDATED)] * 3 == [
        (answer.status_code, event["type"]) for answer, event in zip(answers, events, strict=True)
    ]
    assert 1 == len({(event["source"], event["id"]) for event in events})
    assert ["succeeded", "succeeded", "failed"] == [event.data["state"] for event in events]
    assert {"run": "flyertime-1f-1", "pending_events": 0, "complete_through": None} == {
        name: value for name, value in events[0].data.items() if name != "state"
    }
    assert [(204, b"")] * 2 == [((a := told(state)).status_code, a.content) for state in ("RUNNING", "SUBMITTED")]


def test_the_news_wakes_nobody(trigger: FunctionProcess) -> None:
    """Should they come back to trigger, they end there."""
    news = CloudEvent({"type": event_types.REPORT_UPDATED, "source": "/t", "id": "r-updated"}, {"run": "r"})

    assert [204] == deliver(trigger.url, *to_structured(news)).statuses
