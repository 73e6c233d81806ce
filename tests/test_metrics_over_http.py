"""``GET /metrics`` of the three functions, over HTTP, read by Prometheus' own parser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from functions.core.settings import Settings

if TYPE_CHECKING:
    import redis

    from tests.conftest import MakeServer, ServeFunction

DATA = {"timestamp": "2026-01-01T00:00:00Z", "user_id": "u", "event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}
BATCH = {"content-type": "application/cloudevents-batch+json"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def event(event_id: str, **data: object) -> dict[str, object]:
    """Return a CloudEvent."""
    return {"specversion": "1.0", "id": event_id, "source": "/s", "type": "t", "data": {**DATA, **data}}


def scraped(url: str, **headers: str) -> Samples:
    """Return all samples by name and labels."""
    response = httpx2.get(f"{url}/metrics", headers=headers, timeout=10, trust_env=False)
    assert 200 == response.status_code, response.text
    read = parse_openmetrics if "openmetrics" in response.headers["content-type"] else parse_text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read(response.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return one sample."""
    return samples[name, frozenset(labels.items())]


def test_events_are_counted_by_verdict_fault_and_request(settings: Settings, serve_function: ServeFunction) -> None:
    """Two accepted, one of them sent twice, one rejected with two faults: what was answered is what is counted."""
    with serve_function("ingest", settings) as ingest:
        batch = json.dumps([event("1"), event("2"), event("1"), event("3", user_id=7, timestamp="soon")])
        reply = httpx2.post(ingest.url, content=batch, headers=BATCH, timeout=10, trust_env=False)
        assert 202 == reply.status_code
        assert 404 == httpx2.get(f"{ingest.url}/nowhere/7", timeout=10, trust_env=False).status_code
        assert 404 == httpx2.get(f"{ingest.url}/nowhere/8", timeout=10, trust_env=False).status_code

        samples = scraped(ingest.url)

    verdicts = {
        name: value(samples, "flyertime_events_total", verdict=name)
        for name in ("accepted", "duplicate", "rejected", "retry")
    }
    assert {"accepted": 2, "duplicate": 1, "rejected": 1, "retry": 0} == verdicts
    faults = {
        dict(labels)["code"]: n for (name, labels), n in samples.items() if name == "flyertime_event_faults_total"
    }
    assert 2 == sum(faults.values()), faults
    posted = {"http_request_method": "POST", "http_route": "/", "http_response_status_code": "202"}
    lost = {"http_request_method": "GET", "http_route": "other", "http_response_status_code": "404"}
    assert 1 == value(samples, "http_server_request_duration_seconds_count", **posted)
    assert 2 == value(samples, "http_server_request_duration_seconds_count", **lost)
    assert 0 < value(samples, "http_server_request_duration_seconds_sum", **posted) < 5
    assert 2 == value(samples, "flyertime_errors_total", code="no_such_path")
    assert len(batch) == value(samples, "http_server_request_body_size_bytes_sum")
    assert 4 == value(samples, "flyertime_request_events_sum")
    trips = {"db_system_name": "redis", "db_operation_name": "append"}
    assert 1 <= value(samples, "db_client_operation_duration_seconds_count", **trips) <= 2
    assert 0 == value(samples, "http_server_active_requests")
    assert ("process_resident_memory_bytes", frozenset[tuple[str, str]]()) in samples


