"""Sending one CloudEvent somewhere: a broker, a function, a sink that Knative has bound."""

from __future__ import annotations

import logging

from functions.adapters import cloud_events, exchange, tracing
from functions.core.errors import UnavailableError

logger = logging.getLogger(__name__)


async def deliver(
    url: str,
    event_type: str,
    source: str,
    data: object,
    *,
    event_id: str,
    timeout_s: float,
    traceparent: str | None = None,
) -> None:
    """Send a CloudEvent, in the trace of the request that is answered just now.

    Args:
        url: Where to.
        event_type: Its attribute ``type``.
        source: Its attribute ``source``.
        data: What becomes its JSON.
        event_id: Its attribute ``id``.
        timeout_s: Seconds to connect, to send and to be answered, each.
        traceparent: Whose trace it belongs to, where no request is being answered.

    Raises:
        UnavailableError: Nobody took it in time.
    """
    spans = tracing.current()
    if spans is None:
        caller = exchange.trace()
        traceparent = caller.traceparent if caller is not None else traceparent
        await _post(url, event_type, source, data, event_id, timeout_s, traceparent)
        return
    attributes = {
        "cloudevents.event_id": event_id,
        "cloudevents.event_source": source,
        "cloudevents.event_type": event_type,
        "cloudevents.event_spec_version": "1.0",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    with spans.child(f"send {event_type}", "PRODUCER", attributes) as span:
        await _post(url, event_type, source, data, event_id, timeout_s, span.trace_context().traceparent)


async def _post(
    url: str, event_type: str, source: str, data: object, event_id: str, timeout_s: float, traceparent: str | None
) -> None:
    import httpx2  # noqa: PLC0415  # 60 ms that a start from zero need not wait for

    headers, body = cloud_events.new_event(event_type, source, data, event_id=event_id, traceparent=traceparent)
    try:
        async with httpx2.AsyncClient(timeout=timeout_s, trust_env=False) as client:
            response = await client.post(url, headers=headers, content=body)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as e:
        raise UnavailableError("sink_unavailable", f"the event sink cannot be reached: {type(e).__name__}") from e
    if response.status_code >= 300:
        raise UnavailableError("sink_refused", f"the event sink answered {response.status_code}")
