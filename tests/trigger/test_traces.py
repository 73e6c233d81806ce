"""One trace from an app's request to the run that folds its events, as a collector receives it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx2

from tests.collector import CLIENT, PRODUCER, SERVER, Collector

if TYPE_CHECKING:
    from pathlib import Path

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction
    from tests.trigger.conftest import ServeTrigger

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHERS = ["1" * 32, "2" * 32]
DATA = {"timestamp": "2026-01-01T00:00:00Z", "user_id": "u", "event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}


def test_a_request_its_write_the_signal_and_the_run_are_one_trace(
    settings: Settings, serve_function: ServeFunction, serve_trigger: ServeTrigger, runs_dir: Path
) -> None:
    """Each span is within the one that caused it; the run is told the trace, and so is everybody who reads its log."""
    events = [
        {"specversion": "1.0", "id": str(n), "source": "/s", "type": "t", "data": DATA, **extra}
        for n, extra in enumerate([{"traceparent": f"00-{other}-{CALLER}-01"} for other in OTHERS] + [{}] * 98)
    ]
    headers = {"content-type": "application/cloudevents-batch+json", "traceparent": f"00-{TRACE}-{CALLER}-01"}
    started = runs_dir / ".standin" / "traceparents"
    with (
        Collector() as collector,
        serve_trigger(**collector.environment) as trigger,
        serve_function(
            "ingest", settings, K_SINK=trigger.url, FLYERTIME_THRESHOLD_EVENTS="100", **collector.environment
        ) as ingest,
    ):
        reply = httpx2.post(ingest.url, content=json.dumps(events), headers=headers, timeout=10, trust_env=False)
        assert 202 == reply.status_code
        deadline_s = time.monotonic() + 20
        while not started.exists() or not started.read_text():
            assert time.monotonic() < deadline_s, trigger.log.read_text()
            time.sleep(0.05)
        ingest.stop()
        trigger.stop()

    (request,) = collector.named("flyertime-ingest", "POST /")
    (write,) = collector.named("flyertime-ingest", "append")
    (signal,) = collector.named("flyertime-ingest", "send flyertime.backlog.reached")
    (look,) = [span for span in collector.named("flyertime-trigger", "POST /") if span.parent_id == signal.span_id]
    assert [SERVER, CLIENT, PRODUCER, SERVER] == [span.kind for span in (request, write, signal, look)]
    assert {TRACE} == {span.trace_id for span in (request, write, signal, look)}
    assert (CALLER, request.span_id, request.span_id) == (request.parent_id, write.parent_id, signal.parent_id)
    assert OTHERS == request.links
    assert ("send", "1.0") == tuple(
        signal.attributes[name] for name in ("messaging.operation.type", "cloudevents.event_spec_version")
    )
    assert {
        "http.request.method": "POST",
        "http.route": "/",
        "http.response.status_code": 202,
        "flyertime.events.accepted": 100,
    }.items() <= request.attributes.items()
    assert {"db.system.name": "redis", "db.operation.name": "append"}.items() <= write.attributes.items()
    assert f"00-{TRACE}-{look.span_id}-01" == started.read_text().splitlines()[0]