@pytest.mark.parametrize("target", ["ingest", "trigger", "report"])
def test_every_function_tells_the_backlog_and_the_last_run(
    target: str, settings: Settings, serve_function: ServeFunction, raw_redis: redis.Redis
) -> None:
    """From the store at scrape time, so whichever function is awake will do; OpenMetrics where it is asked for."""
    with serve_function("ingest", settings) as ingest:
        httpx2.post(
            ingest.url, content=json.dumps([event("1"), event("2")]), headers=BATCH, timeout=10, trust_env=False
        )
    run: dict[Any, Any] = {
        "state": "failed",
        "started_at": "2026-01-01T00:00:00.000+00:00",
        "ended_at": "2026-01-01T00:00:02.500+00:00",
    }
    raw_redis.xadd(f"{{{settings.namespace}}}:runs", {**run, "run": "r", "events": "12"})
    raw_redis.xadd(f"{{{settings.namespace}}}:quarantine", {"e": "x"})

    with serve_function(target, settings, FLYERTIME_LAUNCHER="local", FLYERTIME_MAX_AGE_S="60") as function:
        httpx2.get(function.url, timeout=10, trust_env=False)
        samples = scraped(
            function.url, accept="application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        )

    assert {
        "flyertime_store_up": 1,
        "flyertime_pending_events": 2,
        "flyertime_quarantined_events": 1,
        "flyertime_last_run_succeeded": 0,
        "flyertime_last_run_duration_seconds": 2.5,
        "flyertime_last_run_events": 12,
        "flyertime_last_run_end_timestamp_seconds": 1767225602.5,
        "flyertime_policy_max_age_seconds": 60,
    }.items() <= {name: n for (name, labels), n in samples.items() if not labels}.items()
    status = "405" if target == "ingest" else "200"
    looked = {"http_request_method": "GET", "http_route": "/", "http_response_status_code": status}
    assert 1 == value(samples, "http_server_request_duration_seconds_count", **looked)
    trips = {"db_system_name": "redis", "db_operation_name": "ledgers"}
    assert 1 <= value(samples, "db_client_operation_duration_seconds_count", **trips)
    assert 0 <= value(samples, "flyertime_oldest_pending_event_age_seconds") < 60
    assert [2, 0, 0, 0] == [
        value(samples, "flyertime_booked_events_total", state=state)
        for state in ("accepted", "duplicate", "folded", "erased")
    ]


def test_a_store_that_is_away_does_not_fail_the_scrape(make_server: MakeServer, serve_function: ServeFunction) -> None:
    """Paused or gone: the scrape comes in time, says so, and has all that the process itself knows."""
    with make_server() as server, serve_function("ingest", Settings(redis_url=server.url)) as ingest:
        assert 1 == value(scraped(ingest.url), "flyertime_store_up")
        httpx2.post(ingest.url, content=json.dumps([event("1")]), headers=BATCH, timeout=10, trust_env=False)
        server.stop()
        httpx2.post(ingest.url, content=json.dumps([event("2")]), headers=BATCH, timeout=10, trust_env=False)
        deadline_s = time.monotonic() + 10
        while value(samples := scraped(ingest.url), "flyertime_store_up"):  # what it said is kept for a second
            assert time.monotonic() < deadline_s
            time.sleep(0.1)

    assert 0 == value(samples, "flyertime_store_up")
    assert not [name for name, _ in samples if name == "flyertime_pending_events"]
    assert 1 == value(samples, "flyertime_events_total", verdict="retry")
    assert 1 <= value(samples, "flyertime_store_errors_total", code="store_unavailable")


def test_what_comes_through_a_proxy_may_not_read_metrics(settings: Settings, serve_function: ServeFunction) -> None:
    """The route that is open to everybody leads through Knative's proxy, which marks what it passes on."""
    with serve_function("report", settings) as report:
        for header in ("x-forwarded-for", "forwarded", "via"):
            reply = httpx2.get(f"{report.url}/metrics", headers={header: "x"}, timeout=10, trust_env=False)
            assert (403, "metrics_not_public") == (reply.status_code, reply.json()["code"])
        reply = httpx2.post(f"{report.url}/metrics", timeout=10, trust_env=False)
        assert 405 == reply.status_code


@pytest.mark.parametrize(("setting", "status"), [("on", 200), ("off", 404)])
def test_a_setting_opens_or_closes_metrics(
    setting: str, status: int, settings: Settings, serve_function: ServeFunction
) -> None:
    """For who has a gateway of their own in front, and for who wants none at all."""
    with serve_function("report", settings, FLYERTIME_METRICS=setting) as report:
        reply = httpx2.get(f"{report.url}/metrics", headers={"x-forwarded-for": "x"}, timeout=10, trust_env=False)

    assert status == reply.status_code
    assert (setting == "off") == ("metrics_off" in reply.text)


def test_any_accept_header_is_answered(settings: Settings, serve_function: ServeFunction) -> None:
    """What cannot be read is answered with plain text."""
    with serve_function("report", settings) as report:
        for accept in ("", "*/*", "text/plain;version=abc", "application/openmetrics-text;version=x,,;="):
            assert 1 == value(scraped(report.url, accept=accept), "flyertime_store_up"), accept
