"""Spans of the functions: what they say, where they are parents, and what they may cost at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from tests.collector import Collector

if TYPE_CHECKING:
    from functions.core.settings import Settings
    from tests.conftest import ServeFunction

ROOT = Path(__file__).parent.parent
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BEGUN = "1" * 32
DATA = {"timestamp": "2026-01-01T00:00:00Z", "user_id": "u", "event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}
BINARY = {"content-type": "application/json", "ce-specversion": "1.0", "ce-source": "/s", "ce-type": "t"}


def post(url: str, event_id: str, **headers: str) -> int:
    """Send an event and return the status."""
    sent = {**BINARY, "ce-id": event_id, **headers}
    return httpx2.post(url, content=json.dumps(DATA), headers=sent, timeout=10, trust_env=False).status_code


def test_a_request_is_a_span_below_its_caller(settings: Settings, serve_function: ServeFunction) -> None:
    """By header where there is one; else by the attribute of an event in binary mode; else it begins a trace."""
    began = f"00-{BEGUN}-{CALLER}-01"
    with Collector() as collector, serve_function("ingest", settings, **collector.environment) as ingest:
        assert 202 == post(ingest.url, "both", traceparent=f"00-{TRACE}-{CALLER}-01", **{"ce-traceparent": began})
        assert 202 == post(ingest.url, "event", **{"ce-traceparent": began})
        assert 202 == post(ingest.url, "neither", authorization="Bearer hunter2")
        httpx2.get(f"{ingest.url}/nowhere/secret-path", timeout=10, trust_env=False)
        ingest.stop()

    spans = {span.attributes["cloudevents.event_id"]: span for span in collector.named("flyertime-ingest", "POST /")}
    assert (TRACE, CALLER, [BEGUN]) == (spans["both"].trace_id, spans["both"].parent_id, spans["both"].links)
    assert (BEGUN, CALLER, []) == (spans["event"].trace_id, spans["event"].parent_id, spans["event"].links)
    assert "" == spans["neither"].parent_id
    assert "/" == spans["neither"].attributes["url.path"]
    assert 404 == collector.named("flyertime-ingest", "GET")[0].attributes["http.response.status_code"]
    assert "hunter2" not in str(collector.spans)
    assert "secret-path" not in str(collector.spans)


def test_a_failure_is_a_failed_span(settings: Settings, serve_function: ServeFunction) -> None:
    """The request's, with its status, and the trip's, with the code of what went wrong."""
    gone = "redis://127.0.0.1:1/0"
    with Collector() as collector:
        environment = {**collector.environment, "FLYERTIME_REDIS_URL": gone, "OTEL_SERVICE_NAME": "shop-report"}
        with serve_function("report", settings, **environment) as report:
            assert 503 == httpx2.get(report.url, timeout=10, trust_env=False).status_code
            report.stop()

    (request,) = collector.named("shop-report", "GET /")
    assert (True, "503") == (request.failed, request.attributes["error.type"])
    trips = [span for span in collector.spans if span.parent_id == request.span_id]
    assert ["store_unavailable"] == [span.attributes["error.type"] for span in trips if span.failed]


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    """Neither OpenTelemetry nor Prometheus costs a start from zero anything."""
    heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client", "requests")
    code = f"import sys, functions.asgi; print(sys.modules.keys() & {set(heavy)})"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "FUNCTION_TARGET": "report", "FLYERTIME_READ_AUTH": "off", "FLYERTIME_LOG_LEVEL": "ERROR"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "set()\n" == result.stdout


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(
    settings: Settings, serve_function: ServeFunction
) -> None:
    """Spans are sent beside the work, and the last ones are given up after a few seconds."""
    with (
        Collector(hangs=True) as collector,
        serve_function("ingest", settings, **collector.environment) as ingest,
    ):
        assert 202 == post(ingest.url, "1")
        time.sleep(0.3)  # the first export is under way and will not end
        started_s = time.monotonic()
        assert 202 == post(ingest.url, "2")
        assert time.monotonic() - started_s < 2
        ingest.stop()
        assert time.monotonic() - started_s < 8

    assert "did not take the last spans" in ingest.log.read_text()
